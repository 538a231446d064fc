//! A scheduler that runs programs step by step, in every order with few preemptions, and with faults.
//!
//! A step is a call of a backend. A program waits before each of its steps until it is chosen; so one
//! program runs at a time, and the list of choices alone decides what happens. A run follows a list of
//! choices and goes on with the first option after its end; the next run changes the last choice that
//! has another option (depth first). The number of *preemptions*, of switches away from a program that
//! could go on, is bounded: bugs of concurrency need few of them, and the number of orders would be
//! exponential otherwise.

use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use lxd_image::{Error, ErrorKind, Result};

/// What happens to one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It fails, and nothing happened.
    Before,
    /// It happened, and the answer is lost.
    After,
    /// It happened, and the process was killed.
    Killed,
}

/// How much of the space of orders is explored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) preemptions: u32,
    pub(crate) faults: u32,
}

/// One choice of a run: which option was taken, and of how many.
#[derive(Debug, Clone, Copy)]
struct Choice {
    taken: usize,
    options: usize,
}

/// More steps than any program here takes: one that gets there does not end.
const MAX_STEPS: u64 = 2_000;
/// How long a program may take from one step to the next.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

thread_local! {
    /// Which program this thread runs; `None` for threads that are not scheduled.
    static PROGRAM: Cell<Option<usize>> = const { Cell::new(None) };
}

#[derive(Default)]
struct State {
    /// For each program: what it is about to do, if it waits for its turn.
    waiting: Vec<Option<Step>>,
    ended: Vec<bool>,
    killed: Vec<bool>,
    /// How many steps of each program went wrong.
    faults: Vec<u32>,
    started: bool,
    /// The program that made the last step.
    current: Option<usize>,
    turn: Option<(usize, Fault)>,
    choices: Vec<Choice>,
    next: usize,
    preemptions_left: u32,
    faults_left: u32,
    steps: u64,
    /// What was done in this run, for the message of a failure.
    log: Vec<String>,
    violation: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    name: &'static str,
    /// Whether it changes anything: only then a lost answer differs from a failure.
    writes: bool,
}

/// Chooses the order of the steps of one run.
pub(crate) struct Scheduler {
    state: Mutex<State>,
    changed: Condvar,
}

/// The error of a call whose process was killed.
fn killed() -> Error {
    Error::new(ErrorKind::Io, "the process was killed here")
}

fn transient(what: &str) -> Error {
    Error::new(ErrorKind::Transient, format!("an injected fault: {what}"))
}

