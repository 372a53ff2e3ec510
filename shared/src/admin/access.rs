//! Who may read the page and its data. Pure: the server acts on the answer.
//!
//! Without a token only programs of this machine may, and only if they name it: a page of another site can make its
//! own name point to 127.0.0.1 and let the browser ask for it (DNS rebinding), but it cannot alter the name the browser
//! then sends. With a token the name does not matter: such a page has neither the token nor the cookie.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use hyper::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap};
use hyper::http::uri::Authority;
use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// How the name of the cookie begins that holds the token. A cookie knows no port: all services of a machine get all of
/// them, so the rest of the name tells tokens apart.
const NAME: &str = "livestream_token";

/// Whom a server lets in.
#[derive(Debug, Clone)]
pub(super) struct Access {
    token: Secret,
    address: SocketAddr,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered.
    Granted,
    /// It brings no token, or a wrong one.
    NeedsToken,
    /// It is refused, and why.
    Refused(String),
}

impl Access {
    pub(super) fn new(token: Secret, address: SocketAddr) -> Self {
        Self { token, address }
    }

    /// Whether the page is served at all.
    pub(super) fn is_open(&self) -> bool {
        !self.token.is_empty() || self.address.ip().is_loopback()
    }

    /// What becomes of a request with these headers.
    pub(super) fn judge(&self, headers: &HeaderMap) -> Verdict {
        if !self.is_open() {
            return Verdict::Refused(format!(
                "{} is no loopback address, so the page needs a token: set metrics.token_file and reload the service, \
                 or listen on 127.0.0.1",
                self.address
            ));
        }
        if !self.token.is_empty() {
            let brings_it =
                bearer(headers).into_iter().chain(cookies(headers)).any(|token| self.is_token(token));
            return if brings_it { Verdict::Granted } else { Verdict::NeedsToken };
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if names_loopback(host) {
            Verdict::Granted
        } else {
            let port = self.address.port();
            Verdict::Refused(format!(
                "open http://127.0.0.1:{port}/: under another name the page needs a token"
            ))
        }
    }

    /// Compares in a time that does not depend on where a wrong token differs.
    pub(super) fn is_token(&self, given: &str) -> bool {
        !self.token.is_empty() && bool::from(self.token.reveal().as_bytes().ct_eq(given.as_bytes()))
    }

    /// The cookie that brings the token from now on. No script can read it, and no other site can have it sent but by a link to
    /// the page, such as an alert brings.
    pub(super) fn cookie(&self) -> String {
        let token = self.token.reveal();
        let mut hasher = DefaultHasher::new();
        token.hash(&mut hasher);
        let which = hasher.finish();
        format!("{NAME}_{which:016x}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age=2592000")
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    all.flat_map(|header| header.split(';'))
        .filter_map(|cookie| cookie.trim().strip_prefix(NAME)?.split_once('='))
        .map(|(_which, token)| token)
}

fn names_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    const TOKEN: &str = "a-token-of-many-characters";

    fn access(token: &str, address: &str) -> Access {
        Access::new(Secret::new(token), address.parse().unwrap())
    }

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let pair = |(name, value): &(HeaderName, &str)| (name.clone(), HeaderValue::from_str(value).unwrap());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn on_loopback_a_request_must_name_this_machine() {
        let access = access("", "127.0.0.1:9464");
        for good in ["127.0.0.1:9464", "localhost:9464", "LOCALHOST", "[::1]:9464", "127.8.9.1"] {
            assert_eq!(access.judge(&headers(&[(HOST, good)])), Verdict::Granted, "{good}");
        }
        for bad in
            ["evil.example:9464", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "", "a b"]
        {
            let Verdict::Refused(why) = access.judge(&headers(&[(HOST, bad)])) else {
                panic!("{bad} is let in")
            };
            assert!(why.contains("http://127.0.0.1:9464/"), "{why}");
        }
        assert!(matches!(access.judge(&HeaderMap::new()), Verdict::Refused(_)));
    }

    #[test]
    fn elsewhere_nobody_is_let_in_without_a_token_and_the_refusal_names_the_key() {
        let access = access("", "0.0.0.0:9464");
        assert!(!access.is_open());
        let Verdict::Refused(why) = access.judge(&headers(&[(HOST, "localhost")])) else { panic!() };
        assert!(why.contains("metrics.token_file"), "{why}");
    }

    #[test]
    fn a_token_is_taken_from_the_header_or_the_cookie_and_no_other_is() {
        for address in ["0.0.0.0:9464", "127.0.0.1:9464"] {
            let access = access(TOKEN, address);
            let bearer = format!("Bearer {TOKEN}");
            // Another instance of this machine has a token of its own.
            let (own, other) =
                (access.cookie(), Access::new(Secret::new("another"), access.address).cookie());
            let pair = |cookie: &str| cookie.split(';').next().unwrap().to_owned();
            let cookie = format!("a=b; {}; {}; c=d", pair(&other), pair(&own));
            assert_ne!(pair(&other).split('=').next(), pair(&own).split('=').next());
            for good in [(AUTHORIZATION, bearer.as_str()), (COOKIE, cookie.as_str())] {
                assert_eq!(access.judge(&headers(&[(HOST, "any.example"), good])), Verdict::Granted);
            }
            let short = format!("Bearer {}", &TOKEN[1..]);
            let longer = format!("{NAME}={TOKEN}x");
            for bad in
                [(AUTHORIZATION, short.as_str()), (AUTHORIZATION, "Bearer "), (COOKIE, longer.as_str())]
            {
                assert_eq!(access.judge(&headers(&[(HOST, "localhost"), bad])), Verdict::NeedsToken);
            }
            assert_eq!(access.judge(&headers(&[(HOST, "localhost")])), Verdict::NeedsToken);
        }
    }

    #[test]
    fn the_cookie_stays_between_this_server_and_the_browser_and_debug_output_hides_the_token() {
        let access = access(TOKEN, "0.0.0.0:1");
        let cookie = access.cookie();
        for part in [TOKEN, "HttpOnly", "SameSite=Lax", "Path=/"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!format!("{access:?}").contains(TOKEN));
    }
}
