//! How clients come in: TLS or none, which password is asked for and how, and a record of what they did there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;

/// How the password is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ask {
    /// As its MD5 with a salt.
    #[default]
    Md5,
    /// In clear.
    Cleartext,
    /// As Redshift asks users whose password is stored as SHA-256: a kind of its own, number 13.
    Sha256,
}

/// What a client did before it was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It asked for TLS, and was told whether there is any.
    AskedForTls(bool),
    /// Its TLS handshake failed.
    HandshakeFailed,
    /// It named user and database.
    Started {
        /// Within TLS.
        tls: bool,
    },
    /// It sent a password, in whatever form.
    SentPassword {
        /// Whether it was let in.
        taken: bool,
    },
    /// It asked to end a statement.
    Cancelled {
        /// Within TLS.
        tls: bool,
    },
}

/// A user and a password that are taken.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) user: String,
    pub(crate) password: String,
    until: Option<SystemTime>,
}

/// The door of a stand-in; clones are the same door. As it is made it has no TLS and knows the user of the options.
#[derive(Debug, Clone)]
pub struct Door {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    tls: Option<Arc<ServerConfig>>,
    ask: Ask,
    key: Key,
    others: Vec<Key>,
    seen: Vec<Entered>,
}

impl Door {
    pub(crate) fn new(user: &str, password: &str) -> Self {
        let key = Key { user: user.to_owned(), password: password.to_owned(), until: None };
        let inner = Inner { tls: None, ask: Ask::default(), key, others: Vec::new(), seen: Vec::new() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Speaks TLS from now on and takes nobody in without it, as with `require_ssl`; or none, with None.
    pub fn set_tls(&self, tls: Option<Arc<ServerConfig>>) {
        self.inner().tls = tls;
    }

    /// Asks for passwords so from now on.
    pub fn set_ask(&self, ask: Ask) {
        self.inner().ask = ask;
    }

    /// Takes this user and password from now on, until then if a time is given, and no other. Sessions that are open
    /// go on.
    pub fn set_key(&self, user: &str, password: &str, until: Option<SystemTime>) {
        self.inner().key = Key { user: user.to_owned(), password: password.to_owned(), until };
    }

    /// Takes another user as well: another person, whose sessions are not those of the user of the options.
    pub fn admit(&self, user: &str, password: &str) {
        let key = Key { user: user.to_owned(), password: password.to_owned(), until: None };
        self.inner().others.push(key);
    }

    /// Whether it is one who was admitted beside the user of the options.
    pub(crate) fn is_another(&self, user: &str) -> bool {
        self.inner().others.iter().any(|key| key.user == user)
    }

    /// What clients did, oldest first.
    #[must_use]
    pub fn seen(&self) -> Vec<Entered> {
        self.inner().seen.clone()
    }

    /// Forgets what clients did.
    pub fn forget(&self) {
        self.inner().seen.clear();
    }

    pub(crate) fn saw(&self, entered: Entered) {
        self.inner().seen.push(entered);
    }

    pub(crate) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.inner().tls.clone()
    }

    pub(crate) fn ask(&self) -> Ask {
        self.inner().ask
    }

    /// The key of this user, unless its time is over.
    pub(crate) fn key(&self, user: &str) -> Option<Key> {
        let inner = self.inner();
        let key = inner.others.iter().find(|key| key.user == user).unwrap_or(&inner.key).clone();
        (key.until.is_none_or(|until| SystemTime::now() < until)).then_some(key)
    }
}
