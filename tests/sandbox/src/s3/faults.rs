//! Faults of S3 that a test asks for, and what was asked of it.
//!
//! A fault has a side: *refused* (nothing happened), *applied then lost* (it happened, nobody was told), *held* or
//! *slow*, and for a GET a body that ends early. Each is used up by the first request that fits it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::{Method, Request};
use percent_encoding::percent_decode_str;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// An object's content.
    Get,
    /// Whether an object is there, and how large.
    Head,
    /// To store an object.
    Put,
    /// To store an object that is there under another key.
    Copy,
    /// To remove an object, or several.
    Delete,
    /// A page of keys.
    List,
    /// Anything else.
    Other,
}

/// What a refusal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 503: too many requests.
    SlowDown,
    /// 500: S3's own fault.
    InternalError,
    /// 403: no permission, or none any more.
    AccessDenied,
}

impl Refusal {
    /// Status, code and message.
    pub(super) fn words(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::SlowDown => (503, "SlowDown", "Please reduce your request rate."),
            Self::InternalError => {
                (500, "InternalError", "We encountered an internal error. Please try again.")
            }
            Self::AccessDenied => (403, "AccessDenied", "Access Denied"),
        }
    }
}

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Answered so; nothing happened.
    Refused(Refusal),
    /// The connection is cut; nothing happened.
    Cut,
    /// It is carried out; the connection is cut before the answer.
    AppliedThenLost,
    /// No answer for so long; then it is carried out, also when the client has gone and asked elsewhere by then.
    Held(Duration),
    /// The answer comes so much later; a client that does not wait leaves nothing behind.
    Slow(Duration),
    /// The body of a GET ends in the middle; any other request is carried out and its answer lost.
    CutBody,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.words().1,
            Self::Cut => "cut",
            Self::AppliedThenLost => "applied then lost",
            Self::Held(_) => "held",
            Self::Slow(_) => "slow",
            Self::CutBody => "cut body",
        }
    }
}

/// One thing that goes wrong once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind of request; none is any.
    pub operation: Option<Operation>,
    /// What the key, or the prefix of a listing, contains.
    pub key: String,
    /// What goes wrong.
    pub side: Side,
}

impl Fault {
    /// A fault for this kind of request, whatever its key.
    #[must_use]
    pub fn of(operation: Operation, side: Side) -> Self {
        Self { operation: Some(operation), key: String::new(), side }
    }

    fn fits(&self, asked: &Asked) -> bool {
        self.operation.is_none_or(|operation| operation == asked.operation) && asked.key.contains(&self.key)
    }
}

/// How often each kind of request came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests(BTreeMap<Operation, u64>);

