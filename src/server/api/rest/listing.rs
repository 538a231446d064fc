//! Lists as JSON, made page by page while they are sent. A list of any length takes the memory of
//! one page, and a client that reads slowly holds nothing else up, because no lock and no
//! transaction is open between two pages.
//!
//! A list that fits on one page is a response like any other, with its length. A longer one has no
//! length: HTTP/1.1 sends it in chunks. An error on a later page cuts the connection, so that no
//! client takes a part of a list for all of it.

use std::io;
use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::super::answer;
use crate::error::{Error, Result};
use crate::protocol::rest::Envelope;
use crate::server::core::notes::Notes;
use crate::server::message::{Body, Pieces, Response};
use crate::server::state::ServerState;

/// A page of a list.
pub(super) struct Page {
    /// The elements, paths or objects. May be empty, also when more follow.
    pub(super) rows: Vec<Value>,
    /// Whether there is another page.
    pub(super) more: bool,
}

/// The list whose pages `next` gives, one for each call.
///
/// `next` is called for the first page at once, and for each other page when the client has taken
/// those before it.
///
/// # Errors
/// Those of the first page. An error on a later one cuts the body short.
pub(super) fn answer<F>(server: &ServerState, mut next: F) -> Result<Response>
where
    F: FnMut() -> Result<Page> + Send + 'static,
{
    const TAIL: &str = "]}";
    let first = next()?;
    // Most lists: with a length, so that a connection of HTTP/1.0 can stay open as well.
    if !first.more {
        return Ok(answer::object(Value::Array(first.rows)));
    }
    let mut head = serde_json::to_string(&Envelope::success(json!([])))
        .map_err(|error| Error::malformed("a list can't be told in JSON").with_source(error))?;
    // The list is the last thing in it, so that what stands before it can be sent before all of it is there.
    if !head.ends_with(TAIL) {
        return Err(Error::malformed("the envelope of a list ends with something else"));
    }
    head.truncate(head.len() - TAIL.len());
    let notes = Arc::clone(&server.services.notes);
    let list = List { head: head.into_bytes(), first: Some(first), next, begun: false, over: false, notes };
    let mut response = answer::json(StatusCode::OK, "");
    response.body = Body::Pieces(Pieces::generated(Box::new(list)));
    Ok(response)
}

/// The chunks of a list: one for each page.
struct List<F> {
    /// What stands before the first row, until it is given out.
    head: Vec<u8>,
    /// The first page, until it is given out.
    first: Option<Page>,
    /// Makes the next page.
    next: F,
    /// Whether a row was given out, so that a comma stands before the next one.
    begun: bool,
    /// Whether the end was given out, or an error.
    over: bool,
    /// Where an error on a later page is reported, as the client only sees a cut connection.
    notes: Arc<Notes>,
}

impl<F: FnMut() -> Result<Page>> List<F> {
    /// The next page as JSON.
    fn chunk(&mut self) -> Result<Vec<u8>> {
        let page = match self.first.take() {
            Some(page) => page,
            None => (self.next)()?,
        };
        let mut chunk = std::mem::take(&mut self.head);
        for row in &page.rows {
            if self.begun {
                chunk.push(b',');
            }
            self.begun = true;
            serde_json::to_writer(&mut chunk, row)
                .map_err(|error| Error::malformed("a row of a list can't be told in JSON").with_source(error))?;
        }
        if !page.more {
            chunk.extend_from_slice(b"]}\n");
            self.over = true;
        }
        Ok(chunk)
    }
}

impl<F: FnMut() -> Result<Page>> Iterator for List<F> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        Some(self.chunk().map_err(|error| {
            self.over = true;
            // The status was sent long ago, so the log is the only place for the reason.
            self.notes.cut_short(&error);
            io::Error::other(error)
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::io::Read;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::server::ServerOptions;
    use crate::server::api::simplestreams::kept::Streams;
    use crate::server::core::services::Services;
    use crate::store::Store;

    fn state() -> ServerState {
        let services = Services::new(Store::in_memory().unwrap(), ServerOptions::new(), |_| Value::Null);
        ServerState { services, streams: Streams::default() }
    }

    fn pieces(response: Response) -> Pieces {
        let Body::Pieces(pieces) = response.body else { panic!("no pieces") };
        pieces
    }

    #[test]
    fn page_is_made_when_those_before_it_were_taken() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let next = move || {
            let page = counter.fetch_add(1, Ordering::SeqCst);
            Ok(Page { rows: vec![json!("x".repeat(100))], more: page < 2 })
        };
        let mut pieces = pieces(answer(&state(), next).unwrap());
        let mut counts = vec![made.load(Ordering::SeqCst)];
        for _ in 0..2 {
            pieces.read_exact(&mut [0; 150]).unwrap();
            counts.push(made.load(Ordering::SeqCst));
        }
        pieces.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!((counts, made.load(Ordering::SeqCst)), (vec![1, 1, 2], 3));
    }

    #[test]
    fn pages_without_rows_are_no_end() {
        let mut rows = vec![vec![json!(2)], vec![], vec![], vec![json!(1)], vec![]];
        let next = move || {
            let rows = rows.pop().unwrap_or_default();
            let more = rows != [json!(2)];
            Ok(Page { rows, more })
        };
        let mut text = String::new();
        pieces(answer(&state(), next).unwrap()).read_to_string(&mut text).unwrap();
        let envelope: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(envelope, json!(Envelope::success(json!([1, 2]))));
    }

    #[test]
    fn error_on_a_later_page_is_no_end() {
        let mut pages = 0;
        let next = move || {
            pages += 1;
            if pages == 3 { Err(Error::malformed("a page")) } else { Ok(Page { rows: vec![json!(pages)], more: true }) }
        };
        let mut pieces = pieces(answer(&state(), next).unwrap());
        pieces.read_to_end(&mut Vec::new()).unwrap_err();
        pieces.read_to_end(&mut Vec::new()).unwrap_err();
    }

    #[test]
    fn error_on_the_first_page_is_an_answer() {
        assert!(answer(&state(), || Err(Error::malformed("a page"))).is_err());
    }
}
