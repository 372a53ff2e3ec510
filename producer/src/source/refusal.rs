//! What to do about an answer of Livestream that is not the stream.
//! <https://developer.adobe.com/analytics-apis/docs/2.0/guides/endpoints/livestream/troubleshooting/>

use std::time::Duration;

/// What the stream loop does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// Get a new token and try again.
    NewToken,
    /// Try again after the time Adobe asked for, or the longest wait there is: Adobe asks for patience.
    Wait(Option<Duration>),
    /// Try again with back-off.
    Backoff,
    /// Trying again is no use until a person has done this.
    Stop(&'static str),
}

/// Longest wait an answer may ask for: a stream that moves is back sooner, and Adobe holds hits for a while only.
const MAX_PATIENCE: Duration = Duration::from_secs(900);

/// Decides by the status of the answer, what it says, and how long it asks to wait.
#[must_use]
pub(crate) fn to_refusal(status: u16, said: &str, retry_after: Option<Duration>) -> Reaction {
    let asked = retry_after.map(|wait| wait.min(MAX_PATIENCE));
    // Rapid reconnects are answered by 409 and 503 until about a minute has passed.
    // <https://experienceleague.adobe.com/docs/experience-cloud-kcs/kbarticles/ka-16598.html>
    let patience = Reaction::Wait(asked);
    match status {
        400 => Reaction::Stop(
            "a parameter is wrong: check adobe.max_connections, adobe.reset and adobe.smoothing_bucket_size",
        ),
        401 => Reaction::NewToken,
        403 => Reaction::Stop(
            "the technical account may not read this stream: have Customer Care link its e-mail address, and check that \
             adobe.client_id is the credential's",
        ),
        404 => Reaction::Stop("there is no such endpoint: check adobe.stream_url"),
        405 => Reaction::Stop(
            "Livestream says this to anything but GET: something between alters requests, or adobe.stream_url is wrong",
        ),
        406 => Reaction::Stop(
            "Livestream says this to requests without gzip: something between removes Accept-Encoding",
        ),
        409 if differs(said) => Reaction::Stop(
            "another client of the stream sent another maxConnections: set adobe.max_connections alike in all of them",
        ),
        409 => patience,
        424 => Reaction::Stop(
            "the stream is not enabled for this API version: GET /api/2/enable/{endpoint} once",
        ),
        429 | 503 => patience,
        505 => {
            Reaction::Stop("Livestream says this to anything but HTTP/1.1: something between alters requests")
        }
        500..=599 => asked.map_or(Reaction::Backoff, |asked| Reaction::Wait(Some(asked))),
        _ => Reaction::Backoff,
    }
}

/// Whether a conflict is about the value of `maxConnections`, and not about how many clients there are. Adobe documents
/// both under 409 and neither's text; what is not clearly the first is taken for the second, which passes by itself.
fn differs(said: &str) -> bool {
    let said = said.to_lowercase();
    let about_the_value = said.contains("maxconnections") || said.contains("max connections");
    let about_the_number = ["too many", "reached", "exceed", "maximum", "limit", "already", "in use"];
    about_the_value && !about_the_number.iter().any(|word| said.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_status(status: u16) -> Reaction {
        to_refusal(status, "", None)
    }

    #[test]
    fn each_documented_status_has_its_own_reaction() {
        let stops = [400, 403, 404, 405, 406, 424, 505].map(|status| match to_status(status) {
            Reaction::Stop(advice) => advice,
            other => panic!("{status}: {other:?}"),
        });
        let words = ["parameter", "Customer Care", "stream_url", "GET", "gzip", "/api/2/enable/", "HTTP/1.1"];
        for (advice, word) in stops.iter().zip(words) {
            assert!(advice.contains(word), "{word}: {advice}");
        }
        assert_eq!(to_status(401), Reaction::NewToken);
        assert_eq!(to_status(409), Reaction::Wait(None));
        assert_eq!(to_status(429), Reaction::Wait(None));
        assert_eq!(to_status(503), Reaction::Wait(None));
        for status in [500, 502, 504, 418, 204] {
            assert_eq!(to_status(status), Reaction::Backoff, "{status}");
        }
    }

    #[test]
    fn a_conflict_over_the_value_of_max_connections_needs_a_person_and_one_over_places_does_not() {
        for said in ["maxConnections is 2 for this stream", "All clients must send the same maxConnections"] {
            assert!(matches!(to_refusal(409, said, None), Reaction::Stop(_)), "{said}");
        }
        for said in ["maximum connections of 2 reached", "too many clients for maxConnections=1", "conflict"]
        {
            assert_eq!(to_refusal(409, said, None), Reaction::Wait(None), "{said}");
        }
    }

    #[test]
    fn an_answer_that_asks_to_wait_is_waited_for_but_not_for_hours() {
        let after = |status, seconds| to_refusal(status, "", Some(Duration::from_secs(seconds)));
        for status in [409, 429, 500, 502, 503] {
            assert_eq!(after(status, 7), Reaction::Wait(Some(Duration::from_secs(7))), "{status}");
        }
        assert_eq!(after(503, 86_400), Reaction::Wait(Some(MAX_PATIENCE)));
        assert!(matches!(after(404, 7), Reaction::Stop(_)));
    }
}
