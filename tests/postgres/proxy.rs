//! A proxy between a client and a server that breaks connections at commits.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection breaks before the server gets it.
    Before,
    /// The server gets it, and the client's connection breaks at once.
    During,
    /// The server gets it and answers, and the answer is lost.
    After,
}

/// The faults of the commits to come, and how many there were.
#[derive(Default)]
pub(crate) struct Plan {
    faults: Mutex<Vec<Fault>>,
    pub(crate) done: AtomicUsize,
}

impl Plan {
    /// Has one of the next commits meet each of these, the last one first.
    pub(crate) fn set(&self, faults: Vec<Fault>) {
        *self.faults.lock().unwrap() = faults;
    }

    fn next(&self) -> Option<Fault> {
        let fault = self.faults.lock().unwrap().pop();
        if fault.is_some() {
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        fault
    }
}

/// A proxy, which stays until the process ends.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    pub(crate) plan: Arc<Plan>,
}

impl Proxy {
    pub(crate) fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan = Arc::new(Plan::default());
        let shared = Arc::clone(&plan);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, plan) = (client.unwrap(), Arc::clone(&shared));
                std::thread::spawn(move || serve(&client, server, &plan));
            }
        });
        Self { port, plan }
    }
}

/// Passes bytes on, until a fault.
fn serve(client: &TcpStream, server: u16, plan: &Plan) {
    let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else { return };
    client.set_nodelay(true).unwrap();
    upstream.set_nodelay(true).unwrap();
    let (mut from_server, mut to_client) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
    let answers = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let (mut from_client, mut to_server) = (client, &upstream);
    let mut buffer = [0; 65_536];
    while let Ok(count @ 1..) = from_client.read(&mut buffer) {
        let is_commit = buffer[..count].windows(8).any(|window| window == b"; COMMIT");
        let fault = if is_commit { plan.next() } else { None };
        match fault {
            Some(Fault::Before) => break,
            Some(Fault::During) => {
                let _ = to_server.write_all(&buffer[..count]);
                let _ = client.shutdown(Shutdown::Both);
                // The server finds out when it answers.
                std::thread::sleep(Duration::from_millis(20));
                break;
            }
            Some(Fault::After) => {
                // The client hears nothing from here on.
                let _ = client.shutdown(Shutdown::Both);
                let _ = to_server.write_all(&buffer[..count]);
                std::thread::sleep(Duration::from_millis(200));
                break;
            }
            None => {
                if to_server.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
        }
    }
    let _ = upstream.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
    let _ = answers.join();
}
