//! The access log: a line for each request, in the format that web servers use. What clients send is escaped, and
//! secrets are removed. Lines go through a bounded queue to a writer thread, so that a full pipe never blocks a
//! request.

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
const MAX_QUEUED_LINES: usize = 4_096;
/// The bytes of a request's address that are written; the rest is cut off.
const MAX_ADDRESS_BYTES: usize = 1_024;

/// How long shutdown waits until the queue is written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The sending end of the log. Clones write to the same log; without a writer it discards lines.
#[derive(Debug, Clone)]
pub(super) struct AccessLog(Option<SyncSender<LogMessage>>);

/// What goes through the queue.
#[derive(Debug)]
enum LogMessage {
    Line(String),
    /// Asks for everything before it to be written now; dropping the sender answers.
    Flush(SyncSender<()>),
}

impl AccessLog {
    /// Starts a thread that writes to `writer` and ends with the last clone.
    ///
    /// # Errors
    /// `Io` when the thread can't be started.
    pub(super) fn new(writer: Option<Box<dyn Write + Send>>) -> Result<Self> {
        let Some(mut writer) = writer else { return Ok(Self(None)) };
        let (sender, lines) = sync_channel::<LogMessage>(MAX_QUEUED_LINES);
        let write = move || {
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
    pub(super) fn note(&self, text: impl fmt::Display) {
        if let Some(sender) = &self.0 {
            let _ = sender.try_send(LogMessage::Line(format!("{text}\n")));
        }
    }

    /// Waits until all lines so far are written, for `FLUSH_TIMEOUT` at most.
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
pub(super) struct Entry {
    access_log: AccessLog,
    handler: Arc<Handler>,
    peer: IpAddr,
    client: Option<Fingerprint>,
    method: Method,
    what: String,
    version: Version,
    status: StatusCode,
    bytes: u64,
    broke: bool,
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
            what: if access_log.0.is_some() { shown(uri) } else { String::new() },
            version,
            status: StatusCode::INTERNAL_SERVER_ERROR,
            bytes: 0,
            broke: false,
            since: Instant::now(),
        }
    }

    pub(super) fn status(&mut self, status: StatusCode) {
        self.status = status;
    }

    pub(super) fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.handler.metrics.sent(bytes);
    }

    /// The body ended before its end, and not because of the client.
    pub(super) fn broke(&mut self) {
        self.broke = true;
        self.handler.metrics.broke();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.handler.metrics.answered(&self.method, self.status);
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

/// Path and query as a log may have them.
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
    fn a_secret_is_not_written_however_it_is_spelled() {
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
