//! Reads answers that are not the stream: a little of them, for a short time, and made fit to be shown.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Response;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use shared::human;

pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The first `max` bytes of a body, or as many as come in time.
pub(crate) async fn read_body(mut response: Response, max: usize) -> Vec<u8> {
    let mut body = Vec::new();
    let reading = async {
        while let Ok(Some(piece)) = response.chunk().await {
            body.extend_from_slice(&piece);
            if body.len() >= max {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(BODY_TIMEOUT, reading).await;
    body.truncate(max);
    body
}

/// The beginning of a text, on one line and without control characters.
pub(crate) fn one_line(text: &str, max_chars: usize) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    human::beginning(&words.collect::<Vec<_>>().join(" "), max_chars).into_owned()
}

/// `Retry-After`, in seconds or as a date, which is compared with the server's own clock if the answer has a `Date`.
pub(crate) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok();
    let retry_after = text(RETRY_AFTER)?.trim();
    if let Ok(seconds) = retry_after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text| DateTime::parse_from_rfc2822(text).ok().map(DateTime::<Utc>::from);
    (date(retry_after)? - text(DATE).and_then(date).unwrap_or(now)).to_std().ok()
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Utc.with_ymd_and_hms(2026, 5, 4, 12, 0, 0).unwrap();
        let after =
            |said: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, said.parse().unwrap())]), now);
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("Mon, 04 May 2026 12:01:30 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(after("Mon, 04 May 2026 11:00:00 GMT"), None, "past");
        assert_eq!(after("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
        let dated = HeaderMap::from_iter([
            (RETRY_AFTER, "Mon, 04 May 2026 13:01:30 GMT".parse().unwrap()),
            (DATE, "Mon, 04 May 2026 13:01:00 GMT".parse().unwrap()),
        ]);
        let half = Some(Duration::from_secs(30));
        assert_eq!(retry_after(&dated, now), half, "the clock here is an hour behind");
    }

    #[test]
    fn a_text_is_shown_on_one_line_and_not_for_ever() {
        assert_eq!(one_line("<html>\r\n  a\u{1b}[31m  b</html>", 100), "<html> a [31m b</html>");
        assert_eq!(one_line("äöü ß", 3), "äöü…");
        assert_eq!(one_line(" \n", 3), "");
    }
}
