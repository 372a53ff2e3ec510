//! What to do about an answer of Livestream that is not the stream.
//! <https://developer.adobe.com/analytics-apis/docs/2.0/guides/endpoints/livestream/troubleshooting/>

use std::time::Duration;

/// What the stream loop does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Get a new token and try again.
    NewToken,
    /// Try again after this time: Adobe asks for patience.
    Wait(Duration),
    /// Try again with back-off.
    Backoff,
    /// Trying again is no use until a person has done this.
    Stop(&'static str),
}

/// Rapid reconnects are answered by 409 and 503 until about a minute has passed.
/// <https://experienceleague.adobe.com/docs/experience-cloud-kcs/kbarticles/ka-16598.html>
const PATIENCE: Duration = Duration::from_secs(60);

/// Decides by the status of the answer.
#[must_use]
pub fn to_status(status: u16) -> Reaction {
    match status {
        400 => Reaction::Stop("a parameter is wrong: check the [adobe] section"),
        401 => Reaction::NewToken,
        403 => Reaction::Stop(
            "the technical account may not read this stream: have Customer Care link its e-mail address",
        ),
        404 => Reaction::Stop("there is no such endpoint: check adobe.stream_url"),
        405 | 406 | 505 => {
            Reaction::Stop("the answer does not come from Livestream, or something between alters requests")
        }
        409 => Reaction::Wait(PATIENCE),
        424 => Reaction::Stop(
            "the stream is not enabled for this API version: GET /api/2/enable/{endpoint} once",
        ),
        503 => Reaction::Wait(PATIENCE),
        _ => Reaction::Backoff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_documented_status_has_its_own_reaction() {
        for status in [400, 403, 404, 405, 406, 424, 505] {
            assert!(matches!(to_status(status), Reaction::Stop(_)), "{status}");
        }
        assert_eq!(to_status(401), Reaction::NewToken);
        assert_eq!(to_status(409), Reaction::Wait(PATIENCE));
        assert_eq!(to_status(503), Reaction::Wait(PATIENCE));
        assert_eq!(to_status(500), Reaction::Backoff);
    }
}
