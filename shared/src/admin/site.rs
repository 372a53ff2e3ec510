//! What a server shows: a service implements it.

use bytes::Bytes;

use crate::boxed::Boxed;
use crate::exit::Failure;
use crate::metrics::Page;

/// A part of the page that stands in the program.
#[derive(Debug, Clone, Copy)]
pub struct File {
    /// Its media type.
    pub kind: &'static str,
    /// Its content.
    pub content: &'static str,
}

/// What a service shows. Each method is called for a request.
pub trait Site: Send + Sync + 'static {
    /// The figures of `/metrics`. May block.
    fn figures(&self) -> Result<Page, Failure>;

    /// What keeps the service from its work, a line each; ready, if there is nothing. Anybody who can connect reads it.
    fn missing(&self) -> Vec<String>;

    /// The file at a path. That at `/` is the page; the others are its parts, which anybody who can connect reads.
    fn file(&self, path: &str) -> Option<File>;

    /// The form that asks for the token; it says so if one was wrong.
    fn login(&self, was_wrong: bool) -> File;

    /// The JSON at a path below `/api/`; None: there is nothing.
    fn data<'a>(&'a self, path: &'a str) -> Boxed<'a, Option<Result<Bytes, Failure>>>;
}
