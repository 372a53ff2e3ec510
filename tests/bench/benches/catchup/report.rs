//! The figures as text.

use shared::human::count;

use crate::live::Edge;
use crate::phases::{Seen, Span};
use crate::stand_ins::Saw;
use crate::watch::{Peaks, Watch, rate, seconds};

/// Rows a second are taken between these shares of the way: at its ends a batch waits for its age, or a program for its next try.
const OF_A_PART: (f64, f64) = (0.1, 0.8);
const OF_THE_BACKLOG: (f64, f64) = (0.05, 0.95);

/// What is to be reached.
const RATIO: f64 = 0.9;
const PEAK_BYTES: u64 = 200_000_000;

/// One line of the first table.
struct Line<'a> {
    name: &'a str,
    span: &'a Span,
    rows: u64,
    rate: f64,
}

impl<'a> Line<'a> {
    fn head() {
        println!(
            "{:<42}{:>8}  {:>16}  {:>16}  {:>10}  {:>7}  {:>6}",
            "", "rows/s", "of everything up", "of each by itself", "rows", "seconds", "others"
        );
    }

    fn to_s3(name: &'a str, span: &'a Span, watch: &Watch, shares: (f64, f64)) -> Self {
        let rate = rate(watch.between(&span.from, &span.to), |sample| sample.in_s3, shares);
        Self { name, span, rows: span.to.in_s3 - span.from.in_s3, rate }
    }

    /// From the first statement after a wait for Redshift to the end of the last COPY.
    fn into_table(name: &'a str, span: &'a Span, saw: &Saw) -> Self {
        let begun = saw.statements.iter().find(|at| **at >= span.from.at).unwrap();
        let ended = saw.copied.iter().rfind(|at| **at <= span.to.at).unwrap();
        let rows = span.to.loaded - span.from.loaded;
        Self { name, span, rows, rate: rows as f64 / seconds(*begun, *ended) }
    }

    fn to_log(name: &'a str, span: &'a Span) -> Self {
        let rows = span.to.durable - span.from.durable;
        Self { name, span, rows, rate: rows as f64 / seconds(span.from.at, span.to.at) }
    }

    /// Beside undisturbed rates, if it has any.
    fn print(&self, undisturbed: &[f64]) {
        let ratios: Vec<String> = undisturbed.iter().map(|rate| format!("{:.2}", self.rate / rate)).collect();
        let ratio = |at: usize| ratios.get(at).map_or("", String::as_str);
        let Span { from, to } = self.span;
        println!(
            "  {:<40}{:>8.0}  {:>16}  {:>17}  {:>10}  {:>7.1}  {:>6.2}",
            self.name,
            self.rate,
            ratio(0),
            ratio(1),
            self.rows,
            seconds(from.at, to.at),
            to.usage.cores_of_others(&from.usage)
        );
    }
}

