//! What a server of an upstream removes by itself: what it brought and nobody used for long.
//! A server without one leaves the store as it is.

use std::time::Instant;

use super::super::pulling::Elsewhere;
use super::*;
use crate::store::{Clock, DAY, NOW};
use lxd_image::Monitor;

/// Runs a server until `done`, which is looked at again and again.
fn serve(store: &Store, options: ServerOptions, done: impl Fn() -> bool) {
    let mut listener = Listener::new(Arc::new(Handler::new(store.clone(), options)), ListenerOptions::new()).unwrap();
    listener.listen_plain(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
    let stop = Cancel::new();
    let switch = stop.clone();
    let thread = std::thread::spawn(move || listener.run(&switch));
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "it never happened");
        std::thread::sleep(Duration::from_millis(10));
    }
    stop.cancel();
    thread.join().unwrap().unwrap();
}

#[test]
fn unused_cached_image_is_evicted_when_the_server_starts() {
    let scratch = Scratch::new();
    let clock = Clock::new();
    let store = clock.options().open(scratch.join("store")).unwrap();
    let import = |tag: &str, cached| {
        store.import(stream(unified(tag)), &ImportOptions::new().cached(cached), &Monitor::none()).unwrap().fingerprint
    };
    let (mine, cached) = (import("mine", false), import("cached", true));
    clock.set(NOW + 11 * DAY);
    let names = || store.images().unwrap().into_iter().map(|image| image.fingerprint).collect::<Vec<_>>();
    let began = Instant::now();
    serve(&store, ServerOptions::new(), || began.elapsed() > Duration::from_millis(300));
    assert!(names().contains(&cached), "this one has no upstream");
    serve(&store, ServerOptions::new().image_transfer(Elsewhere::with(&[])), || !names().contains(&cached));
    assert_eq!(names(), [mine]);
}
