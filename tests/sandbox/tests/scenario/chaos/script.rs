//! What goes wrong next, by chance.

use std::time::Duration;

use adobe::{Adobe, Door, Fault as StreamFault};
use fastrand::Rng;
use redshift::{Failure, Fault, Kind, OrphanEnd, Redshift};
use sandbox::s3::{Fault as S3Fault, Operation, Refusal, S3, Side};

/// Faults that may wait for their moment, so that what strikes now was meant for now.
const WAITING: usize = 6;

fn one<T: Copy>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(..of.len())]
}

fn millis(random: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.u64(from..to))
}

/// Redshift: a statement of any kind, on any side.
pub(crate) fn redshift(random: &mut Rng, redshift: &Redshift) {
    let faults = redshift.faults();
    if faults.pending() >= WAITING {
        return;
    }
    let kinds = [
        Kind::Begin,
        Kind::Lock,
        Kind::Select,
        Kind::Copy,
        Kind::Insert,
        // Stages are made, compared and dropped.
        Kind::Ddl,
        Kind::Delete,
        Kind::Commit,
        Kind::Commit,
        Kind::Rollback,
        Kind::Any,
    ];
    let kind = one(random, &kinds);
    faults.push(match random.u32(..10) {
        0..2 => Fault::Refused(kind),
        2..5 => Fault::AppliedThenLost(kind),
        5 => Fault::Slow(kind, millis(random, 100, 3_000)),
        6 => Fault::Slow(kind, millis(random, 5_000, 15_000)),
        7 => Fault::Fails(kind, failure(random)),
        _ => {
            // Nobody commits for a client that has not said COMMIT.
            let kind = one(random, &[Kind::Lock, Kind::Copy, Kind::Insert, Kind::Commit, Kind::Commit]);
            let commits = kind == Kind::Commit && random.bool();
            let end = if commits { OrphanEnd::Commit } else { OrphanEnd::Rollback };
            let hold = if random.u32(..20) == 0 { 60_000 } else { random.u64(200..8_000) };
            Fault::Orphan { kind, hold: Duration::from_millis(hold), end }
        }
    });
}

fn failure(random: &mut Rng) -> Failure {
    match random.u32(..8) {
        0 | 1 => Failure::SerializableIsolation,
        2 => Failure::SnapshotConflict,
        3 => Failure::ResizeMode,
        4 => Failure::S3SlowDown,
        5 => Failure::S3AccessDenied,
        6 => Failure::DiskFull,
        _ => Failure::Text { message: "something that nobody has met yet".to_owned(), code: 9_999 },
    }
}

/// S3: some requests of a kind. The services' own client repeats a request twice, so that one fault alone is hidden.
pub(crate) fn s3(random: &mut Rng, s3: &S3) {
    // Those for which no request came would keep others out: not every operation meets every key.
    if s3.faults().pending() >= WAITING {
        s3.faults().clear();
    }
    let operations = [
        Operation::Get,
        Operation::Head,
        Operation::Put,
        Operation::Copy,
        Operation::Delete,
        Operation::List,
    ];
    let operation = one(random, &operations);
    let key = one(random, &["", "", "", "batch.json", "manifest.json", ".csv", "Rejected", "Quarantine"]);
    let key = if operation == Operation::List { "" } else { key };
    let side = match random.u32(..20) {
        0..4 => Side::Refused(Refusal::SlowDown),
        4..6 => Side::Refused(Refusal::InternalError),
        6 => Side::Refused(Refusal::AccessDenied),
        7..10 => Side::Cut,
        10..14 => Side::AppliedThenLost,
        14 => Side::Slow(millis(random, 100, 3_000)),
        15..17 => Side::Held(millis(random, 500, 20_000)),
        _ => Side::CutBody,
    };
    for _ in 0..random.u32(1..5) {
        s3.faults().push(S3Fault { operation: Some(operation), key: key.to_owned(), side });
    }
}

/// Adobe: what breaks a stream, or keeps it from beginning.
///
/// A redirect elsewhere ends the service, a lapse loses hits, and damage makes rejects of hits: these have scenarios of their own.
pub(crate) fn adobe(random: &mut Rng, adobe: &Adobe, rate: u64) {
    let faults = adobe.faults();
    if faults.pending() > 2 {
        return;
    }
    let after = random.u64(..2 * rate);
    let refuse = |door, status| StreamFault::Refuse { door, status, body: None };
    let fault = match random.u32(..11) {
        0..2 => StreamFault::Cut { after },
        2 => StreamFault::End { after },
        3 => StreamFault::Stall { after, lasting: millis(random, 200, 5_000) },
        4 => StreamFault::Garbage { after },
        5 => StreamFault::NotAuthorized { after },
        // These strike whoever comes next.
        other => {
            faults.push(StreamFault::Cut { after });
            match other {
                6 => StreamFault::ExpireToken,
                7 => {
                    faults.push(StreamFault::ExpireToken);
                    refuse(Door::Ims, one(random, &[429, 500, 503]))
                }
                8 => refuse(Door::Front, one(random, &[409, 424, 500, 503])),
                9 => refuse(Door::Stream, 503),
                _ => StreamFault::Replay { back: random.u64(1..40) * rate },
            }
        }
    };
    faults.push(fault);
}
