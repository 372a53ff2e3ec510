//! The tree shows the flow. The `mod` lines of a `lib.rs` or `mod.rs` stand in the order in which the data passes, and a
//! file knows only what is below it or declared after it. So there are no circles, and no import runs up.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use house::{CRATES, Module, modules};

/// The deepest module that a path leads to.
fn target<'m>(by_path: &BTreeMap<&[String], &'m Module>, path: &[String]) -> &'m Module {
    (0..=path.len()).rev().find_map(|length| by_path.get(&path[..length]).copied()).unwrap()
}

/// What is wrong with a use of `used` by `user`.
fn fault(by_path: &BTreeMap<&[String], &Module>, user: &Module, used: &Module) -> Option<&'static str> {
    let (from, to) = (user.path.as_slice(), used.path.as_slice());
    if to.starts_with(from) {
        return None;
    }
    if from.starts_with(to) {
        return Some("is a folder that it lies in: give what both use a file of its own");
    }
    let fork = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    let order = &by_path[&from[..fork]].children;
    let place = |path: &[String]| {
        let declared = order.iter().position(|child| *child == path[fork]);
        declared.unwrap_or_else(|| panic!("{from:?} or {to:?}: {} is no module of {order:?}", path[fork]))
    };
    (place(from) > place(to)).then_some("is declared before it: the arrow runs up")
}

fn faults(modules: &[Module]) -> BTreeSet<String> {
    let by_path: BTreeMap<&[String], &Module> =
        modules.iter().map(|module| (module.path.as_slice(), module)).collect();
    let mut faults = BTreeSet::new();
    for user in modules {
        for path in &user.uses {
            let used = target(&by_path, path);
            if let Some(fault) = fault(&by_path, user, used) {
                faults.insert(format!("{} uses {}, which {fault}", user.path.join("::"), path.join("::")));
            }
        }
    }
    faults
}

#[test]
fn no_import_runs_up() {
    for krate in CRATES {
        let modules = modules(krate);
        assert!(modules.len() > 15, "{krate}: {} modules", modules.len());
        let faults = faults(&modules);
        assert!(faults.is_empty(), "{krate}:\n{}", faults.into_iter().collect::<Vec<_>>().join("\n"));
    }
}

fn module(path: &str, children: &[&str], uses: &[&str]) -> Module {
    let parts = |text: &str| text.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let children = children.iter().map(|child| (*child).to_owned()).collect();
    Module { path: parts(path), children, uses: uses.iter().map(|path| parts(path)).collect(), lines: 1 }
}

#[test]
fn an_import_that_runs_up_is_found() {
    let house = [
        module("", &["run", "source", "upload"], &["run::run"]),
        module("run", &[], &["source::Connection", "upload::token::get"]),
        module("source", &["connect", "token"], &["source::connect"]),
        module("source::connect", &[], &["source::token::Token", "upload::put"]),
        module("source::token", &[], &["source::connect::open", "source::Connection", "run::run", "Cli"]),
        module("upload", &[], &[]),
    ];
    let found: Vec<String> = faults(&house).into_iter().collect();
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().all(|fault| fault.starts_with("source::token uses ")), "{found:?}");
}
