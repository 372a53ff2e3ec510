//! Writes the files of a loaded batch anew, without the rows of the person.
//!
//! A file is never altered under its name. The new one gets a name of its own, then the seal names that one in the place
//! of the old, if it still is the seal that was read (`If-Match`), then the manifest follows, and the old one is deleted:
//! whoever reads seal and files sees what agrees, at any moment, and of two runs one begins anew. The seal also keeps the
//! names it gave up, so a run that was cut short is finished by the next:
//!
//! - the new file is there, and no seal names it: the next run puts the same file, and finds it there. One that looks for
//!   other values searches it like any file;
//! - the seal names the new file, and the old one is there, or the manifest is that of before: the old name stands in
//!   `forgotten.replaced`, and it is deleted; the manifest is compared wherever a seal has `forgotten`.
//!
//! No name is used twice (`forgotten.highest`), so whoever deletes a name that was given up, however late, deletes nothing
//! else. A file with rows of the person that no seal names goes the same way: the seal gives its name up, then it is
//! deleted, and its other rows stay beside it. `content` and `counts` of the seal stay: by them the ledger knows the batch.

use std::collections::BTreeSet;

use bytes::Bytes;
use shared::exit::{Exit, Failure};
use shared::layout::{self, Compression, MANIFEST, SEAL, file_name};
use shared::object_store::{Stored, crc32};
use shared::seal::{Forgotten, MAX_OBJECT_BYTES, Seal, SealedFile};

use crate::commands::connect::store_failed;
use crate::facts::folder::get_if_there;

use super::folder::{Attempt, Folder, Found, Sealed, given_up, number_of};
use super::report::Place;
use super::task::{Read, Task};

/// What takes the place of a file.
enum Anew {
    File(Bytes),
    /// No row is left.
    Nothing,
    /// It is reported.
    Fault,
    Changed,
}

/// The numbers that new files get.
struct Numbers {
    last: u32,
    /// Names that are about to be deleted.
    avoid: BTreeSet<String>,
}

impl Numbers {
    fn next(&mut self, folder: &Folder, compression: Compression) -> Result<String, Failure> {
        loop {
            self.last = self.last.checked_add(1).ok_or_else(|| {
                Failure::new(Exit::Data, anyhow::anyhow!("{}: no number is left for a file", folder.key))
            })?;
            let name = file_name(self.last, compression);
            if !self.avoid.contains(&name) {
                return Ok(name);
            }
        }
    }
}

