//! The producer's alerts.

use std::time::Duration;

use shared::human::{bytes, count, counted, duration, time};

use super::rule::{About, Found, Level, Rule, Seen, Watched};
use crate::log::BatchStatus;
use crate::status::activity::Component;
use crate::status::snapshot::{BatchSnapshot, ProducerSnapshot};

/// What a producer knows of itself.
#[derive(Debug)]
pub struct ProducerFigures {
    /// Its log, and what its components are doing.
    pub snapshot: ProducerSnapshot,
    /// Sessions that ended because they could not be read, since the start.
    pub damaged_sessions: u64,
    /// Values their column's type has no form for, since the start, by column.
    pub nulled: Vec<(String, u64)>,
}

impl Watched for ProducerFigures {
    const SERVICE: &'static str = "producer";

    fn rules() -> &'static [Rule<Self>] {
        PRODUCER
    }

    fn counters(&self) -> Vec<(String, u64)> {
        let ProducerSnapshot { totals, gaps, .. } = &self.snapshot;
        let fixed = [
            (GAPS, gaps.totals.gaps),
            (RECEIVED, totals.received),
            (REJECTED, totals.rejected),
            (DAMAGED, self.damaged_sessions),
        ];
        let fixed = fixed.into_iter().map(|(name, value)| (name.to_owned(), value));
        fixed.chain(self.nulled.iter().map(|(column, value)| (nulled(column), *value))).collect()
    }

    fn lasting() -> &'static [&'static str] {
        &[GAPS]
    }
}

const GAPS: &str = "gaps";
const RECEIVED: &str = "received";
const REJECTED: &str = "rejected";
const DAMAGED: &str = "damaged";

fn nulled(column: &str) -> String {
    format!("nulled {column}")
}

/// What counts as lately, as `[15m]` in the expressions.
const LATELY: Duration = Duration::from_secs(15 * 60);
/// Fewer say nothing about a share, as in the expressions.
const FEW: u64 = 10;

type On<'s> = Seen<'s, ProducerFigures>;

impl On<'_> {
    fn lately(&self, counter: &str) -> u64 {
        self.growth.of(counter, LATELY)
    }

    /// How many of a hundred records received lately.
    fn share(&self, of: u64) -> f64 {
        let received = self.lately(RECEIVED);
        if of < FEW || received == 0 { 0.0 } else { 100.0 * of as f64 / received as f64 }
    }

    /// The sealed batch that has waited longest for S3.
    fn oldest_sealed(&self) -> Option<&BatchSnapshot> {
        let sealed = self.figures.snapshot.batches.iter().filter(|batch| batch.status == BatchStatus::Sealed);
        sealed.filter(|batch| batch.sealed.is_some()).min_by_key(|batch| batch.sealed)
    }

    fn failing_of(&self, component: Component) -> Option<Found> {
        self.failing(&self.figures.snapshot.components, component)
    }
}

