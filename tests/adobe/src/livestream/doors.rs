//! The two hosts of Livestream: the front, which redirects to another host name, and the one that streams. HTTP
//! libraries drop `Authorization` on the way from one to the other, which is why there are two.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{Request, Response, StatusCode, header};

use super::{
    admission::{Account, Refusal},
    feed::Feed,
    group::Group,
};
use crate::{
    faults::{Door, Fault, Faults},
    http::{refusal, scripted},
    records::Generator,
};

/// The host name of the streaming host; the front is known by its address.
pub(crate) const REDIRECT_HOST: &str = "localhost";

pub(crate) type Answer = Response<Either<Full<Bytes>, Feed>>;

/// What both hosts and every connection share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) account: Account,
    pub(crate) faults: Faults,
    pub(crate) generator: Generator,
    pub(crate) group: Arc<Mutex<Group>>,
    /// Lines written, of whatever kind.
    pub(crate) lines: Arc<AtomicU64>,
    /// Compressed bytes handed to the server.
    pub(crate) bytes: Arc<AtomicU64>,
    /// Hits per second that one connection is sent at most.
    pub(crate) connection_rate: Option<u64>,
    /// After how long the last of all connections is cut.
    pub(crate) flapping: Option<Duration>,
    /// Scheme, host and port that the front redirects to.
    pub(crate) redirect_to: Arc<Mutex<String>>,
}

impl Shared {
    /// The front: check, then redirect with the query kept.
    pub(crate) fn front<B>(&self, request: &Request<B>) -> Answer {
        match self.faults.take_at(Door::Front) {
            Some(Fault::Refuse { status, body, .. }) => return scripted(status, body),
            Some(Fault::RedirectTo(url)) => return redirect(&url),
            Some(Fault::ExpireToken) => self.account.tokens.revoke_all(),
            _ => {}
        }
        match self.account.admit(request) {
            Ok(_) => {
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                redirect(&format!(
                    "{}{path}",
                    self.redirect_to.lock().unwrap_or_else(PoisonError::into_inner)
                ))
            }
            Err(refused) => refuse(&refused),
        }
    }

    /// The streaming host: check, take a place in the group, stream.
    pub(crate) fn stream<B>(&self, request: &Request<B>) -> Answer {
        let group = || self.group.lock().unwrap_or_else(PoisonError::into_inner);
        match self.faults.take_at(Door::Stream) {
            Some(Fault::Refuse { status, body, .. }) => return scripted(status, body),
            Some(Fault::Lapse { hits }) => group().lapse(hits, Instant::now()),
            Some(Fault::Replay { back }) => group().replay_next(back),
            Some(Fault::Deliver(delivery)) => group().deliver(delivery.in_hits(self.generator.plan())),
            _ => {}
        }
        let joined = self.account.admit(request).and_then(|wishes| group().join(wishes, Instant::now()));
        let feed = joined.and_then(|member| {
            Feed::start(self, member)
                .map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
        });
        match feed {
            Ok(feed) => {
                let mut response = Response::new(Either::Right(feed));
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
                headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
                response
            }
            Err(refused) => refuse(&refused),
        }
    }
}

fn redirect(url: &str) -> Answer {
    let Ok(location) = header::HeaderValue::from_str(url) else {
        return refuse(&Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the scripted URL is no header value",
        ));
    };
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, location);
    response
}

fn refuse(refused: &Refusal) -> Answer {
    let error = match refused.status.as_u16() {
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        405 => "method_not_allowed",
        406 => "not_acceptable",
        409 => "conflict",
        500.. => "server_error",
        _ => "bad_request",
    };
    refusal(refused, error)
}
