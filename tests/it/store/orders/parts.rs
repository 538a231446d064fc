//! Uploads in parts, in all orders: what a server acknowledged of an upload stays until it is finished or
//! its time is over, whoever else appends to it, and whatever sweeps.

use lxd_image::server::{Handler, Response, ServerOptions};

use super::*;
use crate::server::{body, object, request, trusted, with};

/// A name as a client chooses one.
const NAME: &str = "00000000000000000000000000000000000000000000000000000000000000aa";
const LIFETIME: i64 = 3 * DAY + 1;

/// What a client does.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// Sends the whole upload in parts of so many bytes, from where the server says that it is.
    Send(usize),
    /// Makes an image of it.
    Finish,
    /// Gives up.
    Remove,
    Pass(i64),
    Sweep,
}

fn path() -> String {
    format!("/1.0/images/uploads/{NAME}")
}

fn offset(response: &Response) -> Option<usize> {
    response.header("upload-offset")?.parse().ok()
}

fn send(handler: &Handler, whole: &[u8], start: usize, end: usize) -> Response {
    let range = format!("bytes {start}-{}/{}", end - 1, whole.len());
    handler.handle(body(with(trusted(request("PATCH", &path())), "content-range", &range), &whole[start..end]))
}

/// Sends all bytes, and returns the last offset that was acknowledged.
fn send_all(handler: &Handler, whole: &[u8], bytes: usize) -> usize {
    let (mut start, mut kept) = (0, 0);
    // Each part can be sent again a few times: by an answer that was lost, or where another client was faster.
    for _ in 0..10 {
        let end = (start + bytes).min(whole.len());
        let response = send(handler, whole, start, end);
        match (response.status.as_u16(), offset(&response)) {
            (200, _) => (start, kept) = (end, kept.max(end)),
            (409, Some(here)) => start = here,
            _ => return kept,
        }
        if start == whole.len() {
            return kept;
        }
    }
    kept
}

/// Imports the parts, and waits for that. It runs in a thread that is not scheduled: as one step, with what comes before.
fn finish(handler: &Handler) -> u16 {
    let request = with(trusted(request("POST", "/1.0/images")), "content-type", "application/octet-stream");
    let request = with(request, "X-LXD-fingerprint", &fingerprint("a").to_string());
    let response = handler.handle(with(request, "X-LXD-parts", NAME));
    let status = response.status.as_u16();
    let Some(operation) = response.header("location").map(str::to_owned) else { return status };
    let path = format!("{operation}/wait");
    let done = object(handler.handle(trusted(crate::server::request("GET", &path))));
    if done["status_code"] == 200 { status } else { 400 }
}

/// Runs all orders of clients, each with a server of its own, then sees whether what they were told is true.
fn all_orders(name: &str, programs: &[&[Part]]) {
    let whole = unified("a");
    let ends = programs
        .iter()
        .any(|program| program.iter().any(|part| matches!(part, Part::Finish | Part::Remove | Part::Pass(LIFETIME..))));
    let mut sum = Explored::default();
    for bounds in bounds(2) {
        let explored = explore(programs.len(), bounds, |scheduler| {
            let world = World::new(scheduler, GRACE);
            let kept = Arc::new(Mutex::new((0, false)));
            let runs = programs.iter().map(|program| {
                let handler = Handler::new(world.machine(), ServerOptions::new());
                let (world, program, whole, kept) = (world.clone(), program.to_vec(), whole.clone(), Arc::clone(&kept));
                let run = move || {
                    for part in program {
                        match part {
                            _ if world.scheduler.was_killed() => return,
                            Part::Send(bytes) => {
                                let sent = send_all(&handler, &whole, bytes);
                                let mut kept = kept.lock().unwrap();
                                kept.0 = kept.0.max(sent);
                            }
                            Part::Finish => {
                                let status = finish(&handler);
                                kept.lock().unwrap().1 |= status == 202;
                            }
                            Part::Remove => _ = handler.handle(trusted(request("DELETE", &path()))),
                            Part::Pass(seconds) => _ = world.clock.fetch_add(seconds, Ordering::Relaxed),
                            Part::Sweep => drop(world.machine()),
                        }
                    }
                };
                Box::new(run) as Box<dyn FnOnce() + Send>
            });
            let runs = runs.collect();
            let whole = &whole;
            let check = move || {
                let (kept, finished) = *kept.lock().unwrap();
                if finished && !world.model().images.contains_key("a") {
                    return Err("the upload was finished, and the image is not there".to_owned());
                }
                if !ends {
                    let handler = Handler::new(world.machine(), ServerOptions::new());
                    let there = offset(&handler.handle(trusted(request("HEAD", &path())))).unwrap_or(0);
                    if there < kept {
                        return Err(format!("{kept} bytes were acknowledged, and {there} are there"));
                    }
                    let (sent, status) = (send_all_from(&handler, whole, there), finish(&handler));
                    if !sent || status != 202 || !world.model().images.contains_key("a") {
                        return Err(format!("the upload can't be finished from {there}: {status}"));
                    }
                }
                world.settled(false)
            };
            (runs, check)
        });
        sum.add(explored);
    }
    println!("{name}: {sum}");
}

/// Sends what is missing, in one part. Whether it was taken.
fn send_all_from(handler: &Handler, whole: &[u8], start: usize) -> bool {
    start == whole.len() || send(handler, whole, start, whole.len()).status.as_u16() == 200
}

#[test]
fn two_senders_of_one_upload_lose_no_acknowledged_byte() {
    all_orders("two senders of parts", &[&[Part::Send(2_000)], &[Part::Send(3_000)]]);
}

#[test]
fn finished_upload_is_an_image_whatever_sweeps() {
    all_orders("parts and sweep", &[&[Part::Send(2_500), Part::Finish], &[Part::Pass(LIFETIME), Part::Sweep]]);
}

#[test]
fn sender_and_one_that_gives_up_leave_nothing() {
    all_orders("sender and removal of parts", &[&[Part::Send(2_500)], &[Part::Remove]]);
}

#[test]
fn two_that_finish_one_upload_make_one_image() {
    all_orders("two that finish parts", &[&[Part::Send(4_000), Part::Finish], &[Part::Finish]]);
}
