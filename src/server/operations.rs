//! `Operations`: work that goes on after its request was answered, and what became of it.
//! Trusted clients follow it, wait for it, cancel it.

/// The operations of a server.
#[derive(Debug, Default)]
pub(crate) struct Operations {}
