//! Whether a service could open its database, tried without opening it: for a check, which may run beside the service.

use std::path::Path;

use shared::dirs;
use shared::exit::Failure;

use crate::store::error::StoreError;
use crate::store::label::Kind;
use crate::store::{lock, paths};

/// Makes the directory if it is missing, writes a file in it, and removes what it made. Says how it ended, and who has the
/// database open.
pub fn try_dir(dir: &Path, kind: Kind) -> Result<String, Failure> {
    let key = kind.dir_key();
    let told = dirs::try_out(key, dir)?.told(dir);
    let files = [paths::DATABASE, paths::ACCEPTED, paths::SPARE, paths::OWNER].map(|name| dir.join(name));
    dirs::try_files(key, dir, &files)?;
    if !lock::in_use(dir).map_err(StoreError::at(dir))? {
        return Ok(told);
    }
    let holder = lock::holder(dir).map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
    Ok(format!("{told}; {holder} has its database open"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn a_directory_is_tried_and_left_as_it_was_also_beside_the_service() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("log");
        let told = try_dir(&dir, Kind::Producer).unwrap();
        assert!(told.contains("is missing; the first start makes it") && !dir.exists(), "{told}");
        let store = Store::open(&dir, Kind::Producer, "a", 1 << 20, |_| Ok(())).unwrap();
        let told = try_dir(&dir, Kind::Producer).unwrap();
        assert!(told.ends_with(&format!("process {} has its database open", std::process::id())), "{told}");
        drop(store);
        assert_eq!(try_dir(&dir, Kind::Producer).unwrap(), format!("{} can be written", dir.display()));
    }
}
