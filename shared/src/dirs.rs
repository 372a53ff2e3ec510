//! The directories that the services write to: how they are made, how a check tries them, and what to do where that fails.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure, io_exit};

/// Where the producer keeps copies of uploaded files, below `log.dir`; `ingester forget` looks for those that are left there.
pub const UPLOAD_COPIES: &str = "kept";

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: cannot {doing}: {error}; {}", advice(key, dir, doing, error))]
pub struct DirError {
    /// The key of the configuration that names it.
    key: &'static str,
    dir: PathBuf,
    doing: Doing,
    error: io::Error,
}

#[derive(Debug)]
enum Doing {
    /// The directory is missing, and so is everything below `above`.
    Make {
        dir: PathBuf,
        above: PathBuf,
    },
    Write(PathBuf),
}

impl std::fmt::Display for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Make { dir, above } => write!(f, "make {} in {}", dir.display(), above.display()),
            Self::Write(path) => write!(f, "write {}", path.display()),
        }
    }
}

fn advice(key: &str, dir: &Path, doing: &Doing, error: &io::Error) -> String {
    let dir = dir.display();
    match (doing, error.kind()) {
        (Doing::Make { .. }, ErrorKind::PermissionDenied) => format!(
            "make it as root for the user that runs the service (install -d -m 0700 -o USER {dir}), or change {key}"
        ),
        (Doing::Write(_), ErrorKind::PermissionDenied) => {
            format!("give {dir} to the user that runs the service (chown -R USER {dir}), or change {key}")
        }
        (Doing::Make { above, .. }, ErrorKind::NotADirectory | ErrorKind::AlreadyExists) => {
            format!("{} is a file: change {key}", above.display())
        }
        (Doing::Write(_), ErrorKind::NotADirectory | ErrorKind::AlreadyExists) => {
            format!("something else than a file is there: change {key}")
        }
        (_, ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            format!("the disk is full: free space, or change {key}")
        }
        (_, ErrorKind::ReadOnlyFilesystem) => {
            format!("mount the file system for writing (ReadWritePaths= of a systemd unit), or change {key}")
        }
        _ => format!("look at the file system, or change {key}"),
    }
}

impl DirError {
    /// The code a program ends with.
    pub fn exit(&self) -> Exit {
        match self.error.kind() {
            ErrorKind::AlreadyExists => Exit::Config,
            _ => io_exit(&self.error),
        }
    }
}

impl From<DirError> for Failure {
    fn from(error: DirError) -> Self {
        Self::new(error.exit(), error)
    }
}

/// What a service does with a directory at its start, tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// It is there, and files can be written in it.
    Writable,
    /// It is missing and can be made.
    Makeable,
}

impl Tried {
    /// For a line of a check.
    pub fn told(self, dir: &Path) -> String {
        match self {
            Self::Writable => format!("{} can be written", dir.display()),
            Self::Makeable => {
                format!("{} is missing; the first start makes it, which was tried", dir.display())
            }
        }
    }
}

/// Makes the directory that `key` names, with what is missing above it, for this user alone.
pub fn make(key: &'static str, dir: &Path) -> Result<(), DirError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| {
        let doing = Doing::Make { dir: dir.to_owned(), above: nearest(dir) };
        DirError { key, dir: dir.to_owned(), doing, error }
    })
}

/// Does what a service does at its start: makes the directory if it is missing, and writes a file in it. Removes the file,
/// and the directories that it made.
pub fn try_out(key: &'static str, dir: &Path) -> Result<Tried, DirError> {
    let missing: Vec<_> = dir.ancestors().take_while(|path| is_missing(path)).collect();
    make(key, dir)?;
    let probe = dir.join(format!(".check-{}", std::process::id()));
    let written = fs::write(&probe, b"probe").and_then(|()| fs::remove_file(&probe));
    for made in &missing {
        // Not empty: a service has started meanwhile.
        let _kept = fs::remove_dir(made);
    }
    let doing = || Doing::Write(probe.clone());
    written.map_err(|error| DirError { key, dir: dir.to_owned(), doing: doing(), error })?;
    Ok(if missing.is_empty() { Tried::Writable } else { Tried::Makeable })
}

/// Whether this user may write the files at these paths, as far as they are there. Alters none.
pub fn try_files(key: &'static str, dir: &Path, paths: &[PathBuf]) -> Result<(), DirError> {
    for path in paths {
        match File::options().append(true).open(path) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                let doing = Doing::Write(path.clone());
                return Err(DirError { key, dir: dir.to_owned(), doing, error });
            }
        }
    }
    Ok(())
}

fn is_missing(path: &Path) -> bool {
    !path.as_os_str().is_empty() && matches!(path.try_exists(), Ok(false))
}

/// The lowest of the paths above that is there.
fn nearest(dir: &Path) -> PathBuf {
    let there = dir.ancestors().find(|path| path.try_exists().unwrap_or(false));
    there.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_missing_is_tried_and_nothing_of_it_stays() {
        let root = std::env::temp_dir().join(format!("dirs-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&root).unwrap();
        let deep = root.join("a/b/c");
        assert_eq!(try_out("log.dir", &deep).unwrap(), Tried::Makeable);
        assert!(!root.join("a").exists() && root.exists());
        make("log.dir", &deep).unwrap();
        assert_eq!(try_out("log.dir", &deep).unwrap(), Tried::Writable);
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 0);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_a_fault_of_the_configuration_and_is_named_with_the_key() {
        let file = std::env::temp_dir().join(format!("dirs-{}", uuid::Uuid::now_v7()));
        fs::write(&file, "x").unwrap();
        for dir in [file.clone(), file.join("below")] {
            let error = try_out("ingester.dir", &dir).unwrap_err();
            let said = error.to_string();
            let wanted = format!("{} is a file: change ingester.dir", file.display());
            assert!(error.exit() == Exit::Config && said.contains(&wanted), "{said}");
            assert!(said.starts_with(&format!("ingester.dir: cannot make {} in ", dir.display())), "{said}");
        }
        fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_missing_permission_names_the_path_that_is_there_and_what_to_do() {
        let (key, dir) = ("logging.dir", PathBuf::from("/var/log/none/deep"));
        let doing = Doing::Make { dir: dir.clone(), above: PathBuf::from("/var/log") };
        let error = DirError { key, dir, doing, error: ErrorKind::PermissionDenied.into() };
        assert_eq!(
            error.to_string(),
            "logging.dir: cannot make /var/log/none/deep in /var/log: permission denied; make it as root for the user that \
             runs the service (install -d -m 0700 -o USER /var/log/none/deep), or change logging.dir"
        );
        assert_eq!(error.exit(), Exit::Permission);
    }
}
