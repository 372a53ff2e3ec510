//! Who may read the stream: the checks of both hosts, each with the status Adobe documents for it
//! (troubleshooting page of the Livestream guide). Pure: a request head in, a verdict out.

use hyper::{HeaderMap, Method, Request, StatusCode, Version, header};

use crate::{http::form, tokens::Tokens};

/// A status and the `error_description` that goes with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) description: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, description: impl Into<String>) -> Self {
        Self { status, description: description.into() }
    }
}

/// Where a reader wants to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    /// The oldest hit still held.
    Smallest,
    /// The newest.
    Largest,
}

/// What a reader asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) max_connections: u8,
    pub(crate) reset: Option<Reset>,
}

/// Whom the hosts know.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) client_id: String,
    pub(crate) endpoint: String,
    pub(crate) tokens: Tokens,
}

impl Account {
    /// The order is that of a gateway: the request line, who asks, what for.
    pub(crate) fn admit<B>(&self, request: &Request<B>) -> Result<Wishes, Refusal> {
        if request.version() != Version::HTTP_11 {
            return Err(Refusal::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "use HTTP/1.1"));
        }
        // Both versions of the path behave alike since the release of 2026-04-13.
        let path = request.uri().path();
        let endpoint =
            ["/api/1/stream/", "/api/2/stream/"].iter().find_map(|prefix| path.strip_prefix(prefix));
        if endpoint != Some(self.endpoint.as_str()) {
            return Err(Refusal::new(StatusCode::NOT_FOUND, format!("no stream at {path}")));
        }
        if request.method() != Method::GET {
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "use GET"));
        }
        self.identify(request.headers())?;
        if !accepts_gzip(request.headers()) {
            return Err(Refusal::new(
                StatusCode::NOT_ACCEPTABLE,
                "the stream is gzip only: send Accept-Encoding: gzip",
            ));
        }
        wishes(request.uri().query().unwrap_or_default())
    }

    fn identify(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let unauthorized = |why: &str| Err(Refusal::new(StatusCode::UNAUTHORIZED, why));
        let Some(authorization) = text(headers, header::AUTHORIZATION.as_str()) else {
            return unauthorized("Authorization is missing");
        };
        let Some(token) = authorization.strip_prefix("Bearer ") else {
            return unauthorized("Authorization is not Bearer");
        };
        if !self.tokens.is_live(token) {
            return unauthorized("the token is expired or unknown");
        }
        match text(headers, "x-api-key") {
            None => unauthorized("x-api-key is missing"),
            Some(key) if key != self.client_id => {
                Err(Refusal::new(StatusCode::FORBIDDEN, "x-api-key does not match the token"))
            }
            Some(_) => Ok(()),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("gzip")))
}

fn wishes(query: &str) -> Result<Wishes, Refusal> {
    let bad = |why: String| Refusal::new(StatusCode::BAD_REQUEST, why);
    let within = |key: &str, value: &str, low: u32, high: u32| match value.parse::<u32>() {
        Ok(n) if (low..=high).contains(&n) => Ok(n),
        _ => Err(bad(format!("{key} must be {low} to {high}, not {value:?}"))),
    };
    let mut wishes = Wishes { max_connections: 1, reset: None };
    for (key, value) in form(query) {
        match key.as_str() {
            "maxConnections" => wishes.max_connections = within(&key, &value, 1, 8)? as u8,
            "reset" => {
                wishes.reset = Some(match value.as_str() {
                    "smallest" => Reset::Smallest,
                    "largest" => Reset::Largest,
                    _ => return Err(bad(format!("reset must be smallest or largest, not {value:?}"))),
                });
            }
            // Checked but without effect: the stand-in never bursts.
            "smoothing" => drop(within(&key, &value, 0, 1)?),
            "smoothingBucketSize" => drop(within(&key, &value, 1, 7_200)?),
            // Adobe may ignore what it does not know; a stand-in that does would hide a misspelling.
            _ => return Err(bad(format!("unknown parameter {key:?}"))),
        }
    }
    Ok(wishes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn verdict(change: impl FnOnce(&mut Request<()>)) -> Result<Wishes, u16> {
        let tokens = Tokens::new(Duration::from_secs(60));
        let mut request = Request::get("/api/1/stream/shop?maxConnections=2&reset=smallest")
            .header("authorization", format!("Bearer {}", tokens.issue()))
            .header("x-api-key", "client")
            .header("accept-encoding", "deflate, gzip;q=1.0")
            .body(())
            .unwrap();
        change(&mut request);
        let account = Account { client_id: "client".into(), endpoint: "shop".into(), tokens };
        account.admit(&request).map_err(|refusal| refusal.status.as_u16())
    }

    fn at(uri: &str) -> Result<Wishes, u16> {
        verdict(|request| *request.uri_mut() = uri.parse().unwrap())
    }

    #[test]
    fn a_correct_request_is_admitted_on_both_versions_of_the_path() {
        let expected = Wishes { max_connections: 2, reset: Some(Reset::Smallest) };
        assert_eq!(verdict(|_| ()), Ok(expected));
        assert_eq!(at("/api/2/stream/shop"), Ok(Wishes { max_connections: 1, reset: None }));
        assert!(at("/api/1/stream/shop?smoothing=1&smoothingBucketSize=7200").is_ok());
    }

    #[test]
    fn every_fault_of_a_request_has_its_documented_status() {
        assert_eq!(verdict(|r| *r.version_mut() = Version::HTTP_10), Err(505));
        assert_eq!(verdict(|r| *r.version_mut() = Version::HTTP_2), Err(505));
        assert_eq!(at("/api/1/stream/other"), Err(404));
        assert_eq!(at("/api/3/stream/shop"), Err(404));
        assert_eq!(verdict(|r| *r.method_mut() = Method::POST), Err(405));
        assert_eq!(verdict(|r| drop(r.headers_mut().remove("authorization"))), Err(401));
        assert_eq!(verdict(|r| drop(r.headers_mut().remove("x-api-key"))), Err(401));
        assert_eq!(verdict(|r| drop(r.headers_mut().remove("accept-encoding"))), Err(406));
        let set = |name: &'static str, value: &'static str| {
            verdict(|r| drop(r.headers_mut().insert(name, value.parse().unwrap())))
        };
        assert_eq!(set("authorization", "Bearer stale"), Err(401));
        assert_eq!(set("authorization", "Basic abc"), Err(401));
        assert_eq!(set("x-api-key", "someone else"), Err(403));
        assert_eq!(set("accept-encoding", "identity"), Err(406));
    }

    #[test]
    fn parameters_outside_their_range_are_refused() {
        for query in [
            "maxConnections=0",
            "maxConnections=9",
            "maxConnections=x",
            "reset=latest",
            "smoothing=2",
            "smoothingBucketSize=7201",
            "maxconnections=1",
        ] {
            assert_eq!(at(&format!("/api/1/stream/shop?{query}")), Err(400), "{query}");
        }
    }
}
