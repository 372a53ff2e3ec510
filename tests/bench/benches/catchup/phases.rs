//! What is done, one after the other, and what was seen of it.

use std::path::Path;
use std::time::Duration;

use bench::cpu_time_of;
use bench::helper::Helper;

use crate::backlog::Objects;
use crate::stand_ins::told;
use crate::watch::{Peaks, Sample, Watch};

/// The live stream alone, before there is a backlog.
const ALONE: Duration = Duration::from_secs(20);
/// What hits that were sent last may take until they are durable.
const REST: Duration = Duration::from_secs(1);

/// From one sample to another.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) from: Sample,
    pub(crate) to: Sample,
}

/// All that was seen.
pub(crate) struct Seen {
    /// Parts at full speed, with everything up, before the backlog and after it: to S3 and into the table.
    pub(crate) together: [(Span, Span); 2],
    /// Parts at full speed to S3 while Redshift is away, then into the table, with nothing else to do.
    pub(crate) alone: [(Span, Span); 2],
    /// Live hits and nothing else.
    pub(crate) live: Span,
    /// The backlog into the log, while both are away.
    pub(crate) away: Span,
    /// Processor time of the stand-ins meanwhile: they make the stream.
    pub(crate) made: Duration,
    /// Out of the log, from when S3 is back.
    pub(crate) to_s3: Span,
    /// Into the table, from when Redshift is back.
    pub(crate) to_table: Span,
    pub(crate) objects: Objects,
    /// Before the backlog, with it in the log, with it in S3, and at the end.
    pub(crate) peaks: [Peaks; 4],
}

pub(crate) async fn run(
    watch: &mut Watch,
    process: &mut Helper,
    dir: &Path,
    part: u64,
    backlog: u64,
) -> Seen {
    let together = at_full_speed(watch, process, part, false).await;
    let alone = at_full_speed(watch, process, part, true).await;
    watch.until_put_away(dir).await;
    process.tell(told::LIVE).unwrap();
    let from = watch.look().await;
    watch.during(ALONE).await;
    let live = Span { from, to: watch.look().await };
    process.tell(told::NO_MORE).unwrap();
    watch.during(REST).await;
    let before = watch.peaks();

    process.tell(told::S3_GOES).unwrap();
    process.tell(told::REDSHIFT_GOES).unwrap();
    let cpu = cpu_time_of(&process.id());
    let from = watch.look().await;
    process.tell(told::BACKLOG).unwrap();
    let all = from.durable + backlog;
    let to = watch.until("the backlog is durable", |sample| sample.durable >= all).await;
    let (away, made) = (Span { from, to }, cpu_time_of(&process.id()) - cpu);
    let in_log = watch.peaks();

    process.tell(told::LIVE).unwrap();
    watch.during(REST).await;
    process.tell(told::S3_COMES).unwrap();
    let from = watch.look().await;
    let to = watch.until("the backlog is in S3", |sample| sample.in_s3 >= all).await;
    let to_s3 = Span { from, to };
    let (in_s3, objects) = (watch.peaks(), Objects::below(dir));

    process.tell(told::REDSHIFT_COMES).unwrap();
    let from = watch.look().await;
    let to = watch.until("the backlog is in the table", |sample| sample.loaded >= all).await;
    let to_table = Span { from, to };
    let peaks = [before, in_log, in_s3, watch.peaks()];

    process.tell(told::NO_MORE).unwrap();
    // The last live hits are sealed by age.
    let rest = watch.look().await.durable;
    watch.until("the last live hits are in the table", |sample| sample.loaded >= rest).await;
    watch.until_put_away(dir).await;
    let alone = [alone, at_full_speed(watch, process, part, true).await];
    watch.until_put_away(dir).await;
    let together = [together, at_full_speed(watch, process, part, false).await];
    Seen { together, alone, live, away, made, to_s3, to_table, objects, peaks }
}

/// Sends a part and waits until it is in the table; Redshift may be away until all of it is in S3.
async fn at_full_speed(watch: &mut Watch, process: &mut Helper, part: u64, apart: bool) -> (Span, Span) {
    if apart {
        process.tell(told::REDSHIFT_GOES).unwrap();
    }
    let from = watch.look().await;
    let all = from.durable + part;
    process.tell(told::PART).unwrap();
    let to = watch.until("a part is in S3", |sample| sample.in_s3 >= all).await;
    let to_s3 = Span { from, to };
    let mut from = from;
    if apart {
        process.tell(told::REDSHIFT_COMES).unwrap();
        from = to;
    }
    let to = watch.until("a part is in the table", |sample| sample.loaded >= all).await;
    (to_s3, Span { from, to })
}