impl Scheduler {
    fn new(programs: usize, bounds: Bounds, choices: Vec<Choice>) -> Self {
        let state = State {
            waiting: vec![None; programs],
            ended: vec![false; programs],
            killed: vec![false; programs],
            faults: vec![0; programs],
            choices,
            preemptions_left: bounds.preemptions,
            faults_left: bounds.faults,
            ..State::default()
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Makes a step of the program of this thread, when it is its turn. On other threads it is a plain call.
    pub(crate) fn step<T>(&self, name: &'static str, writes: bool, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(program) = PROGRAM.get() else { return work() };
        match self.await_turn(program, Step { name, writes }) {
            None => Err(killed()),
            Some(Fault::None) => work(),
            Some(Fault::Before) => Err(transient("nothing happened")),
            Some(Fault::After) => work().and(Err(transient("it happened, and the answer is lost"))),
            Some(Fault::Killed) => {
                let _ = work();
                self.lock().killed[program] = true;
                Err(killed())
            }
        }
    }

    /// Waits for the turn of a program, and tells what happens to its step; `None` if its process was killed.
    fn await_turn(&self, program: usize, step: Step) -> Option<Fault> {
        let mut state = self.lock();
        if state.killed[program] {
            return None;
        }
        state.waiting[program] = Some(step);
        if state.current == Some(program) || state.is_ready() {
            state.decide();
            self.changed.notify_all();
        }
        while state.turn.is_none_or(|(chosen, _)| chosen != program) {
            let (again, timeout) = self.changed.wait_timeout(state, STEP_TIMEOUT).unwrap();
            state = again;
            assert!(!timeout.timed_out(), "no program goes on: {:?}", state.log);
        }
        let (_, fault) = state.turn.take()?;
        state.waiting[program] = None;
        state.current = Some(program);
        state.steps += 1;
        assert!(state.steps < MAX_STEPS, "the programs do not end: {:?}", state.log);
        state.faults[program] += u32::from(fault != Fault::None);
        let how = if fault == Fault::None { String::new() } else { format!(" {fault:?}") };
        state.log.push(format!("{program} {}{how}", step.name));
        Some(fault)
    }

    fn end(&self, program: usize) {
        let mut state = self.lock();
        state.ended[program] = true;
        if (state.current == Some(program) || state.is_ready()) && state.ended.contains(&false) {
            state.decide();
        }
        self.changed.notify_all();
    }

    /// The number of steps that were made so far: the time of this run.
    pub(crate) fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// Whether the process of this thread's program was killed.
    pub(crate) fn was_killed(&self) -> bool {
        PROGRAM.get().is_some_and(|program| self.lock().killed[program])
    }

    /// Whether a step of this thread's program went wrong.
    pub(crate) fn had_fault(&self) -> bool {
        PROGRAM.get().is_some_and(|program| self.lock().faults[program] > 0)
    }

    /// Notes that a promise is broken; the first one counts.
    pub(crate) fn violated(&self, what: &str) {
        let mut state = self.lock();
        let at = state.steps;
        state.violation.get_or_insert_with(|| format!("after {at} steps: {what}"));
    }

    /// Runs the programs to their ends.
    fn run(self: &Arc<Self>, programs: Vec<Box<dyn FnOnce() + Send + '_>>) {
        std::thread::scope(|threads| {
            for (number, program) in programs.into_iter().enumerate() {
                threads.spawn(move || {
                    PROGRAM.set(Some(number));
                    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(program));
                    if let Err(panic) = ended {
                        let text = panic.downcast_ref::<String>().cloned();
                        self.violated(&format!("program {number} panicked: {}", text.unwrap_or_default()));
                    }
                    self.end(number);
                });
            }
        });
    }
}

impl State {
    /// Whether every program has come to its first step: then the first choice is due.
    fn is_ready(&mut self) -> bool {
        let is_first =
            !self.started && self.waiting.iter().zip(&self.ended).all(|(step, ended)| step.is_some() || *ended);
        self.started |= is_first;
        is_first
    }

    /// Chooses who makes the next step, and what happens to it.
    fn decide(&mut self) {
        let goes_on = self.current.filter(|current| self.waiting[*current].is_some());
        let others = (0..self.waiting.len()).filter(|other| self.waiting[*other].is_some() && Some(*other) != goes_on);
        let may_switch = goes_on.is_none() || self.preemptions_left > 0;
        let runnable: Vec<usize> = goes_on.into_iter().chain(others.filter(|_| may_switch)).collect();
        let mut options: Vec<(usize, Fault)> = runnable.iter().map(|program| (*program, Fault::None)).collect();
        if self.faults_left > 0 {
            for program in runnable {
                options.push((program, Fault::Before));
                if self.waiting[program].is_some_and(|step| step.writes) {
                    options.extend([(program, Fault::After), (program, Fault::Killed)]);
                }
            }
        }
        if self.next == self.choices.len() {
            self.choices.push(Choice { taken: 0, options: 0 });
        }
        // Keys are random, so that now and then a replay has other options than the run before.
        let choice = &mut self.choices[self.next];
        choice.options = options.len();
        choice.taken = choice.taken.min(options.len() - 1);
        let (program, fault) = options[choice.taken];
        self.next += 1;
        self.preemptions_left -= u32::from(goes_on.is_some_and(|current| current != program));
        self.faults_left -= u32::from(fault != Fault::None);
        self.turn = Some((program, fault));
    }
}

/// What an exploration did.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Explored {
    orders: u64,
    steps: u64,
    faults: u64,
}

