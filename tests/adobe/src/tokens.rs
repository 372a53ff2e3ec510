//! The tokens IMS gave out and Livestream accepts: the one thing the two servers share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::records::{Rng, mix};

/// Live access tokens. Clones share them.
#[derive(Clone)]
pub(crate) struct Tokens {
    lifetime: Duration,
    issued: Arc<Mutex<Issued>>,
}

#[derive(Default)]
struct Issued {
    count: u64,
    given: Vec<String>,
    expiry: HashMap<String, Instant>,
}

impl Tokens {
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self { lifetime, issued: Arc::default() }
    }

    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// A new token, of the length and alphabet of the real ones, which are signed JWTs of about 1 KB.
    pub(crate) fn issue(&self) -> String {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.count += 1;
        let mut rng = Rng::new(mix(issued.count));
        let mut part =
            |length: usize| (0..length).map(|_| char::from(b'a' + (rng.below(26) as u8))).collect::<String>();
        let token = format!("eyJ{}.{}{}.{}", part(90), part(600), issued.count, part(342));
        issued.given.push(token.clone());
        issued.expiry.insert(token.clone(), Instant::now() + self.lifetime);
        token
    }

    /// Every token so far, dead ones too.
    pub(crate) fn given(&self) -> Vec<String> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).given.clone()
    }

    pub(crate) fn is_live(&self, token: &str) -> bool {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.expiry.get(token).is_some_and(|expiry| *expiry > Instant::now())
    }

    pub(crate) fn revoke_all(&self) {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).expiry.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_until_it_expires_or_is_revoked() {
        let tokens = Tokens::new(Duration::from_secs(60));
        let (one, two) = (tokens.issue(), tokens.issue());
        assert_ne!(one, two);
        assert!(tokens.is_live(&one) && tokens.is_live(&two));
        assert!(!tokens.is_live("made up"));
        tokens.revoke_all();
        assert!(!tokens.is_live(&one));
        assert!(!Tokens::new(Duration::ZERO).is_live(&one));
        assert_eq!(tokens.given(), [one, two]);
        let short = Tokens::new(Duration::ZERO);
        let gone = short.issue();
        assert!(!short.is_live(&gone));
    }
}