pub(crate) fn print(seen: &Seen, watch: &Watch, saw: &Saw) {
    Line::head();
    let undisturbed = |parts: &[(Span, Span); 2]| {
        let lines = parts.iter().map(|(to_s3, into_table)| {
            let to_s3 = Line::to_s3("to S3", to_s3, watch, OF_A_PART);
            let into_table = Line::into_table("into the table", into_table, saw);
            to_s3.print(&[]);
            into_table.print(&[]);
            [to_s3.rate, into_table.rate]
        });
        let [before, after]: [[f64; 2]; 2] = lines.collect::<Vec<_>>().try_into().unwrap();
        [0, 1].map(|at| [before[at], after[at]])
    };
    println!("undisturbed, everything up; before and after");
    let together = undisturbed(&seen.together);
    println!("undisturbed, each by itself; before and after");
    let alone = undisturbed(&seen.alone);
    println!("the backlog");
    Line::to_log("S3 and Redshift away: into the log", &seen.away).print(&[]);
    let to_s3 = Line::to_s3("S3 back: from the log to S3", &seen.to_s3, watch, OF_THE_BACKLOG);
    let into_table = Line::into_table("Redshift back: from S3 into the table", &seen.to_table, saw);
    let mut least = [f64::MAX; 2];
    for (at, line) in [to_s3, into_table].iter().enumerate() {
        let [together, alone] = [together[at], alone[at]].map(|[before, after]| f64::midpoint(before, after));
        line.print(&[together, alone]);
        least = [least[0].min(line.rate / together), least[1].min(line.rate / alone)];
    }
    println!();
    let apart = |[before, after]: [f64; 2]| (before - after).abs() / f64::midpoint(before, after) * 100.0;
    let [a, b, c, d] = [together[0], together[1], alone[0], alone[1]].map(apart);
    println!("before and after lie apart by {a:.0}% and {b:.0}%, each by itself by {c:.0}% and {d:.0}%");
    notes(seen, watch, saw);
    edges(seen, watch, saw);
    peaks(seen);
    let Peaks { producer, ingester } = seen.peaks[3];
    let (most, peak) = (PEAK_BYTES as f64 / 1e6, producer.max(ingester) as f64 / 1e6);
    println!("\n{:<42}{:>8}  {:>16}", "goals", "goal", "reached");
    for (name, least) in ["of everything up, at least", "of each by itself, at least"].into_iter().zip(least)
    {
        println!("  {name:<40}{RATIO:>8.2}  {least:>16.2}");
    }
    println!("  {:<40}{most:>8.0}  {peak:>16.0}", "peak memory, MB, at most");
}

fn notes(seen: &Seen, watch: &Watch, saw: &Saw) {
    let objects = &seen.objects;
    println!(
        "the backlog and what came with it: {} rows in {} batches and {} files of {:.2} MB; {:.1} GB in S3, {:.1} GB of log",
        count(objects.rows),
        count(objects.batches as u64),
        count(objects.files as u64),
        objects.bytes as f64 / objects.files as f64 / 1e6,
        objects.bytes as f64 / 1e9,
        watch.samples.iter().map(|sample| sample.disk).max().unwrap() as f64 / 1e9
    );
    let draining = watch.between(&seen.to_s3.from, &seen.to_s3.to);
    let first = draining.iter().find(|sample| sample.in_s3 > seen.to_s3.from.in_s3).unwrap();
    let statement = saw.statements.iter().find(|at| **at >= seen.to_table.from.at).unwrap();
    println!(
        "noticed after {:.1} s that S3 was back, after {:.1} s that Redshift was",
        seconds(seen.to_s3.from.at, first.at),
        seconds(seen.to_table.from.at, *statement)
    );
    let rows = (seen.away.to.durable - seen.away.from.durable) as f64;
    println!(
        "to make the stream of the backlog took the stand-ins {:.1} µs of processor time a record, on the same cores\n",
        seen.made.as_secs_f64() * 1e6 / rows
    );
}

/// Live hits before and during the draining.
fn edges(seen: &Seen, watch: &Watch, saw: &Saw) {
    println!("{:<30}{:>10}  {:>12}  {:>6}", "live hits, until durable", "accepted/s", "ms, middle", "worst");
    for (name, span) in [
        ("nothing else", &seen.live),
        ("while S3 gets the backlog", &seen.to_s3),
        ("while the table gets it", &seen.to_table),
    ] {
        let edge = Edge::of(watch.between(&span.from, &span.to), &saw.live);
        println!("  {name:<28}{:>10.0}  {:>12.0}  {:>6.0}", edge.rate, edge.p50, edge.worst);
    }
}

fn peaks(seen: &Seen) {
    println!("\n{:<30}{:>10}  {:>12}", "peak memory until then, MB", "producer", "ingester");
    let names = ["before the backlog", "with the backlog in the log", "in S3", "in the table"];
    for (name, Peaks { producer, ingester }) in names.iter().zip(&seen.peaks) {
        println!("  {name:<28}{:>10.0}  {:>12.0}", *producer as f64 / 1e6, *ingester as f64 / 1e6);
    }
}
