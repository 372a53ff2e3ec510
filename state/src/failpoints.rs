//! Named points between the durable steps of a database's owner, at which a test can end the process. Without a test a point
//! costs one atomic load.

use std::sync::OnceLock;

/// Every point, in the order a database lives through them.
pub const ALL: [&str; 24] = [
    // Opening: the directory exists; sled has opened its file; the label is durable; the names of the files are.
    "open.made",
    "open.opened",
    "open.labelled",
    "open.synced",
    // Resuming: nothing is changed yet; batches know where they go; sessions of a killed process are ended.
    "resume.begun",
    "resume.found",
    "resume.ended",
    // A commit, of rows or of a session: not written; written, not flushed; flushed, not synced; synced, `accepted`
    // is old; durable, not yet reported.
    "commit.begun",
    "commit.applied",
    "sync.flushed",
    "commit.synced",
    "commit.durable",
    // The beginning or the end of a session is durable.
    "session.started",
    "session.ended",
    // Which rejects go to S3 next is noted, not durable.
    "rejects.chosen",
    // What S3 confirmed: not noted; noted; some of the rows of a file are dropped.
    "uploaded.begun",
    "uploaded.applied",
    "uploaded.dropping",
    "published.begun",
    "published.applied",
    "rejects.begun",
    "rejects.applied",
    // An orderly stop: not begun; all of it is durable.
    "close.begun",
    "close.durable",
];

type Watcher = Box<dyn Fn(&'static str) + Send + Sync>;

static WATCHER: OnceLock<Watcher> = OnceLock::new();

/// The process has come to the point of this name.
pub fn reached(name: &'static str) {
    if let Some(watcher) = WATCHER.get() {
        watcher(name);
    }
}

/// Calls `watcher` at every point from now on. The first watcher stays. For tests only.
pub fn watch(watcher: impl Fn(&'static str) + Send + Sync + 'static) {
    let _first_stays = WATCHER.set(Box::new(watcher));
}
