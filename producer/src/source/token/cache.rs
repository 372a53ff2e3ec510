//! The token in a file, so that a restart needs no new one and the producers of a machine share one. Only its owner can
//! read and write it. It is replaced as a whole, and names the credential that the token belongs to.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::clock::{Clock, Moment, age};
use shared::secret::Secret;

use super::value::Token;

const FORMAT: u32 = 1;
/// A longer file holds no token.
const MAX_BYTES: u64 = 64 * 1024;
/// How often to try a lock that another process holds.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

pub(super) struct Cache {
    pub(super) path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    fingerprint: String,
    access_token: String,
    issued: DateTime<Utc>,
    expires: DateTime<Utc>,
}

impl Cache {
    /// The token of this credential, if the file holds it. A file that cannot be trusted is left for the next token to
    /// replace.
    pub(super) fn load(&self, fingerprint: &str, now: Moment) -> Option<Token> {
        match self.read() {
            Ok(stored) => (stored.fingerprint == fingerprint).then(|| {
                let life = age(stored.issued, stored.expires);
                Token::new(Secret::new(stored.access_token), stored.issued, life, now)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%error, %path, "the token file is not used; a new token replaces it");
                None
            }
        }
    }

    /// Replaces the token in the file. The producer needs no file to go on, so a failure is only reported.
    pub(super) fn store(&self, fingerprint: &str, token: &Token) {
        let stored = Stored {
            format: FORMAT,
            fingerprint: fingerprint.to_owned(),
            access_token: token.value.reveal().to_owned(),
            issued: token.issued,
            expires: token.expires(),
        };
        let text = serde_json::to_vec(&stored).map_err(io::Error::other);
        if let Err(error) = text.and_then(|text| self.replace(&text)) {
            let path = self.path.display();
            tracing::warn!(%error, %path, "cannot keep the token; the next start requests a new one");
        }
    }

    /// Writes another file and renames it, so that readers meet the old token or the new one, whole.
    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let new = self.path.with_added_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text)?;
        fs::rename(&new, &self.path)
    }

    /// Reads a file that no other user can have read or written.
    fn read(&self) -> io::Result<Stored> {
        let file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        let refuse = |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        if metadata.mode() & 0o077 != 0 {
            return refuse(format!(
                "its mode is {:03o}, so that others may know it",
                metadata.mode() & 0o777
            ));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return refuse("it belongs to another user".to_owned());
        }
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text)?;
        let stored = serde_json::from_str(&text).ok().filter(|stored: &Stored| stored.format == FORMAT);
        // Not the parser's error: it would show a part of the file.
        stored.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is damaged"))
    }

    /// Keeps other producers from requesting a token until the file is dropped. None after `patience`, or when it
    /// cannot be locked: then both request one, which costs a request.
    pub(super) async fn lock(&self, patience: Duration, clock: &Clock) -> Option<File> {
        let path = self.path.with_added_extension("lock");
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let locking = async {
            let file = opened?;
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(file),
                    Err(TryLockError::WouldBlock) => clock.sleep(LOCK_INTERVAL).await,
                    Err(TryLockError::Error(error)) => return Err(error),
                }
            }
        };
        let locked = tokio::time::timeout(patience, locking).await;
        match locked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(file) => Some(file),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%error, %path, "cannot keep other producers from requesting a token too");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use chrono::TimeDelta;

    use super::super::value::MAX_LIFE;
    use super::*;

    fn now() -> Moment {
        "2026-03-02T12:00:00Z".parse::<DateTime<Utc>>().unwrap().into()
    }

    fn token(value: &str) -> Token {
        Token::new(Secret::new(value), now().wall, Duration::from_secs(60), now())
    }

    fn cached(cache: &Cache, fingerprint: &str) -> Option<String> {
        cache.load(fingerprint, now()).map(|token| token.value.reveal().to_owned())
    }

    #[test]
    fn a_token_is_kept_for_its_own_credential_and_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { path: dir.path().join("token.json") };
        assert_eq!(cached(&cache, "mine"), None);
        // What a killed process may have left.
        fs::write(dir.path().join("token.json.new"), "torn").unwrap();
        cache.store("mine", &token("one"));
        cache.store("mine", &token("two"));
        assert_eq!(cached(&cache, "mine").as_deref(), Some("two"));
        assert_eq!(cached(&cache, "another"), None);
        assert_eq!(fs::metadata(&cache.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_others_can_read_is_not_used_and_replaced_by_one_they_cannot() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { path: dir.path().join("token.json") };
        cache.store("mine", &token("one"));
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&cache.path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(cached(&cache, "mine"), None, "{mode:o}");
        }
        cache.store("mine", &token("two"));
        assert_eq!(fs::metadata(&cache.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(cached(&cache, "mine").as_deref(), Some("two"));
    }

    #[test]
    fn a_damaged_file_is_not_used_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { path: dir.path().join("token.json") };
        cache.store("mine", &token("one"));
        let whole = fs::read_to_string(&cache.path).unwrap();
        for damaged in
            ["", "{}", "\0\0\0", &whole[..whole.len() / 2], &whole.replace("\"format\":1", "\"format\":2")]
        {
            fs::write(&cache.path, damaged).unwrap();
            assert_eq!(cached(&cache, "mine"), None, "{damaged}");
        }
        cache.store("mine", &token("two"));
        assert_eq!(cached(&cache, "mine").as_deref(), Some("two"));
    }

    #[test]
    fn a_kept_token_lives_on_by_the_clock_and_never_longer_than_it_was_given_for() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache { path: dir.path().join("token.json") };
        cache.store("mine", &token("one"));
        let left = |seconds| {
            let now = Moment { wall: now().wall + TimeDelta::seconds(seconds), ..now() };
            now.steady.until(cache.load("mine", now).unwrap().end)
        };
        assert_eq!([left(0), left(20)], [Duration::from_secs(60), Duration::from_secs(40)]);
        assert_eq!(left(61), Duration::ZERO);
        assert_eq!(left(-3_600), Duration::from_secs(60), "the clock was set back by an hour");
        let absurd = fs::read_to_string(&cache.path).unwrap().replace("\"expires\":\"2", "\"expires\":\"+9");
        fs::write(&cache.path, absurd).unwrap();
        assert!(cache.load("mine", now()).is_none_or(|token| token.life <= MAX_LIFE));
    }

    #[tokio::test]
    async fn one_at_a_time_holds_the_lock_and_nobody_waits_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (Cache { path: dir.path().join("t") }, Cache { path: dir.path().join("t") });
        let clock = Clock::system();
        let held = one.lock(Duration::from_secs(1), &clock).await;
        assert!(held.is_some());
        assert!(two.lock(Duration::from_millis(120), &clock).await.is_none());
        drop(held);
        assert!(two.lock(Duration::from_millis(120), &clock).await.is_some());
    }
}
