//! The folder of a batch: its files are searched, and those of a loaded batch are written anew without the rows of the
//! person ([`super::replace`]).
//!
//! The seal is read first, then the folder is listed, and both the files that the seal names and those that stand there are
//! searched. Whoever changes the folder meanwhile (another run of this command, the archive) changes its seal, or takes a
//! file away that it names: then all begins anew. A folder without a seal is searched, and never changed: somebody may be
//! filling it.

use std::collections::{BTreeMap, BTreeSet};

use shared::exit::Failure;
use shared::ids::BatchId;
use shared::layout::{self, Compression, SEAL, parse_file_name};
use shared::object_store::{Object, SMALL, crc32};
use shared::seal::{MAX_OBJECT_BYTES, Seal};

use crate::commands::connect::store_failed;

use super::report::Place;
use super::rows::{Counted, Form};
use super::task::{Read, Task, unreadable};

/// How often a folder may change under a run before it is left.
const ATTEMPTS: u32 = 8;
const NO_SEAL: &str = "its folder has no seal (yet), and is not changed: the archive may be filling it, run this again. If that \
     stays so, see `ingester reconcile`";
const RESTLESS: &str = "it changed again and again, or a file that it names is gone: another run of this command may be at it, \
     run this again. If that stays so, see `ingester audit`";

/// The folder of a batch below a prefix.
pub(super) struct Folder {
    pub(super) batch: BatchId,
    pub(super) key: String,
}

/// A seal, and the `ETag` by which it is told from another.
pub(super) struct Sealed {
    pub(super) seal: Seal,
    pub(super) etag: String,
}

/// A file that has rows of the person.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) form: Form,
    pub(super) counted: Counted,
    /// Of the object that was counted.
    pub(super) crc32: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    Done,
    /// It did its work, and somebody else is at the folder.
    Again,
    /// Somebody else changed the folder, and nothing of the attempt counts.
    Changed,
}

/// What a search of the files came to.
enum Searched {
    Found(Vec<Found>),
    Changed,
}

impl Folder {
    pub(super) fn new(prefix: &str, batch: BatchId) -> Self {
        Self { batch, key: layout::folder(prefix, batch) }
    }

    pub(super) fn key_of(&self, name: &str) -> String {
        format!("{}{name}", self.key)
    }
}

