//! Calls of the C interface in any order with any arguments, NULL and freed handles among them: none panics, what must be
//! refused is, results of what failed are empty, streams are let go of once, and nothing outside of one directory changes.
#![no_main]

mod arguments;
mod caller;
mod images;
mod kinds;
mod metadata;
mod stores;
mod streams;
mod texts;

use std::cell::RefCell;

use caller::Caller;
use libfuzzer_sys::fuzz_target;
use lxd_image_fuzz::Arena;

/// More calls than a run of every call once.
const MOST_CALLS: usize = 160;

thread_local! {
    static ARENA: RefCell<Arena> = RefCell::new(Arena::new());
}

// The first byte says how many calls there are, then come their numbers; another byte, and as many bytes that choose the
// arguments, with 0, or nothing, for the usual one; the rest is what images, templates and the like are made of.
fuzz_target!(|data: &[u8]| {
    let Some((&count, data)) = data.split_first() else { return };
    let (calls, data) = data.split_at(data.len().min(usize::from(count).min(MOST_CALLS)));
    let Some((&count, data)) = data.split_first() else { return };
    let (choices, material) = data.split_at(data.len().min(usize::from(count)));
    ARENA.with_borrow(|arena| {
        let mut caller = Caller::new(choices, material, &arena.destination());
        let all = [metadata::CALLS, texts::CALLS, images::CALLS, stores::CALLS];
        let number: usize = all.iter().map(|calls| calls.len()).sum();
        for &call in calls {
            let call = all.iter().copied().flatten().nth(usize::from(call) % number);
            call.expect("a number below theirs")(&mut caller);
            caller.forget();
        }
        caller.finish();
        arena.check();
        arena.clean();
    });
});
