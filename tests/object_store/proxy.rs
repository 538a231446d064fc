//! A proxy that breaks requests: between the store and a real server, one request per connection.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    Pass,
    /// The connection ends before the request reaches the server.
    DropBefore,
    /// The server carries it out, and the answer is lost.
    DropAfter,
    /// The server gets it twice.
    Duplicate,
    /// It arrives late.
    Delay(Duration),
    /// It arrives with a wrong byte in its body.
    Damaged,
    /// The server never sees it; the answer has this status and code.
    Answer(u16, &'static str),
    /// The server carries it out, and the answer has this status and code.
    AnswerAfter(u16, &'static str),
    /// The answer ends in the middle of its body.
    ShortBody,
    /// The answer ends in the middle of its body, and says that this is all.
    ShortChunked,
    /// The answer says that it has another range.
    WrongRange,
    /// The answer says that it is the whole object, and not the range that was asked for.
    NoRange,
    /// The answer has the tag of another object.
    OtherTag,
}

/// A request as far as a plan looks at it.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
}

type Plan = Box<dyn FnMut(&Request<'_>) -> Fault + Send>;

/// The proxy. It ends with the process.
pub(crate) struct Proxy {
    port: u16,
    plan: Arc<Mutex<Plan>>,
}

impl Proxy {
    /// Starts one in front of `http://HOST:PORT`. It breaks nothing until it is told to.
    pub(crate) fn start(endpoint: &str) -> Self {
        let server = endpoint.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan: Arc<Mutex<Plan>> = Arc::new(Mutex::new(Box::new(|_| Fault::Pass)));
        let shared = Arc::clone(&plan);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, plan) = (server.clone(), Arc::clone(&shared));
                thread::spawn(move || drop(serve(client, &server, &plan)));
            }
        });
        Self { port, plan }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Decides about each request from now on.
    pub(crate) fn plan(&self, plan: impl FnMut(&Request<'_>) -> Fault + Send + 'static) {
        *self.plan.lock().unwrap() = Box::new(plan);
    }

    /// Does the same to all requests from now on.
    pub(crate) fn always(&self, fault: Fault) {
        self.plan(move |_| fault);
    }
}

/// The head of a message, with the empty line, and what came after it.
fn read_head(stream: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

fn serve(mut client: TcpStream, server: &str, plan: &Mutex<Plan>) -> io::Result<()> {
    let (head, mut body) = read_head(&mut client)?;
    let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let fault = (plan.lock().unwrap())(&Request { method, target });
    if fault == Fault::DropBefore {
        return client.shutdown(Shutdown::Both);
    }
    let missing = usize::saturating_sub(length, body.len());
    let had = body.len();
    body.resize(had + missing, 0);
    client.read_exact(&mut body[had..])?;
    match fault {
        Fault::Answer(status, code) => return answer(&mut client, method, status, code),
        Fault::Delay(time) => thread::sleep(time),
        Fault::Damaged => body.iter_mut().take(1).for_each(|byte| *byte ^= 1),
        _ => {}
    }
    let sent = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let mut exchanged = exchange(server, &sent, &body)?;
    if fault == Fault::Duplicate {
        exchanged = exchange(server, &sent, &body)?;
    }
    let (mut head, mut body) = exchanged;
    match fault {
        Fault::DropAfter => return client.shutdown(Shutdown::Both),
        Fault::AnswerAfter(status, code) => return answer(&mut client, method, status, code),
        Fault::ShortBody => body.truncate(body.len() / 2),
        Fault::ShortChunked if !body.is_empty() => {
            body.truncate(body.len() / 2);
            let length = header(&head, "content-length").unwrap_or_default().to_owned();
            let changed = head.to_ascii_lowercase().find("content-length").map(|at| {
                let end = head[at..].find("\r\n").map_or(head.len(), |end| at + end);
                format!("{}Transfer-Encoding: chunked\r\nx-was: {length}{}", &head[..at], &head[end..])
            });
            if let Some(changed) = changed {
                head = changed;
                let mut chunked = format!("{:x}\r\n", body.len()).into_bytes();
                chunked.extend_from_slice(&body);
                chunked.extend_from_slice(b"\r\n0\r\n\r\n");
                body = chunked;
            }
        }
        Fault::WrongRange => {
            if let Some(range) = header(&head, "content-range").map(str::to_owned) {
                let (numbers, total) = range.trim_start_matches("bytes ").split_once('/').unwrap();
                let (start, end) = numbers.split_once('-').unwrap();
                let moved = |number: &str| number.parse::<u64>().unwrap() + 1;
                head = head.replace(&range, &format!("bytes {}-{}/{total}", moved(start), moved(end)));
            }
        }
        Fault::NoRange => {
            let line = head.find("\r\n").unwrap();
            let rest: Vec<&str> = head[line..]
                .split("\r\n")
                .filter(|line| !line.to_ascii_lowercase().starts_with("content-range"))
                .collect();
            head = format!("HTTP/1.1 200 OK{}", rest.join("\r\n"));
        }
        Fault::OtherTag => {
            if let Some(tag) = header(&head, "etag").map(str::to_owned) {
                head = head.replace(&tag, "\"0123456789abcdef0123456789abcdef\"");
            }
        }
        _ => {}
    }
    client.write_all(head.as_bytes())?;
    client.write_all(&body)?;
    client.shutdown(Shutdown::Both)
}

/// Sends a request to the server, and reads its answer up to the end of the connection.
fn exchange(server: &str, head: &str, body: &[u8]) -> io::Result<(String, Vec<u8>)> {
    let mut upstream = TcpStream::connect(server)?;
    upstream.write_all(head.as_bytes())?;
    upstream.write_all(body)?;
    let (head, mut body) = read_head(&mut upstream)?;
    upstream.read_to_end(&mut body)?;
    Ok((head, body))
}

/// An answer of our own.
fn answer(client: &mut TcpStream, method: &str, status: u16, code: &str) -> io::Result<()> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>made by a test</Message></Error>");
    // No answer to HEAD has a body.
    let shown = if method == "HEAD" { "" } else { &*body };
    let text = format!(
        "HTTP/1.1 {status} Made by a test\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{shown}",
        body.len()
    );
    client.write_all(text.as_bytes())?;
    client.shutdown(Shutdown::Both)
}
