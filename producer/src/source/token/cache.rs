//! The token in a file, so that a restart needs no new one and the producers of a machine share one. It is read and
//! written by its owner only, replaced as a whole, and names the credential it belongs to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use shared::clock::age;
use shared::secret::Secret;

use super::value::Token;

/// The only form there is.
const FORMAT: u32 = 1;
/// More is no token.
const MAX_BYTES: u64 = 64 * 1024;
/// How often a lock that somebody else holds is tried.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// The file.
#[derive(Debug)]
pub(super) struct Cache {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    format: u32,
    fingerprint: &'a str,
    access_token: &'a str,
    issued: DateTime<Utc>,
    expires: DateTime<Utc>,
}

impl Cache {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The token of this credential at `now`, if the file holds it. A file that must not be believed is told of and left: the
    /// next token replaces it.
    pub(super) fn load(&self, fingerprint: &str, now: DateTime<Utc>) -> Option<Token> {
        let path = self.path.display();
        let text = match read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, %path, "the token file is not used; a new token replaces it");
                return None;
            }
        };
        match serde_json::from_str::<Stored<'_>>(&text) {
            Ok(stored) if stored.format == FORMAT => (stored.fingerprint == fingerprint).then(|| {
                let life = age(stored.issued, stored.expires);
                Token::kept(Secret::new(stored.access_token), stored.issued, life, now)
            }),
            // Not the parser's error: it would show what it met.
            Ok(_) | Err(_) => {
                tracing::warn!(%path, "the token file is damaged and not used; a new token replaces it");
                None
            }
        }
    }

    /// Puts the token in place of what the file holds. Without it everything goes on, so a failure is only told.
    pub(super) fn store(&self, fingerprint: &str, token: &Token) {
        let stored = Stored {
            format: FORMAT,
            fingerprint,
            access_token: token.value.reveal(),
            issued: token.issued,
            expires: token.expires(),
        };
        let written =
            serde_json::to_vec(&stored).map_err(io::Error::other).and_then(|text| self.replace(&text));
        if let Err(error) = written {
            let path = self.path.display();
            tracing::warn!(%error, %path, "the token cannot be kept; the next start asks for a new one");
        }
    }

    /// Written elsewhere and renamed: whoever reads meets the old token or the new one, whole.
    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let new = self.beside(".new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text)?;
        fs::rename(&new, &self.path)
    }

    /// Waits until no other producer is asking for a token, and keeps them from it until the file is dropped. None when
    /// that takes longer than any request may, or cannot be arranged: then both ask, which costs a request.
    pub(super) async fn lock(&self, patience: Duration) -> Option<File> {
        let path = self.beside(".lock");
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                let path = path.display();
                tracing::warn!(%error, %path, "other producers cannot be kept from asking for a token too");
                return None;
            }
        };
        let trying = async {
            loop {
                match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => return true,
                    Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(LOCK_INTERVAL).await,
                    Err(_) => return false,
                }
            }
        };
        match tokio::time::timeout(patience, trying).await {
            Ok(true) => Some(file),
            Ok(false) | Err(_) => {
                tracing::warn!(path = %path.display(), "another producer holds the token file for too long");
                None
            }
        }
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(ending);
        name.into()
    }
}

/// The text of a file that nobody else can have read or written.
fn read(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, why.to_owned()));
    if metadata.mode() & 0o077 != 0 {
        return refuse(&format!("its mode is {:03o}, so that others may know it", metadata.mode() & 0o777));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return refuse("it belongs to another user");
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use chrono::TimeDelta;
    use tokio::time::Instant;

    use super::*;

    fn token(value: &str) -> Token {
        Token::new(Secret::new(value), Duration::from_secs(60))
    }

    fn kept(cache: &Cache, fingerprint: &str) -> Option<String> {
        cache.load(fingerprint, Utc::now()).map(|token| token.value.reveal().to_owned())
    }

    #[test]
    fn a_token_is_kept_for_its_own_credential_and_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("token.json"));
        assert_eq!(kept(&cache, "mine"), None);
        // What a killed process may have left.
        fs::write(dir.path().join("token.json.new"), "torn").unwrap();
        cache.store("mine", &token("one"));
        cache.store("mine", &token("two"));
        assert_eq!(kept(&cache, "mine").as_deref(), Some("two"));
        assert_eq!(kept(&cache, "another"), None);
        assert_eq!(fs::metadata(&cache.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_others_can_read_is_not_used_and_replaced_by_one_they_cannot() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("token.json"));
        cache.store("mine", &token("one"));
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&cache.path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(kept(&cache, "mine"), None, "{mode:o}");
        }
        cache.store("mine", &token("two"));
        assert_eq!(fs::metadata(&cache.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(kept(&cache, "mine").as_deref(), Some("two"));
    }

    #[test]
    fn a_damaged_file_is_not_used_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("token.json"));
        cache.store("mine", &token("one"));
        let whole = fs::read_to_string(&cache.path).unwrap();
        for damaged in
            ["", "{}", "\0\0\0", &whole[..whole.len() / 2], &whole.replace("\"format\":1", "\"format\":2")]
        {
            fs::write(&cache.path, damaged).unwrap();
            assert_eq!(kept(&cache, "mine"), None, "{damaged}");
        }
        cache.store("mine", &token("two"));
        assert_eq!(kept(&cache, "mine").as_deref(), Some("two"));
    }

    #[test]
    fn a_kept_token_lives_on_by_the_clock_and_never_longer_than_it_was_given_for() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("token.json"));
        cache.store("mine", &token("one"));
        let left = |seconds| {
            let token = cache.load("mine", Utc::now() + TimeDelta::seconds(seconds)).unwrap();
            token.end.saturating_duration_since(Instant::now())
        };
        let about = |left: Duration, seconds: u64| {
            (Duration::from_secs(seconds - 5)..=Duration::from_secs(seconds)).contains(&left)
        };
        assert!(about(left(0), 60) && about(left(20), 40));
        assert_eq!(left(61), Duration::ZERO);
        assert!(about(left(-3_600), 60), "the clock was set back by an hour");
        let absurd = fs::read_to_string(&cache.path).unwrap().replace("\"expires\":\"2", "\"expires\":\"+9");
        fs::write(&cache.path, absurd).unwrap();
        assert!(
            cache.load("mine", Utc::now()).is_none_or(|token| token.life <= super::super::value::MAX_LIFE)
        );
    }

    #[tokio::test]
    async fn one_at_a_time_holds_the_lock_and_nobody_waits_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (Cache::new(dir.path().join("t")), Cache::new(dir.path().join("t")));
        let held = one.lock(Duration::from_secs(1)).await;
        assert!(held.is_some());
        assert!(two.lock(Duration::from_millis(120)).await.is_none());
        drop(held);
        assert!(two.lock(Duration::from_millis(120)).await.is_some());
    }
}