impl Requests {
    /// Requests of one kind.
    #[must_use]
    pub fn of(&self, operation: Operation) -> u64 {
        self.0.get(&operation).copied().unwrap_or(0)
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

#[derive(Debug, Default)]
struct State {
    pending: VecDeque<Fault>,
    /// Parts of keys whose objects nobody may read.
    forbidden: Vec<String>,
    requests: Requests,
    struck: BTreeMap<String, u64>,
}

/// The faults to come and the requests that came. Clones share both.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

impl Faults {
    /// Adds a fault behind those already waiting.
    pub fn push(&self, fault: Fault) {
        self.state().pending.push_back(fault);
    }

    /// From now on nobody may read the objects whose keys contain this, as if they were encrypted with somebody else's key.
    pub fn forbid(&self, key: &str) {
        self.state().forbidden.push(key.to_owned());
    }

    /// How many faults still wait for their request.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.state().pending.len()
    }

    /// Forgets the faults that have not struck.
    pub fn clear(&self) {
        self.state().pending.clear();
    }

    /// How often each kind of fault struck, by operation and side.
    #[must_use]
    pub fn struck(&self) -> BTreeMap<String, u64> {
        self.state().struck.clone()
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.state().requests.clone()
    }

    /// Counts a request, and takes the oldest fault that fits it.
    pub(super) fn meet(&self, asked: &Asked) -> Option<Side> {
        let mut state = self.state();
        *state.requests.0.entry(asked.operation).or_default() += 1;
        let is_read = matches!(asked.operation, Operation::Get | Operation::Head);
        if is_read && state.forbidden.iter().any(|part| asked.key.contains(part)) {
            return Some(Side::Refused(Refusal::AccessDenied));
        }
        let at = state.pending.iter().position(|fault| fault.fits(asked))?;
        let side = state.pending.remove(at)?.side;
        let name = format!("{:?} {}", asked.operation, side.name()).to_lowercase();
        *state.struck.entry(name).or_default() += 1;
        Some(side)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request, as far as faults care.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) operation: Operation,
    /// The key, or the prefix of a listing.
    pub(super) key: String,
}

impl Asked {
    /// Reads a request in path style.
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let path = decoded(request.uri().path());
        let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
        let query = request.uri().query().unwrap_or_default();
        let parameter = |name: &str| {
            query.split('&').find_map(|pair| match pair.split_once('=') {
                Some((found, value)) => (found == name).then_some(value),
                None => (pair == name).then_some(""),
            })
        };
        let operation = match *request.method() {
            Method::GET if key.is_empty() && parameter("list-type").is_some() => Operation::List,
            Method::GET if !key.is_empty() => Operation::Get,
            Method::HEAD if !key.is_empty() => Operation::Head,
            Method::PUT if request.headers().contains_key("x-amz-copy-source") => Operation::Copy,
            Method::PUT if !key.is_empty() => Operation::Put,
            Method::DELETE if !key.is_empty() => Operation::Delete,
            Method::POST if parameter("delete").is_some() => Operation::Delete,
            _ => Operation::Other,
        };
        let key = match operation {
            Operation::List => decoded(parameter("prefix").unwrap_or_default()),
            _ => key.to_owned(),
        };
        Self { operation, key }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn asked(method: Method, uri: &str, copy: bool) -> Asked {
        let mut request = Request::builder().method(method).uri(uri);
        if copy {
            request = request.header("x-amz-copy-source", "b/x");
        }
        Asked::of(&request.body(()).unwrap())
    }

    #[test]
    fn requests_are_told_apart_by_method_query_and_header() {
        let of = |operation, key: &str| Asked { operation, key: key.to_owned() };
        for (method, uri, copy, expected) in [
            (Method::GET, "/b/k/0.csv?x-id=GetObject", false, of(Operation::Get, "k/0.csv")),
            (Method::GET, "/b/?list-type=2&prefix=ToIngest%2Fa", false, of(Operation::List, "ToIngest/a")),
            (Method::GET, "/b?list-type=2", false, of(Operation::List, "")),
            (Method::GET, "/b?location", false, of(Operation::Other, "")),
            (Method::HEAD, "/b/k", false, of(Operation::Head, "k")),
            (Method::PUT, "/b/k", false, of(Operation::Put, "k")),
            (Method::PUT, "/b/k", true, of(Operation::Copy, "k")),
            (Method::DELETE, "/b/k", false, of(Operation::Delete, "k")),
            (Method::POST, "/b?delete", false, of(Operation::Delete, "")),
        ] {
            assert_eq!(asked(method, uri, copy), expected, "{uri}");
        }
    }

    #[test]
    fn a_fault_waits_for_its_request_strikes_once_and_is_counted() {
        let faults = Faults::default();
        faults.push(Fault { key: "batch.json".to_owned(), ..Fault::of(Operation::Put, Side::Cut) });
        faults.push(Fault { operation: None, key: String::new(), side: Side::AppliedThenLost });
        let put = asked(Method::PUT, "/b/d/batch.json", false);
        assert_eq!(faults.meet(&asked(Method::GET, "/b/k", false)), Some(Side::AppliedThenLost));
        assert_eq!(faults.meet(&asked(Method::PUT, "/b/d/0.csv", false)), None);
        assert_eq!(faults.meet(&put), Some(Side::Cut));
        assert_eq!(faults.meet(&put), None);
        assert_eq!(faults.pending(), 0);
        assert_eq!(
            faults.struck().into_iter().collect::<Vec<_>>(),
            [("get applied then lost".to_owned(), 1), ("put cut".to_owned(), 1)]
        );
        let requests = faults.requests();
        assert_eq!((requests.of(Operation::Put), requests.of(Operation::List), requests.total()), (3, 0, 4));
    }
}
