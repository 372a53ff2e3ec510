//! Every state of the model of "the table decides" is visited. The product's rule holds; each of the others is found
//! wanting, and how is printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Instant;

use model::table::rule::Rule;
use model::table::{Deciding, NONE_TWICE, Often};
use stateright::{Checker, Model};

/// A single log, one ingester, and nothing but hits.
fn quiet(rule: Rule) -> Deciding {
    let often = Often { deliveries: 3, ..Often::default() };
    Deciding { rule, logs: 1, ingesters: 1, hits: 2, often, foreign: 0, undisturbed: false }
}

/// Two logs of one stream.
fn two_logs(rule: Rule) -> Deciding {
    Deciding { logs: 2, ..quiet(rule) }
}

/// A log and a copy of it, taken at any time, both of which go on.
fn copied(rule: Rule) -> Deciding {
    Deciding { often: Often { copies: 1, ..quiet(rule).often }, ..quiet(rule) }
}

/// A log whose window forgets.
fn forgetful(rule: Rule) -> Deciding {
    Deciding { often: Often { forgets: 1, ..quiet(rule).often }, ..quiet(rule) }
}

/// A ledger that is trimmed.
fn trimmed(rule: Rule) -> Deciding {
    Deciding { often: Often { trims: 1, ..quiet(rule).often }, ..two_logs(rule) }
}

/// A table that another tool filled.
fn filled_before(rule: Rule) -> Deciding {
    Deciding { foreign: 0b1, ..quiet(rule) }
}

/// Three hits, so that a batch may have rows between its first and its last.
fn wide(rule: Rule) -> Deciding {
    Deciding { hits: 3, often: Often { deliveries: 4, ..Often::default() }, ..two_logs(rule) }
}

/// Visits every state; all properties hold, and what should be possible is.
fn holds(model: Deciding) {
    let (told, begun) = (format!("{model:?}"), Instant::now());
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!("{told}: {} states, {:.2} s", checker.unique_state_count(), begun.elapsed().as_secs_f64());
    checker.assert_properties();
}

/// Looks until a hit is in the table twice, and prints how.
fn doubles(model: Deciding) {
    let (told, begun) = (format!("{model:?}"), Instant::now());
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!("{told}: {} states, {:.2} s", checker.unique_state_count(), begun.elapsed().as_secs_f64());
    let path = checker.discovery(NONE_TWICE).unwrap_or_else(|| panic!("nobody misses it: {told}"));
    path.into_actions().iter().for_each(|act| println!("    {act:?}"));
}

#[test]
fn an_undisturbed_producer_is_loaded_the_plain_way_also_when_it_starts_again_and_forgets() {
    let often = Often { deliveries: 3, forgets: 1, restarts: 1, faults: 1, ..Often::default() };
    holds(Deciding { hits: 3, undisturbed: true, often, ..quiet(Rule::Product) });
}

#[test]
fn two_producers_of_one_stream_and_two_ingesters_lose_and_double_nothing() {
    let model = two_logs(Rule::Product);
    let often = Often { faults: 1, ..model.often };
    holds(Deciding { ingesters: 2, often, ..model });
    holds(wide(Rule::Product));
}

#[test]
fn a_copy_of_a_log_taken_at_any_time_loses_and_doubles_nothing() {
    let model = copied(Rule::Product);
    let often = Often { restarts: 1, faults: 1, ..model.often };
    holds(Deciding { often, ..model.clone() });
    holds(Deciding { ingesters: 2, ..model });
}

#[test]
fn a_window_that_forgets_loses_and_doubles_nothing() {
    let model = forgetful(Rule::Product);
    holds(Deciding { often: Often { copies: 1, ..model.often }, ..model.clone() });
    holds(Deciding { often: Often { restarts: 1, faults: 1, ..model.often }, ..model.clone() });
    holds(Deciding { ingesters: 2, often: Often { faults: 1, ..model.often }, ..model.clone() });
    holds(Deciding { often: Often { deliveries: 4, forgets: 2, ..model.often }, ..model.clone() });
    holds(Deciding { logs: 2, ..model });
}

#[test]
fn a_trimmed_ledger_and_a_table_that_another_tool_filled_double_nothing() {
    let model = trimmed(Rule::Product);
    holds(Deciding { ingesters: 2, ..model.clone() });
    let often = Often { forgets: 1, restarts: 1, ..model.often };
    holds(Deciding { logs: 1, often, ..model });
    let model = filled_before(Rule::Product);
    let often = Often { faults: 1, trims: 1, ..model.often };
    holds(Deciding { logs: 2, often, ..model });
}

#[test]
fn without_the_staged_way_a_hit_is_doubled() {
    doubles(two_logs(Rule::NoStage));
    doubles(copied(Rule::NoStage));
    doubles(forgetful(Rule::NoStage));
    doubles(filled_before(Rule::NoStage));
}

#[test]
fn without_the_edges_of_its_time_range_a_hit_is_doubled() {
    doubles(two_logs(Rule::EdgesLeftOut));
}

#[test]
fn looked_at_before_the_lock_a_hit_is_doubled() {
    doubles(Deciding { ingesters: 2, ..two_logs(Rule::LookBeforeLock) });
}

#[test]
fn whoever_ignores_other_runs_doubles_a_hit() {
    doubles(two_logs(Rule::RunsIgnored));
    doubles(copied(Rule::RunsIgnored));
    doubles(two_logs(Rule::PairsIgnored));
}

#[test]
fn whoever_ignores_rows_that_were_not_compared_doubles_a_hit() {
    doubles(forgetful(Rule::UncomparedIgnored));
    // The batch with the hit forgotten is loaded first.
    doubles(forgetful(Rule::LaterIsTrusted));
}

#[test]
fn a_copy_that_says_it_is_the_log_or_knows_what_it_cannot_know_doubles_a_hit() {
    doubles(copied(Rule::SameRunInCopies));
    doubles(copied(Rule::FillingIsKnown));
}

#[test]
fn whoever_ignores_from_when_on_the_ledger_knows_doubles_a_hit() {
    doubles(filled_before(Rule::KnowsFromIgnored));
    doubles(trimmed(Rule::KnowsFromIgnored));
    doubles(trimmed(Rule::TrimmedTooLittle));
    doubles(Deciding { foreign: 0b1, ..trimmed(Rule::TrimmedTooEarly) });
}