impl Task<'_> {
    /// Puts files without the rows beside those that were found, has the seal name them, and deletes these.
    pub(super) async fn replace(
        &self,
        folder: &Folder,
        sealed: Sealed,
        found: Vec<Found>,
        put: &mut BTreeSet<String>,
        place: &mut Place,
    ) -> Result<Attempt, Failure> {
        let Sealed { seal: before, etag } = sealed;
        let mut seal = before.clone();
        let names = before.files.iter().map(|file| file.name.as_str());
        // What earlier attempts have put may have rows that another run took out, and nobody names it.
        let mine: Vec<String> =
            put.iter().filter(|name| !names.clone().any(|named| named == *name)).cloned().collect();
        if found.is_empty() && mine.is_empty() {
            self.mend_manifest(folder, &before).await?;
            return Ok(Attempt::Done);
        }
        let highest = before.forgotten.as_ref().map_or(0, |forgotten| forgotten.highest);
        let numbers = names.chain(given_up(&before)).filter_map(number_of);
        let mut avoid: BTreeSet<String> = found.iter().map(|found| found.name.clone()).collect();
        avoid.extend(mine.iter().cloned());
        let mut numbers = Numbers { last: numbers.max().unwrap_or_default().max(highest), avoid };
        let (mut rows, mut objects, mut replaced) = (0, 0, mine.clone());
        for found in found.into_iter().filter(|found| !mine.contains(&found.name)) {
            let content = match self.anew(folder, &found, place).await? {
                Anew::File(content) => Some(content),
                Anew::Nothing => None,
                Anew::Fault => continue,
                Anew::Changed => return Ok(Attempt::Changed),
            };
            let is_named = seal.files.iter().any(|file| file.name == found.name);
            seal.files.retain(|file| file.name != found.name);
            if let Some(content) = content {
                let (bytes, compression) = (content.len() as u64, found.form.compression);
                let (name, stored) = self.put_beside(folder, &mut numbers, compression, content).await?;
                if is_named {
                    put.insert(name.clone());
                    let Stored { etag, crc32 } = stored;
                    seal.files.push(SealedFile { name, rows: found.counted.kept(), bytes, crc32, etag });
                }
            }
            rows += found.counted.found;
            objects += 1;
            replaced.push(found.name);
        }
        if replaced.is_empty() {
            return Ok(Attempt::Done);
        }
        seal.rows = seal.files.iter().map(|file| file.rows).sum();
        seal.bytes = seal.files.iter().map(|file| file.bytes).sum();
        let highest = replaced.iter().filter_map(|name| number_of(name)).max().unwrap_or_default();
        seal.forgotten = Some(Forgotten {
            rows: before.sealed_rows().saturating_sub(seal.rows),
            sealed_bytes: before.sealed_bytes(),
            replaced: replaced.clone(),
            highest: highest.max(numbers.last),
        });
        seal.check()
            .map_err(|error| Failure::new(Exit::Software, anyhow::anyhow!("{}: {error}", folder.key)))?;
        if !self.put_seal(folder, &seal, &etag).await? {
            return Ok(Attempt::Changed);
        }
        put.clear();
        self.mend_manifest(folder, &seal).await?;
        for name in &replaced {
            self.store.delete(&folder.key_of(name)).await.map_err(store_failed)?;
        }
        place.rows_removed += rows;
        place.objects_removed += objects;
        // Whoever was at it meanwhile may have put the manifest of before, or a file of rows from before.
        Ok(if self.is_still(folder, &seal).await? { Attempt::Done } else { Attempt::Again })
    }

    /// Puts the seal over the one of this `ETag`; false if another stands there by now.
    async fn put_seal(&self, folder: &Folder, seal: &Seal, etag: &str) -> Result<bool, Failure> {
        let [_, json] = seal.manifest_and_seal(self.store.bucket(), &folder.key);
        let put = self.store.put_over(&folder.key_of(SEAL), json.into(), etag).await.map_err(store_failed)?;
        // An attempt that was not answered may have put this very seal.
        Ok(put.is_some() || self.is_still(folder, seal).await?)
    }

    async fn is_still(&self, folder: &Folder, seal: &Seal) -> Result<bool, Failure> {
        Ok(self.sealed(folder).await?.is_ok_and(|there| there.is_some_and(|there| there.seal == *seal)))
    }

    /// The manifest names the files where they are loaded from, also in an archive. Only where rows were forgotten.
    async fn mend_manifest(&self, folder: &Folder, seal: &Seal) -> Result<(), Failure> {
        if seal.forgotten.is_none() {
            return Ok(());
        }
        let key = folder.key_of(MANIFEST);
        let from = layout::folder(&self.config.s3.to_ingest, folder.batch);
        let [manifest, _] = seal.manifest_and_seal(self.store.bucket(), &from);
        let there = match get_if_there(self.store, &key).await {
            Ok(there) => there,
            // It is ours to write, whatever stands there.
            Err(error) if error.is_too_large() || error.is_in_archive() => None,
            Err(error) => return Err(store_failed(error)),
        };
        if there.is_none_or(|there| there != manifest) {
            self.store.put(&key, manifest.into()).await.map_err(store_failed)?;
        }
        Ok(())
    }

    async fn anew(&self, folder: &Folder, found: &Found, place: &mut Place) -> Result<Anew, Failure> {
        if found.counted.kept() == 0 {
            return Ok(Anew::Nothing);
        }
        let key = folder.key_of(&found.name);
        let why = match self.read(&key, MAX_OBJECT_BYTES).await? {
            Read::Content(content) if crc32(&content) == found.crc32 => {
                match self.without(&content, found.form, found.counted).await? {
                    Ok(content) => return Ok(Anew::File(content)),
                    Err(why) => why,
                }
            }
            Read::Content(_) | Read::Gone => return Ok(Anew::Changed),
            Read::Unreadable(why) => why,
        };
        place.left(key, why);
        Ok(Anew::Fault)
    }

    /// Puts a file under the next number that is free, or where an earlier run has put the same.
    async fn put_beside(
        &self,
        folder: &Folder,
        numbers: &mut Numbers,
        compression: Compression,
        content: Bytes,
    ) -> Result<(String, Stored), Failure> {
        let ours = crc32(&content);
        loop {
            let name = numbers.next(folder, compression)?;
            let key = folder.key_of(&name);
            if let Some(stored) = self.store.put_new(&key, content.clone()).await.map_err(store_failed)? {
                return Ok((name, stored));
            }
            // An earlier run, or an attempt of this one that was not answered, may have put the same.
            let there = self.store.list(&key, None).await.map_err(store_failed)?;
            let there = there.into_iter().find(|there| there.key == key);
            if let Some(there) = there.filter(|there| there.size == content.len() as u64) {
                match self.store.crc32_of(&key).await {
                    Ok(crc32) if crc32 == ours => return Ok((name, Stored { etag: there.etag, crc32 })),
                    Ok(_) => {}
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(store_failed(error)),
                }
            }
        }
    }
}