/// Every alert of the producer, in the order of the data.
pub static PRODUCER: &[Rule<ProducerFigures>] = &[
    Rule {
        about: About {
            name: "stream_failing",
            figures: &[r#"livestream_producer_failing_seconds{component="stream"}"#],
            expr: r#"livestream_producer_failing_seconds{component="stream"}"#,
            levels: &[Level::warning(30.0), Level::critical(300.0)],
            ends: 0.0,
            says: "the stream is not connected",
            todo: "run `producer check`; it says what to do about token, stream and network",
            anchor: "adobe-refuses-the-stream",
            note: "no connection was made since; `livestream_producer_failures_total` has the `class`: the status of the answer, `network`, `token`, `redirect`, `ended`, `damaged`",
            ..About::PLAIN
        },
        measure: |seen| seen.failing_of(Component::Stream),
    },
    Rule {
        about: About {
            name: "connections_missing",
            figures: &["livestream_producer_connections"],
            measures: "`adobe.connections` less this",
            expr: "livestream_producer_connections_wanted - livestream_producer_connections",
            levels: &[Level::warning(0.0).held(600)],
            ends: 0.0,
            says: "fewer connections to the stream are open than adobe.connections asks for",
            todo: "run `state dump`: it names the connection and why it is not open",
            anchor: "adobe-refuses-the-stream",
            note: "the others read its share",
        },
        measure: |seen| {
            let snapshot = &seen.figures.snapshot;
            let open = snapshot.sessions.iter().filter(|session| session.ended.is_none()).count() as u64;
            let missing = snapshot.connections.saturating_sub(open);
            Some(Found::new(missing as f64, format!("{open} of {} are open", snapshot.connections)))
        },
    },
    Rule {
        about: About {
            name: "stream_behind",
            figures: &["livestream_producer_stream_behind_seconds"],
            expr: "livestream_producer_stream_behind_seconds",
            levels: &[Level::warning(1_800.0), Level::critical(7_200.0)],
            ends: 1_800.0,
            says: "what the stream brings is old, or it brings nothing",
            todo: "run `state dump`: if the stream is connected, look at Adobe's status page and at the traffic of the site; if it is too fast for one connection, raise adobe.connections",
            anchor: "several-connections",
            note: "Adobe itself takes up to five minutes, fifteen with A4T. No sample before the first hit",
            ..About::PLAIN
        },
        measure: |seen| {
            let newest = seen.figures.snapshot.newest_hit()?;
            let detail = format!("Adobe received the newest hit at {}", time(newest));
            Some(Found::new(seen.seconds(newest), detail).since(newest))
        },
    },
    Rule {
        about: About {
            name: "gaps",
            figures: &["livestream_producer_gaps_total"],
            measures: "growth in 15m",
            expr: "increase(livestream_producer_gaps_total[15m])",
            levels: &[Level::warning(0.0)],
            ends: 0.0,
            says: "hits are missing: the stream was not read for a time, and they were not sent again",
            todo: "run `state dump`: it names the times, and why the session before ended",
            anchor: "gaps",
            note: "the log and `state dump` name the times",
        },
        measure: |seen| {
            let grown = seen.lately(GAPS);
            let latest = seen.figures.snapshot.gaps.list.last();
            let latest = latest.map(|gap| {
                let length = duration(Duration::from_secs(gap.seconds));
                format!("; the latest from {} to {}, {length}", time(gap.from), time(gap.to))
            });
            let detail = format!("{}{}", counted(grown, "gap", "gaps"), latest.unwrap_or_default());
            Some(Found::new(grown as f64, detail))
        },
    },
    Rule {
        about: About {
            name: "stream_damaged",
            figures: &["livestream_producer_damaged_sessions_total"],
            measures: "growth in 15m",
            expr: "increase(livestream_producer_damaged_sessions_total[15m])",
            levels: &[Level::warning(0.0)],
            ends: 0.0,
            says: "the stream cannot be read in places",
            todo: "look at what stands between Adobe and the producer; if nothing does, Adobe's format is new",
            anchor: "damaged-stream",
            note: "something between Adobe and the producer damages the stream, or Adobe's format is new",
        },
        measure: |seen| {
            let grown = seen.lately(DAMAGED);
            let detail = format!("{} ended so in 15 minutes", counted(grown, "session", "sessions"));
            Some(Found::new(grown as f64, detail))
        },
    },
    Rule {
        about: About {
            name: "records_rejected",
            figures: &[r#"livestream_producer_records_total{outcome="rejected"}"#],
            measures: "percent of the records received in 15m, if ten or more",
            expr: r#"100 * sum without (outcome) (increase(livestream_producer_records_total{outcome="rejected"}[15m])) / increase(livestream_producer_received_records_total[15m]) and sum without (outcome) (increase(livestream_producer_records_total{outcome="rejected"}[15m])) >= 10"#,
            levels: &[Level::warning(1.0)],
            ends: 1.0,
            says: "many records cannot become rows",
            todo: "count the rejects in S3 by their code, correct the schema or the path of the stream, and replay them",
            anchor: "rejects",
            ..About::PLAIN
        },
        measure: |seen| {
            let rejected = seen.lately(REJECTED);
            let received = count(seen.lately(RECEIVED));
            let detail = format!("{} of {received} in 15 minutes", counted(rejected, "reject", "rejects"));
            Some(Found::new(seen.share(rejected), detail))
        },
    },
    Rule {
        about: About {
            name: "values_nulled",
            figures: &["livestream_producer_nulled_values_total"],
            measures: "of one `column`, percent of the records received in 15m, if ten or more",
            expr: "100 * max without (column) (increase(livestream_producer_nulled_values_total[15m])) / increase(livestream_producer_received_records_total[15m]) and max without (column) (increase(livestream_producer_nulled_values_total[15m])) >= 10",
            levels: &[Level::warning(1.0)],
            ends: 1.0,
            says: "values of a column do not fit its type and become NULL",
            todo: "run `producer schema --explain record.json` with a record of today, and change the type of the column",
            anchor: "what-becomes-of-a-field",
            note: "the type of the column does not fit what is sent",
        },
        measure: |seen| {
            let columns =
                seen.figures.nulled.iter().map(|(column, _)| (seen.lately(&nulled(column)), column));
            let (grown, column) = columns.max()?;
            let detail = format!("{} of {column} in 15 minutes", counted(grown, "value", "values"));
            Some(Found::new(seen.share(grown), detail))
        },
    },
    Rule {
        about: About {
            name: "drift",
            figures: &["livestream_producer_drifted_fields"],
            measures: "of all kinds together",
            expr: "sum without (kind) (livestream_producer_drifted_fields)",
            levels: &[Level::warning(0.0)],
            ends: 0.0,
            says: "the stream is not as it was: fields came, columns dry up or meet their limits",
            todo: "run `producer schema --seen`, compare with Adobe's release notes and the site, and change the schema",
            anchor: "the-stream-changes",
            note: "by `kind`, for 24 hours after each was told; then the new state is the usual one",
        },
        measure: |seen| {
            let drift = seen.figures.snapshot.drift.as_ref()?.said();
            let since = drift.drifted.iter().map(|one| one.at).min()?;
            let found = Found::new(drift.drifted.len() as f64, drift.lines().join("; "));
            Some(found.since(since).rounds(drift.rounds))
        },
    },
    Rule {
        about: About {
            name: "log_filling",
            figures: &["livestream_producer_log_waiting_bytes"],
            measures: "percent of `livestream_producer_log_max_bytes`",
            expr: "100 * livestream_producer_log_waiting_bytes / livestream_producer_log_max_bytes",
            levels: &[Level::warning(80.0)],
            ends: 60.0,
            says: "the log fills up: when it is full, the stream is not read",
            todo: "run `producer check` and repair the access to S3; raise log.max_bytes if the disk has room",
            anchor: "log-full",
            ..About::PLAIN
        },
        measure: |seen| {
            let ProducerSnapshot { waiting_bytes, max_bytes, .. } = &seen.figures.snapshot;
            let (waiting, max) = ((*waiting_bytes)?, (*max_bytes)?.max(1));
            let detail = format!("{} of {} (log.max_bytes) wait for S3", bytes(waiting), bytes(max));
            Some(Found::new(100.0 * waiting as f64 / max as f64, detail))
        },
    },
    Rule {
        about: About {
            name: "log_full",
            figures: &["livestream_producer_log_full"],
            expr: "livestream_producer_log_full",
            levels: &[Level::critical(0.0)],
            ends: 0.0,
            says: "the log is full: the stream is not read until S3 takes rows",
            todo: "run `producer check` and repair the access to S3; Adobe holds hits for a limited time",
            anchor: "log-full",
            note: "the stream is not read until S3 takes rows. `livestream_producer_log_waiting_bytes` is what waits, `livestream_producer_log_max_bytes` the limit, `livestream_producer_log_disk_bytes` what the disk takes",
            ..About::PLAIN
        },
        measure: |seen| {
            let ProducerSnapshot { components, waiting_bytes, max_bytes, .. } = &seen.figures.snapshot;
            let ours = components.iter().filter(|status| status.component == Component::Log);
            let full =
                ours.filter_map(|status| status.failing.as_ref()).find(|failing| failing.class == "full")?;
            let (waiting, max) = (waiting_bytes.unwrap_or_default(), max_bytes.unwrap_or_default());
            let detail = format!("{} of {} (log.max_bytes) wait for S3", bytes(waiting), bytes(max));
            Some(Found::new(1.0, detail).since(full.since))
        },
    },
    Rule {
        about: About {
            name: "upload_failing",
            figures: &[r#"livestream_producer_failing_seconds{component="upload"}"#],
            expr: r#"livestream_producer_failing_seconds{component="upload"}"#,
            levels: &[Level::warning(30.0), Level::critical(300.0)],
            ends: 0.0,
            says: "S3 takes no uploads",
            todo: "run `producer check` and repair the access to S3; rows wait in the log meanwhile",
            anchor: "s3-refuses",
            note: "`livestream_producer_failures_total` has the `class`: `passing` (network, throttling, S3 itself), `configuration` (needs an operator), `not_found`",
            ..About::PLAIN
        },
        measure: |seen| {
            let found = seen.failing_of(Component::Upload)?;
            let batch = seen.oldest_sealed().map(|batch| batch.batch);
            Some(found.batch(batch))
        },
    },
    Rule {
        about: About {
            name: "upload_unanswered",
            figures: &[r#"livestream_producer_step_seconds{component="upload"}"#],
            expr: r#"livestream_producer_step_seconds{component="upload"}"#,
            levels: &[Level::warning(45.0), Level::critical(300.0)],
            ends: 10.0,
            says: "S3 answers no upload",
            todo: "run `producer check`, and look at the network and its proxy; if files are large for the line, lower batch.max_file_bytes",
            anchor: "s3-refuses",
            note: "since the latest answer of any",
            ..About::PLAIN
        },
        measure: |seen| seen.step(&seen.figures.snapshot.components, Component::Upload),
    },
    Rule {
        about: About {
            name: "batch_not_uploaded",
            figures: &["livestream_producer_oldest_sealed_batch_seconds"],
            expr: "livestream_producer_oldest_sealed_batch_seconds",
            levels: &[Level::warning(600.0), Level::critical(3_600.0)],
            ends: 600.0,
            says: "sealed batches do not get into S3",
            todo: "run `producer check`; if S3 takes uploads and is only slow, raise s3.uploads",
            anchor: "s3-refuses",
            note: "the producer cannot upload to S3, or more slowly than rows come",
            ..About::PLAIN
        },
        measure: |seen| {
            let oldest = seen.oldest_sealed()?;
            let sealed = oldest.sealed?;
            let files = format!("{} of {} files are in S3", oldest.files_uploaded, oldest.files);
            let detail =
                format!("{files}, {} wait", counted(seen.figures.snapshot.rows_to_upload, "row", "rows"));
            Some(Found::new(seen.seconds(sealed), detail).since(sealed).batch(Some(oldest.batch)))
        },
    },
    Rule {
        about: About {
            name: "producer_reload_refused",
            figures: &["livestream_producer_config_last_reload_successful"],
            measures: "0 of this is 1",
            expr: "1 - livestream_producer_config_last_reload_successful",
            levels: &[Level::warning(0.0)],
            ends: 0.0,
            says: "the latest reload of the configuration was refused; the producer goes on with the one it has",
            todo: "correct what the detail names, then reload again; a restart would end with code 78",
            anchor: "changing-the-configuration-while-it-runs",
            ..About::PLAIN
        },
        measure: |seen| seen.refused_reload(seen.figures.snapshot.configuration.as_ref()),
    },
];
