//! Removes what a kill or a power cut during an opening leaves behind, and what sled 0.34.7 then takes for damage.
//!
//! - sled ends each opening with a snapshot: it writes `snap.<number>.generating`, syncs and renames it. The next opening
//!   reads the highest `snap.*`, even a half-written one, and refuses the database for ever. The older snapshot is there
//!   until the new one has its name, so a half-written one holds nothing that was accepted.
//! - `conf` may lack its end when the process was killed before it made `db`. Without `db` nothing was accepted.
//! - sled never syncs `conf`: a power cut soon after the first start may leave parts of it as zeros. It is the same in
//!   every database of ours, so it is removed and sled writes it again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::store::lock;

/// What sled writes into `conf` for the settings all our databases have, before its checksum of four bytes.
const CONF: &[u8] = b"segment_size: 524288\nuse_compression: false\nversion: 0.34\n";
const CHECKSUM: usize = 4;

/// Removes what must not be there when sled opens the database in `inner`. A database that is in use stays as it is.
pub(super) fn remove(inner: &Path) -> Result<(), (PathBuf, io::Error)> {
    let db = inner.join("db");
    match lock::open_to_lock(&db) {
        Ok(None) => {
            // With anything else beside it, a `db` was there and is missing: that is damage, not a leftover.
            let others = |item: &fs::DirEntry| item.file_name() != "conf" && item.file_name() != "blobs";
            if read_dir(inner)?.iter().any(others) { Ok(()) } else { gone(&inner.join("conf")) }
        }
        Err(error) => Err((db, error)),
        // The lock sled takes: its holder may be writing a snapshot at this moment.
        Ok(Some(file)) if lock::hold(&file).is_ok_and(|held| held) => {
            let conf = inner.join("conf");
            if fs::read(&conf).is_ok_and(|bytes| is_cut_short(&bytes)) {
                gone(&conf)?;
            }
            for item in read_dir(inner)? {
                let path = item.path();
                if path.extension().is_some_and(|ending| ending == "generating") {
                    gone(&path)?;
                }
            }
            Ok(())
        }
        Ok(Some(_in_use)) => Ok(()),
    }
}

/// Whether part of this `conf` never reached the disk: bytes are missing or zero, and no byte differs otherwise.
fn is_cut_short(conf: &[u8]) -> bool {
    let (text, checksum) = conf.split_at(conf.len().min(CONF.len()));
    let agrees = text.iter().zip(CONF).all(|(byte, written)| byte == written || *byte == 0);
    let whole = text == CONF && checksum.len() == CHECKSUM && checksum != [0; CHECKSUM];
    agrees && !whole && checksum.len() <= CHECKSUM
}

fn read_dir(dir: &Path) -> Result<Vec<fs::DirEntry>, (PathBuf, io::Error)> {
    fs::read_dir(dir).and_then(Iterator::collect).map_err(|error| (dir.to_owned(), error))
}

fn gone(path: &Path) -> Result<(), (PathBuf, io::Error)> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err((path.to_owned(), error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Kind, Store};

    #[test]
    fn a_snapshot_or_configuration_half_written_by_a_killed_process_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("sled");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("conf"), [7; 40]).unwrap();
        drop(Store::open(dir.path(), Kind::Producer, "a", 1 << 20, |_| Ok(())).unwrap());
        let half = inner.join("snap.7FFFFFFFFFFFFFFF.generating");
        fs::write(&half, [7; 40]).unwrap();
        let store = Store::open(dir.path(), Kind::Producer, "a", 1 << 20, |_| Ok(())).unwrap();
        assert_eq!(store.instance().unwrap().to_string(), "a");
        drop(store);

        let conf = inner.join("conf");
        let whole = fs::read(&conf).unwrap();
        assert!(whole.starts_with(CONF) && whole.len() == CONF.len() + CHECKSUM, "sled writes another conf");
        let zeros = |from: usize, to: usize| {
            let mut cut = whole.clone();
            cut[from..to].fill(0);
            cut
        };
        for cut in [whole[..20].to_vec(), zeros(0, CONF.len()), zeros(CONF.len(), whole.len())] {
            fs::write(&conf, cut).unwrap();
            drop(Store::open(dir.path(), Kind::Producer, "a", 1 << 20, |_| Ok(())).unwrap());
            assert!(fs::read(&conf).unwrap() == whole);
        }
        let mut other = whole;
        other[14] ^= 1;
        fs::write(&conf, &other).unwrap();
        remove(&inner).unwrap();
        assert!(fs::read(&conf).unwrap() == other, "what is damaged and not cut short stays to be looked at");
        fs::write(&conf, CONF).unwrap();
        let _store = Store::open(dir.path(), Kind::Producer, "a", 1 << 20, |_| Ok(())).unwrap();
        // Now it is in use: what its owner is writing stays.
        fs::write(&half, b"").unwrap();
        remove(&inner).unwrap();
        assert!(half.exists());
    }
}
