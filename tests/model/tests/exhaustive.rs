//! Every state of the model is visited. The product's order holds; each of the others is found wanting, and how is
//! printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Instant;

use model::{ADD_UP, AT_REST, BOOK, EXACTLY_ONCE, Loading, Order};
use stateright::{Checker, Model};

/// Two ingesters, one batch, three faults.
fn small(order: Order, serializable: bool) -> Loading {
    Loading { order, serializable, ingesters: 2, batches: 0b01, bad: 0, faults: 3 }
}

/// Visits every state; the properties that do not hold, each with the acts that lead there printed.
fn visit(model: Loading) -> Vec<&'static str> {
    let (told, begun) = (format!("{model:?}"), Instant::now());
    let checker = model.checker().threads(2).spawn_bfs().join();
    assert!(checker.is_done());
    let states = checker.unique_state_count();
    println!("{told}: {states} states, {:.2} s", begun.elapsed().as_secs_f64());
    let mut failed = Vec::new();
    for (name, path) in checker.discoveries() {
        if [EXACTLY_ONCE, ADD_UP, BOOK, AT_REST].contains(&name) {
            println!("  not so: {name}");
            path.into_actions().iter().for_each(|act| println!("    {act:?}"));
            failed.push(name);
        }
    }
    failed
}

/// Visits every state; all properties hold, and what should be possible is.
fn holds(model: Loading) {
    let (told, begun) = (format!("{model:?}"), Instant::now());
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!("{told}: {} states, {:.2} s", checker.unique_state_count(), begun.elapsed().as_secs_f64());
    checker.assert_properties();
}

#[test]
fn the_order_of_the_product_loads_exactly_once_at_both_levels() {
    for serializable in [false, true] {
        holds(small(Order::Product, serializable));
    }
}

#[test]
fn two_batches_together_or_apart_and_bad_rows_load_exactly_once() {
    let two = Loading { batches: 0b11, faults: 2, ..small(Order::Product, false) };
    holds(two.clone());
    holds(Loading { bad: 0b10, ..two.clone() });
    holds(Loading { bad: 0b10, serializable: true, ..two });
}

#[test]
fn three_ingesters_load_exactly_once() {
    holds(Loading { ingesters: 3, faults: 2, ..small(Order::Product, false) });
}

#[test]
fn without_the_lock_a_batch_is_doubled() {
    assert!(visit(small(Order::NoLock, false)).contains(&EXACTLY_ONCE));
    // Without any fault, too: two ingesters are enough.
    assert!(visit(Loading { faults: 0, ..small(Order::NoLock, false) }).contains(&EXACTLY_ONCE));
    // And with one ingester, when a connection breaks and its session lives on.
    assert!(visit(Loading { ingesters: 1, ..small(Order::NoLock, false) }).contains(&EXACTLY_ONCE));
}

#[test]
fn looked_at_before_the_lock_a_batch_is_doubled() {
    assert!(visit(small(Order::LookBeforeLock, false)).contains(&EXACTLY_ONCE));
    assert!(visit(Loading { faults: 0, ..small(Order::LookBeforeLock, false) }).contains(&EXACTLY_ONCE));
}

#[test]
fn at_serializable_the_database_itself_stops_those_who_do_not_lock() {
    for order in [Order::NoLock, Order::LookBeforeLock] {
        assert_eq!(visit(small(order, true)), Vec::<&str>::new());
    }
}

#[test]
fn the_other_ways_of_getting_it_wrong_are_found_too() {
    assert!(visit(small(Order::NoLook, false)).contains(&EXACTLY_ONCE));
    assert!(visit(small(Order::LedgerApart, false)).contains(&EXACTLY_ONCE));
    assert!(visit(small(Order::CommitTakenForDone, false)).contains(&BOOK));
}