impl Explored {
    pub(crate) fn add(&mut self, other: Self) {
        self.orders += other.orders;
        self.steps += other.steps;
        self.faults += other.faults;
    }
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} orders, {} steps, {} faults", self.orders, self.steps, self.faults)
    }
}

/// Runs `prepare` once for each order within the bounds: it returns the programs, and what is checked when they
/// have ended. Panics with the steps of the first order that breaks a promise.
pub(crate) fn explore<'a, P, C>(programs: usize, bounds: Bounds, prepare: P) -> Explored
where
    P: Fn(&Arc<Scheduler>) -> (Vec<Box<dyn FnOnce() + Send + 'a>>, C),
    C: FnOnce() -> std::result::Result<(), String>,
{
    let mut explored = Explored::default();
    let mut choices = Vec::new();
    loop {
        let scheduler = Arc::new(Scheduler::new(programs, bounds, choices));
        let (run, check) = prepare(&scheduler);
        scheduler.run(run);
        let checked = check();
        let state = scheduler.lock();
        let violation = state.violation.clone().or(checked.err());
        assert!(violation.is_none(), "order {}: {}\n{}", explored.orders, violation.unwrap(), state.log.join("\n"));
        explored.orders += 1;
        explored.steps += state.steps;
        explored.faults += u64::from(state.faults.iter().sum::<u32>());
        choices = state.choices[..state.next].to_vec();
        drop(state);
        while choices.last().is_some_and(|last| last.taken + 1 == last.options) {
            choices.pop();
        }
        match choices.last_mut() {
            Some(last) => last.taken += 1,
            None => return explored,
        }
    }
}

/// A program of two steps. Each calls `work` with `false` when it happens, and with `true` when it is reported as done.
fn steps(scheduler: &Arc<Scheduler>, mut work: impl FnMut(bool) + Send + 'static) -> Box<dyn FnOnce() + Send> {
    let scheduler = Arc::clone(scheduler);
    Box::new(move || {
        for _ in 0..2 {
            let mut happened = || {
                work(false);
                Ok(())
            };
            if scheduler.step("write", true, &mut happened).is_ok() {
                work(true);
            }
        }
    })
}

#[test]
fn every_order_of_two_programs_of_two_steps_is_run_once() {
    let seen = Mutex::new(Vec::new());
    let explored = explore(2, Bounds { preemptions: 9, faults: 0 }, |scheduler| {
        let order = Arc::new(Mutex::new(String::new()));
        let program = |name: char| {
            let order = Arc::clone(&order);
            steps(scheduler, move |reported| {
                if !reported {
                    order.lock().unwrap().push(name);
                }
            })
        };
        let programs = vec![program('a'), program('b')];
        let seen = &seen;
        let check = move || {
            seen.lock().unwrap().push(order.lock().unwrap().clone());
            Ok(())
        };
        (programs, check)
    });
    let mut seen = seen.into_inner().unwrap();
    seen.sort();
    assert_eq!((explored.orders, &*seen.join(" ")), (6, "aabb abab abba baab baba bbaa"));
}

#[test]
fn every_fault_of_a_step_is_run_once() {
    let seen = Mutex::new(Vec::new());
    let explored = explore(1, Bounds { preemptions: 0, faults: 1 }, |scheduler| {
        // How many steps happened, and how many were reported as done.
        let counts = Arc::new(Mutex::new((0, 0)));
        let counted = Arc::clone(&counts);
        let program = steps(scheduler, move |reported| {
            let mut counts = counted.lock().unwrap();
            *(if reported { &mut counts.1 } else { &mut counts.0 }) += 1;
        });
        let seen = &seen;
        let check = move || {
            seen.lock().unwrap().push(*counts.lock().unwrap());
            Ok(())
        };
        (vec![program], check)
    });
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    // Killed at the first step, nothing at one of the two, a lost answer or a kill at the second, no fault.
    assert_eq!(seen, [(1, 0), (1, 1), (1, 1), (2, 1), (2, 1), (2, 1), (2, 2)]);
    assert_eq!((explored.orders, explored.faults), (7, 6));
}
