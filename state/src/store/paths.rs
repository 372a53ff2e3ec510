//! The files of a database, below its directory.

/// The directory of sled's files.
pub(super) const SLED: &str = "sled";
/// The file that sled keeps its log in.
pub(super) const DATABASE: &str = "sled/db";
/// The number of the last durable commit.
pub(super) const ACCEPTED: &str = "accepted";
/// Which empty segments were never used.
pub(super) const SPARE: &str = "spare";
/// Says that the disk has failed.
pub(super) const DISK_ERROR: &str = "disk-error";
/// The copy that is checked in place of a doubtful database.
pub(super) const COPY: &str = "copy-to-check";
/// The number of the process that owns the database.
pub(super) const OWNER: &str = "owner.pid";
