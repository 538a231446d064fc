//! [`Metrics`]: the counters of a server, and their text for Prometheus. Names begin with `lxd_image_`.
//!
//! Counters are atomics without a lock: a response never waits for a reader of metrics, and a reader
//! may see one counter a moment older than another.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::store::{BackendMetrics, StoreMetrics};

/// The methods that are counted apart. A client may invent others, which must not become new
/// series.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "other"];
/// The classes of statuses that are counted apart.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The counters of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// When the server started.
    since: Instant,
    /// Responses by method and class of status.
    requests: [[AtomicU64; CLASSES.len()]; METHODS.len()],
    /// Bytes of bodies.
    sent: AtomicU64,
    /// Connections that are open now.
    connections: AtomicU64,
    /// Connections that were closed at once, since their address has too many.
    refused: AtomicU64,
    /// Connections that were cut, since their client was idle.
    cut: AtomicU64,
    /// Bodies that ended early because of the server.
    broken: AtomicU64,
    /// Requests during which the handler panicked.
    panics: AtomicU64,
    /// Calls to the engines of the store.
    store: StoreMetrics,
}

impl Metrics {
    /// The counters of a server of a store, all zero.
    pub(crate) fn of(store: StoreMetrics) -> Self {
        Self {
            store,
            since: Instant::now(),
            requests: Default::default(),
            sent: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        }
    }

    /// Counts a response.
    pub(crate) fn answered(&self, method: &str, status: u16) {
        let row = METHODS.iter().position(|name| *name == method).unwrap_or(METHODS.len() - 1);
        // A status outside of the known classes can't happen; it must not be a panic if it does.
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        self.requests[row][class].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes of bodies that were sent.
    pub(crate) fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a new connection.
    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of a connection.
    pub(crate) fn disconnected(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a connection that was refused, because its address has too many.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that was cut, because its client was idle.
    pub(crate) fn cut(&self) {
        self.cut.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a body that could not be read completely, or did not match its fingerprint.
    pub(crate) fn broke(&self) {
        self.broken.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a panic of the handler.
    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// All counters in the text format of Prometheus, version 0.0.4, with what the catalog says of the images.
    pub(crate) fn text(&self, images: u64, bytes: u64, skipped: u64) -> String {
        let mut text = String::new();
        let mut one = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "# HELP lxd_image_{name} {help}\n# TYPE lxd_image_{name} {kind}\nlxd_image_{name} {value}\n"
            );
        };
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        one("uptime_seconds", "gauge", "Since the server started.", self.since.elapsed().as_secs());
        one("images", "gauge", "Images in the store that the client may see.", images);
        one("image_bytes", "gauge", "Their sizes together.", bytes);
        one("images_skipped", "gauge", "Rows of the catalog that can not be read and are listed nowhere.", skipped);
        one("connections", "gauge", "Connections that are open.", of(&self.connections));
        one("connections_refused_total", "counter", "Closed at once: too many of one address.", of(&self.refused));
        one("connections_cut_total", "counter", "Cut because the client was silent.", of(&self.cut));
        one("response_bytes_total", "counter", "Bytes of bodies that were sent.", of(&self.sent));
        one("responses_broken_total", "counter", "Bodies that could not be read to their end.", of(&self.broken));
        one("panics_total", "counter", "Defects of the server that a request met.", of(&self.panics));
        text.push_str("# HELP lxd_image_requests_total Requests that were answered.\n");
        text.push_str("# TYPE lxd_image_requests_total counter\n");
        for (method, row) in METHODS.iter().zip(&self.requests) {
            for (class, counter) in CLASSES.iter().zip(row) {
                let count = of(counter);
                if count > 0 {
                    let _ =
                        writeln!(text, "lxd_image_requests_total{{method=\"{method}\",status=\"{class}\"}} {count}");
                }
            }
        }
        self.add_backends(&mut text);
        text
    }

    /// Adds the calls to the engines of the store.
    fn add_backends(&self, text: &mut String) {
        let backends = [("blobs", &self.store.blobs), ("catalog", &self.store.catalog)];
        let mut family = |name: &str, help: &str, lines: &dyn Fn(&str, &BackendMetrics, &mut String)| {
            let _ = write!(text, "# HELP lxd_image_{name} {help}\n# TYPE lxd_image_{name} counter\n");
            for (part, backend) in backends {
                lines(&format!("part=\"{part}\",backend=\"{}\"", backend.backend), backend, text);
            }
        };
        family("backend_calls_total", "Calls to the engines of the store.", &|labels, backend, text| {
            for figures in backend.figures() {
                let (call, calls) = (figures.call, figures.calls);
                let _ = writeln!(text, "lxd_image_backend_calls_total{{{labels},call=\"{call}\"}} {calls}");
            }
        });
        family("backend_failures_total", "Calls that failed, by kind.", &|labels, backend, text| {
            for figures in backend.figures() {
                for (kind, count) in figures.failures.iter().filter(|(_, count)| *count > 0) {
                    let call = figures.call;
                    let _ = writeln!(
                        text,
                        "lxd_image_backend_failures_total{{{labels},call=\"{call}\",kind=\"{kind}\"}} {count}"
                    );
                }
            }
        });
        family("backend_seconds_total", "The time that calls took.", &|labels, backend, text| {
            for figures in backend.figures() {
                let (call, seconds) = (figures.call, figures.time.as_secs_f64());
                let _ = writeln!(text, "lxd_image_backend_seconds_total{{{labels},call=\"{call}\"}} {seconds:.6}");
            }
        });
        family("backend_put_bytes_total", "Bytes of objects that were created.", &|labels, backend, text| {
            if backend.put_bytes() > 0 {
                let bytes = backend.put_bytes();
                let _ = writeln!(text, "lxd_image_backend_put_bytes_total{{{labels}}} {bytes}");
            }
        });
    }
}
