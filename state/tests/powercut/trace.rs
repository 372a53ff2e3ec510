//! What strace saw a process do to the files below one directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The calls that change files or make changes stable. One that is seen and not understood fails the test.
pub(crate) const CALLS: &str = "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,rename,\
     renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,fdatasync,fsync,sync_file_range,copy_file_range,sendfile,\
     fallocate,link,linkat,symlink,symlinkat,msync";

/// In the order in which they began; a sync counts when it has ended, for what had ended before it began.
#[derive(Debug)]
pub(crate) enum Event {
    /// A file is there, empty or as it was.
    Create(PathBuf),
    MakeDir(PathBuf),
    Truncate(PathBuf, u64),
    /// `ended` is the number of the first event after it.
    Write {
        path: PathBuf,
        offset: u64,
        data: Vec<u8>,
        ended: usize,
    },
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    /// Data and length of a file, or the entries of a directory, as they were at the event numbered `began`.
    Synced {
        path: PathBuf,
        began: usize,
    },
    /// The process said something on standard output.
    Said(String),
}

#[derive(Debug)]
pub(crate) struct Trace {
    dir: PathBuf,
    pub(crate) events: Vec<Event>,
}

impl Trace {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), events: Vec::new() }
    }

    /// Adds what one process did.
    pub(crate) fn read(&mut self, text: &str) {
        // Calls under way, by thread: the text so far, and at which event they began.
        let mut under_way: BTreeMap<&str, (String, usize, Option<usize>)> = BTreeMap::new();
        // Where the next `write` goes, by descriptor.
        let mut offsets: BTreeMap<u32, u64> = BTreeMap::new();
        for line in text.lines() {
            let (thread, rest) = line.split_once(' ').unwrap();
            let rest = rest.trim_start();
            if rest.starts_with("+++") || rest.starts_with("---") {
                continue;
            }
            if let Some(call) = rest.strip_suffix("<unfinished ...>") {
                let began = self.events.len();
                let event = self.began(call, &mut offsets);
                under_way.insert(thread, (call.to_owned(), began, event));
            } else if rest.starts_with("<...") {
                let (call, began, event) = under_way.remove(thread).unwrap();
                self.ended(&call, rest, began, event);
            } else {
                let began = self.events.len();
                let event = self.began(rest, &mut offsets);
                self.ended(rest, rest, began, event);
            }
        }
    }

    /// A call begins: what it writes may reach the disk from now on. The number of its event, if it is a write.
    fn began(&mut self, call: &str, offsets: &mut BTreeMap<u32, u64>) -> Option<usize> {
        let (name, args) = call.split_once('(').unwrap();
        if !matches!(name, "write" | "pwrite64") {
            return None;
        }
        let descriptor: u32 = args.split_once('<').unwrap().0.parse().unwrap();
        let path = path_of_descriptor(args);
        let data = strings(args).pop().unwrap();
        if descriptor == 1 {
            let text = String::from_utf8_lossy(&data).trim().to_owned();
            if text.starts_with("accepted ") || text.starts_with("published ") {
                self.events.push(Event::Said(text));
            }
            return None;
        }
        if !path.starts_with(&self.dir) {
            return None;
        }
        let offset = if name == "pwrite64" {
            let (args, _) = args.rsplit_once(')').unwrap_or((args, ""));
            args.rsplit_once(", ").unwrap().1.trim().parse().unwrap()
        } else {
            let next = offsets.entry(descriptor).or_default();
            let offset = *next;
            *next += data.len() as u64;
            offset
        };
        self.events.push(Event::Write { path, offset, data, ended: usize::MAX });
        Some(self.events.len() - 1)
    }

    fn ended(&mut self, call: &str, end: &str, began: usize, event: Option<usize>) {
        let result = end.rsplit_once(" = ").unwrap().1;
        let failed = result.starts_with('-');
        if let Some(event) = event {
            assert!(!failed, "{end}");
            let now = self.events.len();
            if let Event::Write { ended, .. } = &mut self.events[event] {
                *ended = now;
            }
            return;
        }
        let (name, args) = call.split_once('(').unwrap();
        if failed || matches!(name, "write" | "pwrite64") {
            return;
        }
        let named: Vec<PathBuf> = strings(args).into_iter().map(path).collect();
        let ours = |path: &PathBuf| path.starts_with(&self.dir);
        let push = |events: &mut Vec<Event>, event| events.push(event);
        match name {
            "open" | "openat" => {
                let path = named[0].clone();
                if ours(&path) && args.contains("O_CREAT") {
                    push(&mut self.events, Event::Create(path.clone()));
                }
                if ours(&path) && args.contains("O_TRUNC") {
                    push(&mut self.events, Event::Truncate(path, 0));
                }
            }
            "mkdir" if ours(&named[0]) => push(&mut self.events, Event::MakeDir(named[0].clone())),
            "rename" if ours(&named[0]) => {
                push(&mut self.events, Event::Rename(named[0].clone(), named[1].clone()));
            }
            "unlink" | "rmdir" if ours(&named[0]) => push(&mut self.events, Event::Remove(named[0].clone())),
            "ftruncate" if ours(&path_of_descriptor(args)) => {
                let length = args.split_once(", ").unwrap().1.split(')').next().unwrap().trim();
                let event = Event::Truncate(path_of_descriptor(args), length.parse().unwrap());
                push(&mut self.events, event);
            }
            "fsync" | "fdatasync" => {
                let path = path_of_descriptor(args);
                // The directory above ours too: it holds our entry.
                if ours(&path) || self.dir.parent() == Some(&path) {
                    push(&mut self.events, Event::Synced { path, began });
                }
            }
            _ => assert!(
                !(named.iter().any(ours) || args.contains('<') && ours(&path_of_descriptor(args))),
                "a call this test does not know: {call}"
            ),
        }
    }
}

/// The file of the first argument, `3<path>`.
fn path_of_descriptor(args: &str) -> PathBuf {
    let inside = args.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    path(unhex(inside.map_or("", |(path, _)| path)))
}

/// The quoted arguments.
fn strings(args: &str) -> Vec<Vec<u8>> {
    args.split('"').skip(1).step_by(2).map(unhex).collect()
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(String::from_utf8(bytes).unwrap())
}

fn unhex(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
}
