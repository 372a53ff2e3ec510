//! A disk that is told what happened, and what of it an fsync has made stable; and what a power cut leaves of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;

use crate::trace::Event;

/// What a disk writes whole or not at all.
const SECTOR: u64 = 512;

#[derive(Debug, Default)]
pub(crate) struct Disk {
    files: Vec<Inode>,
    /// As programs see them.
    names: BTreeMap<PathBuf, Entry>,
    /// As they stand on the disk for sure.
    stable_names: BTreeMap<PathBuf, Entry>,
    /// Changes of names since then, in order: a file system may keep the first of them and not those after.
    names_under_way: Vec<(usize, PathBuf, Option<Entry>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Dir,
    File(usize),
}

#[derive(Debug, Default)]
struct Inode {
    stable: Vec<u8>,
    under_way: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { offset: u64, data: Vec<u8>, ended: usize },
    Truncate { length: u64, ended: usize },
}

impl Change {
    fn ended(&self) -> usize {
        match self {
            Self::Write { ended, .. } | Self::Truncate { ended, .. } => *ended,
        }
    }
}

impl Disk {
    pub(crate) fn apply(&mut self, no: usize, event: &Event) {
        match event {
            Event::Create(path) => {
                if !self.names.contains_key(path) {
                    self.files.push(Inode::default());
                    self.name(no, path, Some(Entry::File(self.files.len() - 1)));
                }
            }
            Event::MakeDir(path) => self.name(no, path, Some(Entry::Dir)),
            Event::Remove(path) => self.name(no, path, None),
            Event::Rename(from, to) => {
                let entry = self.names.get(from).copied();
                // In this order a prefix has the file under either name, or both: never under none.
                self.name(no, to, entry);
                self.name(no, from, None);
            }
            Event::Truncate(path, length) => {
                self.change(path, Change::Truncate { length: *length, ended: no + 1 });
            }
            Event::Write { path, offset, data, ended } => {
                self.change(path, Change::Write { offset: *offset, data: data.clone(), ended: *ended });
            }
            Event::Synced { path, began } => self.synced(path, *began),
            Event::Said(_) => {}
        }
    }

    fn name(&mut self, no: usize, path: &Path, entry: Option<Entry>) {
        match entry {
            Some(entry) => self.names.insert(path.to_owned(), entry),
            None => self.names.remove(path),
        };
        self.names_under_way.push((no, path.to_owned(), entry));
    }

    fn change(&mut self, path: &Path, change: Change) {
        let Some(Entry::File(inode)) = self.names.get(path) else { panic!("no file {}", path.display()) };
        self.files[*inode].under_way.push(change);
    }

    fn synced(&mut self, path: &Path, began: usize) {
        match self.names.get(path) {
            Some(Entry::File(inode)) => {
                let Inode { stable, under_way } = &mut self.files[*inode];
                let (done, rest) =
                    std::mem::take(under_way).into_iter().partition(|change| change.ended() <= began);
                *under_way = rest;
                let done: Vec<Change> = done;
                done.iter().for_each(|change| write(stable, change, |_| true));
            }
            // A directory: its entries, and with them, as file systems do it, every change of a name before.
            _ => {
                let last = self
                    .names_under_way
                    .iter()
                    .rposition(|(no, changed, _)| *no < began && changed.parent() == Some(path));
                for (_, path, entry) in self.names_under_way.drain(..last.map_or(0, |last| last + 1)) {
                    set(&mut self.stable_names, path, entry);
                }
            }
        }
    }

    /// Whether a power cut now has anything to choose.
    pub(crate) fn has_unsynced(&self) -> bool {
        !self.names_under_way.is_empty() || self.files.iter().any(|file| !file.under_way.is_empty())
    }

    /// What a power cut leaves, as files below `to`.
    pub(crate) fn write(&self, to: &Path, random: &mut Rng) {
        let mut names = self.stable_names.clone();
        let kept = random.usize(0..=self.names_under_way.len());
        for (_, path, entry) in &self.names_under_way[..kept] {
            set(&mut names, path.clone(), *entry);
        }
        // A cut may catch nearly nothing or nearly everything.
        let share = [0.0, 0.1, 0.5, 0.9, 1.0][random.usize(..5)];
        let root = names.keys().next().cloned();
        fs::create_dir_all(to).unwrap();
        for (path, entry) in &names {
            let place = to.join(path.strip_prefix(root.as_ref().unwrap()).unwrap());
            // Its directory may not have come so far: then neither has it.
            if !place.parent().is_some_and(Path::is_dir) {
                continue;
            }
            match entry {
                Entry::Dir => fs::create_dir_all(&place).unwrap(),
                Entry::File(inode) => {
                    let Inode { stable, under_way } = &self.files[*inode];
                    let mut content = stable.clone();
                    for change in under_way {
                        write(&mut content, change, |_| random.f64() < share);
                    }
                    fs::write(&place, content).unwrap();
                }
            }
        }
    }
}

fn set(names: &mut BTreeMap<PathBuf, Entry>, path: PathBuf, entry: Option<Entry>) {
    match entry {
        Some(entry) => names.insert(path, entry),
        None => names.remove(&path),
    };
}

/// Those sectors of a change that `reaches` says.
fn write(content: &mut Vec<u8>, change: &Change, mut reaches: impl FnMut(u64) -> bool) {
    match change {
        Change::Truncate { length, .. } => {
            if reaches(0) {
                content.resize(usize::try_from(*length).unwrap(), 0);
            }
        }
        Change::Write { offset, data, .. } => {
            let mut at = 0;
            while at < data.len() as u64 {
                let end = (data.len() as u64).min((offset + at) / SECTOR * SECTOR + SECTOR - offset);
                if reaches(offset + at) {
                    let (from, to) = ((offset + at) as usize, (offset + end) as usize);
                    if content.len() < to {
                        content.resize(to, 0);
                    }
                    content[from..to].copy_from_slice(&data[at as usize..end as usize]);
                }
                at = end;
            }
        }
    }
}
