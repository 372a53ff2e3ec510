//! Pseudonyms: HMAC-SHA-256 under a secret key. Equal texts have equal pseudonyms, so tables can be joined by them; without
//! the key nobody can try texts out.

use ring::hmac;
use shared::config::{Protect, Spelling};

const HEX: &[u8; 16] = b"0123456789abcdef";
const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// What the id of a key is the hash of.
const KEY_ID: &[u8] = b"livestream: the id of this key";
const KEY_ID_CHARS: usize = 8;
/// What the key for hashes of rejects is the hash of: they must say nothing of any pseudonym.
const REJECTS: &[u8] = b"livestream: the key for hashes of rejects";

#[derive(Debug, Clone)]
pub(in crate::transform) struct Pseudonyms {
    /// None for a program that shows what would become of a record, and has no secrets.
    key: Option<hmac::Key>,
    spelling: Spelling,
    length: usize,
}

impl Pseudonyms {
    pub(super) fn new(protect: &Protect) -> Self {
        let secret = &protect.pseudonym_key;
        let key = (!secret.is_empty()).then(|| hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes()));
        Self { key, spelling: protect.pseudonym_spelling, length: protect.pseudonym_length }
    }

    /// Appends the pseudonym of a text; asterisks of its length where there is no key.
    pub(super) fn write(&self, text: &str, out: &mut String) {
        match &self.key {
            Some(key) => spell(hmac::sign(key, text.as_bytes()).as_ref(), self.spelling, self.length, out),
            None => out.extend(std::iter::repeat_n('*', self.length)),
        }
    }

    /// Tells which key it is, and nothing else of it.
    pub(in crate::transform) fn key_id(&self) -> Option<String> {
        let key = self.key.as_ref()?;
        Some(hex(hmac::sign(key, KEY_ID).as_ref(), KEY_ID_CHARS))
    }

    /// How it spells them, and how long they are; none without a key, as there are none.
    pub(in crate::transform) fn spelling(&self) -> Option<String> {
        self.key.as_ref().map(|_| format!("{} {}", self.spelling.name(), self.length))
    }

    pub(in crate::transform) fn key_for_rejects(&self) -> Option<hmac::Key> {
        let key = self.key.as_ref()?;
        Some(hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(key, REJECTS).as_ref()))
    }
}

pub(in crate::transform) fn hex(bytes: &[u8], length: usize) -> String {
    let mut text = String::new();
    spell(bytes, Spelling::Hex, length, &mut text);
    text
}

/// Appends the first `length` characters of 32 bytes.
fn spell(bytes: &[u8], spelling: Spelling, length: usize, out: &mut String) {
    let mut chars = [b'0'; 64];
    match spelling {
        Spelling::Hex => {
            for (pair, byte) in chars.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
                let digit = |four: u8| HEX.get(usize::from(four)).copied().unwrap_or_default();
                *pair = [digit(byte >> 4), digit(byte & 15)];
            }
        }
        Spelling::Base64url => {
            for (four, three) in chars.as_chunks_mut::<4>().0.iter_mut().zip(bytes.chunks(3)) {
                let bits = [0, 1, 2]
                    .into_iter()
                    .fold(0_u32, |bits, n| bits << 8 | u32::from(three.get(n).copied().unwrap_or_default()));
                let letter =
                    |shift: u32| BASE64URL.get((bits >> shift & 63) as usize).copied().unwrap_or_default();
                *four = [letter(18), letter(12), letter(6), letter(0)];
            }
        }
    }
    let kept = chars.get(..length).unwrap_or(&chars);
    // Every character of both alphabets is one byte.
    out.push_str(std::str::from_utf8(kept).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use shared::config::{Config, Secrets};

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn protect(more: &str) -> Protect {
        let example = include_str!("../../../../deploy/pipeline.example.toml");
        let text = format!("{example}\n[protect]\n{more}\n");
        let path = std::path::Path::new("pipeline.toml");
        Config::parse(&text, path, std::iter::empty(), Secrets::Unused).unwrap().protect
    }

    fn written(more: &str, text: &str) -> String {
        let mut out = String::new();
        Pseudonyms::new(&protect(more)).write(text, &mut out);
        out
    }

    #[test]
    fn a_pseudonym_is_the_hmac_of_the_text_cut_to_its_length() {
        // As `printf %s jane | openssl dgst -sha256 -hmac KEY` says.
        let whole = "8bfdd9ff2c70e0e9d314b991b98441322857b1d02b605b913c077891d3bfb55c";
        let key = format!("pseudonym_key = \"{KEY}\"");
        assert_eq!(written(&format!("{key}\npseudonym_length = 64"), "jane"), whole);
        assert_eq!(written(&key, "jane"), whole[..32]);
        let url = "pseudonym_spelling = \"base64url\"\npseudonym_length";
        assert_eq!(
            written(&format!("{key}\n{url} = 43"), "jane"),
            "i_3Z_yxw4OnTFLmRuYRBMihXsdArYFuRPAd4kdO_tVw"
        );
        assert_eq!(
            written(&format!("{key}\n{url} = 22"), "jane"),
            "i_3Z_yxw4OnTFLmRuYRBMihXsdArYFuRPAd4kdO_tVw"[..22]
        );
    }

    #[test]
    fn another_text_or_key_gives_another_pseudonym_and_another_key_another_id() {
        let of = |key: &str| format!("pseudonym_key = \"{key}\"");
        let (one, other) = (of(KEY), of("fedcba9876543210fedcba9876543210"));
        assert_ne!(written(&one, "jane"), written(&one, "Jane"));
        assert_ne!(written(&one, "jane"), written(&other, "jane"));
        let id = |key: &str| Pseudonyms::new(&protect(key)).key_id().unwrap();
        assert!(id(&one) == id(&one) && id(&one) != id(&other) && id(&one).len() == 8);
        assert!(!format!("{:?}", Pseudonyms::new(&protect(&one))).contains(KEY));
    }

    #[test]
    fn without_a_key_nothing_of_the_text_is_shown() {
        assert_eq!(written("pseudonym_length = 16", "jane"), "*".repeat(16));
        assert_eq!(Pseudonyms::new(&protect("")).key_id(), None);
    }
}
