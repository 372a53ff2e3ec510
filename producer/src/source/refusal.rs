//! Decides how to retry when Livestream refuses the stream.
//! <https://developer.adobe.com/analytics-apis/docs/2.0/guides/endpoints/livestream/troubleshooting/>

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// At once, with a new token.
    NewToken,
    /// After the time that Adobe asks for, or else after the longest wait.
    After(Option<Duration>),
    /// With back-off.
    BackOff,
    /// In vain, until an operator has followed this advice.
    NeedsOperator(&'static str),
}

impl Reaction {
    /// What an operator should know, or do.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::NewToken => "a new token is requested",
            Self::After(_) => {
                "Adobe says this after rapid reconnects, while the stream moves, and while other clients hold its \
                 places (adobe.max_connections); if it lasts, look for another client of the stream"
            }
            Self::BackOff => "it may pass; if it lasts, ask Customer Care",
            Self::NeedsOperator(advice) => advice,
        }
    }
}

/// Longest `Retry-After` that is followed: a stream that moves is back sooner, and Adobe holds hits for a while only.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(900);

pub(crate) fn reaction_to_status(status: u16, message: &str, retry_after: Option<Duration>) -> Reaction {
    let asked = retry_after.map(|wait| wait.min(MAX_RETRY_AFTER));
    // Adobe answers rapid reconnects with 409 and 503 until about a minute has passed.
    // <https://experienceleague.adobe.com/docs/experience-cloud-kcs/kbarticles/ka-16598.html>
    match status {
        400 => Reaction::NeedsOperator(
            "a parameter is wrong: check adobe.max_connections, adobe.reset and adobe.smoothing_bucket_size",
        ),
        401 => Reaction::NewToken,
        403 => Reaction::NeedsOperator(
            "the technical account may not read this stream: have Customer Care link its e-mail address, and check that \
             adobe.client_id is the credential's",
        ),
        404 => Reaction::NeedsOperator("there is no such endpoint: check adobe.stream_url"),
        405 => Reaction::NeedsOperator(
            "Livestream says this to anything but GET: something between alters requests, or adobe.stream_url is wrong",
        ),
        406 => Reaction::NeedsOperator(
            "Livestream says this to requests without gzip: something between removes Accept-Encoding",
        ),
        409 if is_about_the_value(message) => Reaction::NeedsOperator(
            "another client of the stream sent another maxConnections: set adobe.max_connections alike in all of them",
        ),
        409 => Reaction::After(asked),
        424 => Reaction::NeedsOperator(
            "the stream is not enabled for this API version: GET /api/2/enable/{endpoint} once",
        ),
        429 | 503 => Reaction::After(asked),
        505 => Reaction::NeedsOperator(
            "Livestream says this to anything but HTTP/1.1: something between alters requests",
        ),
        500..=599 => asked.map_or(Reaction::BackOff, |asked| Reaction::After(Some(asked))),
        _ => Reaction::BackOff,
    }
}

/// Whether a conflict is about the value of `maxConnections`, not the number of clients. Adobe documents both under 409
/// and the text of neither. A doubtful text counts as the second, which passes by itself.
fn is_about_the_value(message: &str) -> bool {
    let message = message.to_lowercase();
    let names_the_value = message.contains("maxconnections") || message.contains("max connections");
    let about_the_number = ["too many", "reached", "exceed", "maximum", "limit", "already", "in use"];
    names_the_value && !about_the_number.iter().any(|word| message.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_status(status: u16) -> Reaction {
        reaction_to_status(status, "", None)
    }

    #[test]
    fn each_documented_status_has_its_own_reaction() {
        let stops = [400, 403, 404, 405, 406, 424, 505].map(|status| match to_status(status) {
            Reaction::NeedsOperator(advice) => advice,
            other => panic!("{status}: {other:?}"),
        });
        let words = ["parameter", "Customer Care", "stream_url", "GET", "gzip", "/api/2/enable/", "HTTP/1.1"];
        for (advice, word) in stops.iter().zip(words) {
            assert!(advice.contains(word), "{word}: {advice}");
        }
        assert_eq!(to_status(401), Reaction::NewToken);
        assert_eq!(to_status(409), Reaction::After(None));
        assert_eq!(to_status(429), Reaction::After(None));
        assert_eq!(to_status(503), Reaction::After(None));
        for status in [500, 502, 504, 418, 204] {
            assert_eq!(to_status(status), Reaction::BackOff, "{status}");
        }
    }

    #[test]
    fn a_conflict_over_the_value_of_max_connections_needs_a_person_and_one_over_places_does_not() {
        for said in ["maxConnections is 2 for this stream", "All clients must send the same maxConnections"] {
            assert!(matches!(reaction_to_status(409, said, None), Reaction::NeedsOperator(_)), "{said}");
        }
        for said in ["maximum connections of 2 reached", "too many clients for maxConnections=1", "conflict"]
        {
            assert_eq!(reaction_to_status(409, said, None), Reaction::After(None), "{said}");
        }
    }

    #[test]
    fn an_answer_that_asks_to_wait_is_waited_for_but_not_for_hours() {
        let after = |status, seconds| reaction_to_status(status, "", Some(Duration::from_secs(seconds)));
        for status in [409, 429, 500, 502, 503] {
            assert_eq!(after(status, 7), Reaction::After(Some(Duration::from_secs(7))), "{status}");
        }
        assert_eq!(after(503, 86_400), Reaction::After(Some(MAX_RETRY_AFTER)));
        assert!(matches!(after(404, 7), Reaction::NeedsOperator(_)));
    }
}