impl Task<'_> {
    /// Searches a folder, and takes the rows out if that is asked for.
    pub(super) async fn folder(&self, folder: &Folder) -> Result<Place, Failure> {
        let (mut place, mut put) = (Place::default(), BTreeSet::new());
        for _ in 0..ATTEMPTS {
            let mut found = Place::default();
            match self.attempt(folder, &mut put, &mut found).await? {
                Attempt::Done => {
                    place.add(found);
                    return Ok(place);
                }
                Attempt::Again => {
                    found.left.clear();
                    place.add(found);
                }
                Attempt::Changed => {
                    let Place { left_overs, left_overs_removed, .. } = found;
                    place.add(Place { left_overs, left_overs_removed, ..Place::default() });
                }
            }
        }
        place.left(folder.key_of(SEAL), RESTLESS.to_owned());
        Ok(place)
    }

    /// `put`: files that earlier attempts have put, and that no seal of this run names.
    async fn attempt(
        &self,
        folder: &Folder,
        put: &mut BTreeSet<String>,
        place: &mut Place,
    ) -> Result<Attempt, Failure> {
        let sealed = match self.sealed(folder).await? {
            Ok(sealed) => sealed,
            Err(why) => {
                place.left(folder.key_of(SEAL), why);
                return Ok(Attempt::Done);
            }
        };
        // After the seal: a file that a later seal names is missed, and then the seal is not this one any more.
        let there = self.files(folder).await?;
        let seal = sealed.as_ref().map(|sealed| &sealed.seal);
        if let Some(seal) = seal {
            self.delete_replaced(folder, seal, &there, place).await?;
        }
        let Searched::Found(found) = self.search(folder, seal, &there, place).await? else {
            return Ok(Attempt::Changed);
        };
        match sealed {
            // The caller tells of what waits to be loaded.
            None if !self.apply || found.is_empty() => {}
            None => {
                for found in found {
                    place.left(folder.key_of(&found.name), NO_SEAL.to_owned());
                }
            }
            Some(sealed) if self.apply => return self.replace(folder, sealed, found, put, place).await,
            Some(_) => {}
        }
        Ok(Attempt::Done)
    }

    /// The seal of a folder, or why it cannot be used.
    pub(super) async fn sealed(&self, folder: &Folder) -> Result<Result<Option<Sealed>, String>, Failure> {
        match self.store.get_with_etag(&folder.key_of(SEAL), SMALL).await {
            Ok((json, etag)) => Ok(match Seal::read(folder.batch, &json) {
                Ok(seal) => Ok(Some(Sealed { seal, etag })),
                Err(error) => Err(format!("it cannot be used: {error}")),
            }),
            Err(error) if error.is_not_found() => Ok(Ok(None)),
            Err(error) => unreadable(error).map(Err),
        }
    }

    /// The files of rows that stand in a folder, by their names.
    pub(super) async fn files(&self, folder: &Folder) -> Result<BTreeMap<String, Object>, Failure> {
        let ours = |name: &str| parse_file_name(name).is_some();
        let objects = self.store.list_where(&folder.key, ours).await.map_err(store_failed)?;
        let name = |object: Object| Some((object.key.strip_prefix(&folder.key)?.to_owned(), object));
        Ok(objects.into_iter().filter_map(name).collect())
    }

    /// Files that a seal has given up: an earlier run was cut short before it deleted them.
    async fn delete_replaced(
        &self,
        folder: &Folder,
        seal: &Seal,
        there: &BTreeMap<String, Object>,
        place: &mut Place,
    ) -> Result<(), Failure> {
        for name in given_up(seal).filter(|name| there.contains_key(*name)) {
            place.left_overs += 1;
            if self.apply {
                self.store.delete(&folder.key_of(name)).await.map_err(store_failed)?;
                place.left_overs_removed += 1;
            }
        }
        Ok(())
    }

    /// The files with rows of the person, those that the seal names and others.
    async fn search(
        &self,
        folder: &Folder,
        seal: Option<&Seal>,
        there: &BTreeMap<String, Object>,
        place: &mut Place,
    ) -> Result<Searched, Failure> {
        let named = seal.map_or(&[][..], |seal| &seal.files);
        let mut names: BTreeSet<&str> = there.keys().map(String::as_str).collect();
        names.extend(named.iter().map(|file| file.name.as_str()));
        if let Some(seal) = seal {
            for name in given_up(seal) {
                names.remove(name);
            }
        }
        let mut all = Vec::new();
        let Some(columns) = self.columns_of(seal) else {
            if !names.is_empty() {
                let why =
                    "its seal does not name the columns of its rows, and they are not those of [schema]";
                place.left(folder.key_of(SEAL), why.to_owned());
            }
            return Ok(Searched::Found(all));
        };
        let Some(column) = columns.iter().position(|column| column == self.sought.column()) else {
            return Ok(Searched::Found(all));
        };
        for name in names {
            let sealed = named.iter().find(|file| file.name == name);
            let Some((_, compression)) = parse_file_name(name) else { continue };
            let key = folder.key_of(name);
            let content = match self.read(&key, MAX_OBJECT_BYTES).await? {
                Read::Content(content) => content,
                Read::Gone if sealed.is_some() => return Ok(Searched::Changed),
                Read::Gone => continue,
                Read::Unreadable(why) => {
                    place.left(key, why);
                    continue;
                }
            };
            // Without a seal it is only assumed whose columns these are.
            if seal.is_none() && self.columns(&content, compression).await?.as_ref() != Ok(&columns.len()) {
                let why = "its folder has no seal, and its rows are not those of [schema]";
                place.left(key, why.to_owned());
                continue;
            }
            let form = Form { compression, column };
            let counted = match self.count(&content, form).await? {
                Ok(counted) => counted,
                Err(why) => {
                    place.left(key, why);
                    continue;
                }
            };
            if counted.found == 0 {
                continue;
            }
            place.found(counted.found);
            if sealed.is_some_and(|sealed| crc32(&content) != sealed.crc32) {
                place.left(key, "its content is not what its seal says: see `ingester audit`".to_owned());
                continue;
            }
            // The content is read once more when it is written anew: a folder may have a thousand files.
            all.push(Found { name: name.to_owned(), form, counted, crc32: crc32(&content) });
        }
        Ok(Searched::Found(all))
    }

    /// The columns of the rows; None if nobody can tell.
    fn columns_of(&self, seal: Option<&Seal>) -> Option<Vec<String>> {
        let own = || self.target.columns.clone();
        match seal {
            None => Some(own()),
            Some(Seal { columns: Some(columns), .. }) => Some(columns.clone()),
            Some(seal) => (seal.schema == self.target.fingerprint).then(own),
        }
    }
}

/// The number in the name of a file of rows.
pub(super) fn number_of(name: &str) -> Option<u32> {
    parse_file_name(name).map(|(number, _): (u32, Compression)| number)
}

/// The names that a seal gave up. Whoever wrote it: nothing but files of rows that it does not name.
pub(super) fn given_up(seal: &Seal) -> impl Iterator<Item = &str> {
    let replaced = seal.forgotten.iter().flat_map(|forgotten| &forgotten.replaced);
    let named = |name: &str| seal.files.iter().any(|file| file.name == name);
    replaced.map(String::as_str).filter(move |name| parse_file_name(name).is_some() && !named(name))
}
