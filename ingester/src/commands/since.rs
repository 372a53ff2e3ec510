//! Moments as people give and read them.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use shared::exit::{Exit, Failure};
use shared::human::Span;

/// The moment `text` means: a date, a time (RFC 3339), or a duration before `now`. Any other text is exit 64.
pub(crate) fn moment(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Failure> {
    if let Some(span) = Span::parse(text).and_then(|span| TimeDelta::from_std(span.0).ok()) {
        return now.checked_sub_signed(span).ok_or_else(|| refused(text));
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(NaiveTime::MIN).and_utc());
    }
    DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).map_err(|_| refused(text))
}

pub(crate) fn seconds(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn refused(text: &str) -> Failure {
    let error = anyhow::anyhow!(
        "{text:?} is no moment: give a duration before now (7d, 12h), a date (2026-03-02) or a time \
         (2026-03-02T14:00:00Z)"
    );
    Failure::new(Exit::Usage, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_duration_a_date_or_a_time() {
        let now = "2026-03-09T12:00:00Z".parse().unwrap();
        for (text, means) in [
            ("7d", "2026-03-02T12:00:00Z"),
            ("2026-03-02", "2026-03-02T00:00:00Z"),
            ("2026-03-02T14:00:00+02:00", "2026-03-02T12:00:00Z"),
        ] {
            assert_eq!(moment(text, now).unwrap(), means.parse::<DateTime<Utc>>().unwrap(), "{text}");
        }
        for wrong in ["", "yesterday", "2026-13-01", "7w"] {
            let refused = moment(wrong, now).unwrap_err();
            assert_eq!(refused.exit(), Exit::Usage);
            assert!(refused.to_string().contains("is no moment"), "{refused}");
        }
    }
}
