//! The access log: a line for each request, in the format that web servers use. What clients send is escaped, and
//! secrets are removed. Lines go through a bounded queue to a writer thread, so that a full pipe never blocks a
//! request.
//!
//! A line has the fields of the combined format as far as the server has them: address, `-`, the
//! first digits of the client's certificate or `-`, time, request line, status, bytes of the body
//! that were sent, duration in milliseconds, and `cut short` if the body ended early because of the
//! server.
//!
//! ```text
//! 192.0.2.7 - 8ad2c0f11e2b [29/Nov/2026:12:14:04 +0000] "GET /1.0/images HTTP/2.0" 200 5120 3ms
//! ```
//!
//! Headers are not logged. Values of the query that may be secrets are replaced by `***`.

use std::fmt;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use http::{Method, StatusCode, Uri, Version};

use crate::error::{Escaped, Result};
use crate::fingerprint::Fingerprint;
use crate::redact;
use crate::server::handler::Handler;

/// Lines in the queue; more are dropped, since requests must not wait for the log.
///
/// At 200 bytes a line, 800 KiB.
const MAX_QUEUED_LINES: usize = 4_096;
/// The bytes of a request's address that are written; the rest is cut off.
///
/// A client may send 8 KiB with each request, and would fill a disk with few of them.
const MAX_ADDRESS_BYTES: usize = 1_024;

/// How long shutdown waits until the queue is written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The sending end of the log. Clones write to the same log; without a writer it discards lines.
#[derive(Debug, Clone)]
pub(super) struct AccessLog(Option<SyncSender<LogMessage>>);

/// What goes through the queue.
#[derive(Debug)]
enum LogMessage {
    /// A line with its end.
    Line(String),
    /// Asks for everything before it to be written now; dropping the sender answers.
    Flush(SyncSender<()>),
}

impl AccessLog {
    /// The entry of a request that begins now.
    pub(super) fn new(writer: Option<Box<dyn Write + Send>>) -> Result<Self> {
        let Some(mut writer) = writer else { return Ok(Self(None)) };
        let (sender, lines) = sync_channel::<LogMessage>(MAX_QUEUED_LINES);
        let write = move || {
            // Ends when the last clone of the log is dropped.
            for said in lines {
                // A log that can't be written must not stop the server, and there is nowhere else to report it.
                let _ = match said {
                    LogMessage::Line(line) => writer.write_all(line.as_bytes()),
                    LogMessage::Flush(flushed) => {
                        let done = writer.flush();
                        drop(flushed);
                        done
                    }
                };
            }
        };
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(write)
            .map_err(|error| crate::Error::io("a thread can't be started", error))?;
        Ok(Self(Some(sender)))
    }

    /// Writes a line that belongs to no request.
    ///
    /// Dropped if the queue is full or the writer has ended.
    pub(super) fn note(&self, text: impl fmt::Display) {
        if let Some(sender) = &self.0 {
            // A full queue drops the line: a slow disk or a stopped reader of a pipe must not stop
            // the server.
            let _ = sender.try_send(LogMessage::Line(format!("{text}\n")));
        }
    }

    /// Waits until all lines so far are written, for `FLUSH_TIMEOUT` at most.
    ///
    /// Called once, at the end of the shutdown.
    pub(super) fn flush(&self) {
        let (flushed, wait) = sync_channel(1);
        if let Some(sender) = &self.0
            && sender.try_send(LogMessage::Flush(flushed)).is_ok()
        {
            let _ = wait.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// The log line of one request, written when its response has ended.
///
/// Created before the request is looked at, so that refused requests are logged as well, and
/// dropped with the body of the response. The counters of the metrics are updated at the same time,
/// also without a log.
pub(super) struct Entry {
    access_log: AccessLog,
    handler: Arc<Handler>,
    peer: IpAddr,
    /// The certificate that the client showed, trusted or not.
    client: Option<Fingerprint>,
    method: Method,
    /// Path and query, ready to be written.
    what: String,
    version: Version,
    /// The status of the response; 500 until it is known, so that a panic is logged as one.
    status: StatusCode,
    /// Bytes of the body that were sent.
    bytes: u64,
    /// Whether the body ended early because of the server.
    broke: bool,
    /// When the head of the request was received.
    since: Instant,
}

impl Entry {
    pub(super) fn new(
        access_log: &AccessLog,
        handler: &Arc<Handler>,
        peer: IpAddr,
        client: Option<Fingerprint>,
        (method, uri, version): (&Method, &Uri, Version),
    ) -> Self {
        Self {
            access_log: access_log.clone(),
            handler: Arc::clone(handler),
            peer,
            client,
            method: method.clone(),
            // Without a log there is no need to format the address of each request.
            what: if access_log.0.is_some() { shown(uri) } else { String::new() },
            version,
            status: StatusCode::INTERNAL_SERVER_ERROR,
            bytes: 0,
            broke: false,
            since: Instant::now(),
        }
    }

    /// Sets the status of the response.
    pub(super) fn status(&mut self, status: StatusCode) {
        self.status = status;
    }

    /// Counts bytes that were passed to the network.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.handler.metrics().sent(bytes);
    }

    /// The body ended before its end, and not because of the client.
    pub(super) fn broke(&mut self) {
        self.broke = true;
        self.handler.metrics().broke();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.handler.metrics().answered(self.method.as_str(), self.status.as_u16());
        if self.access_log.0.is_none() {
            return;
        }
        let client = self.client.as_ref().map_or_else(|| "-".to_owned(), Fingerprint::short);
        let time = jiff::Timestamp::now().strftime("%d/%b/%Y:%H:%M:%S +0000");
        let milliseconds = self.since.elapsed().as_millis();
        let broke = if self.broke { " cut short" } else { "" };
        self.access_log.note(format_args!(
            "{} - {client} [{time}] \"{} {} {:?}\" {} {} {milliseconds}ms{broke}",
            self.peer.to_canonical(),
            self.method,
            self.what,
            self.version,
            self.status.as_u16(),
            self.bytes,
        ));
    }
}

/// Path and query as the log may contain them: without secrets, cut to a length, on one line, and
/// without quotation marks, which end a field.
fn shown(uri: &Uri) -> String {
    let mut text = uri.path().to_owned();
    if let Some(query) = uri.query() {
        text.push('?');
        text.push_str(&redact::query(query));
    }
    if text.len() > MAX_ADDRESS_BYTES {
        let end = (0..=MAX_ADDRESS_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    Escaped(text.as_bytes()).to_string().replace('"', "%22")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_not_written_however_it_is_spelled() {
        for (uri, expected) in [
            ("/1.0/images/ab?secret=hidden", "/1.0/images/ab?secret=***"),
            ("/a\"?q=1&%73ecret=hidden&y", "/a%22?q=1&%73ecret=***&***"),
            ("/a%0a?q=secret", "/a%0a?q=secret"),
        ] {
            assert_eq!(shown(&uri.parse().expect("an address")), expected);
        }
        assert!(shown(&format!("/{}", "a".repeat(5_000)).parse().expect("an address")).len() < 1_100);
    }
}
