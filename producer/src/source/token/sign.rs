//! The claims that a service account exchanges for a token: a JWT, signed with RS256 by ring, which is here for TLS already.
//! `jsonwebtoken` leaves cryptography to its user; those that it can bring along are a second library, or one whose RSA
//! leaks its key through timing (RUSTSEC-2023-0071).

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Signer};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use reqwest::Url;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value};
use shared::config::Adobe;
use shared::secret::Secret;

/// How long the claims are valid. They are used at once; the hour allows for clocks that differ.
const LIFE: TimeDelta = TimeDelta::hours(1);

#[derive(Debug, thiserror::Error)]
#[error("adobe.jwt_key is no private RSA key in PEM: {0}")]
pub struct KeyError(String);

pub(super) struct ServiceAccount {
    claims: Map<String, Value>,
    key: EncodingKey,
}

impl ServiceAccount {
    /// The account that the configuration names. Claims name their IMS by the origin of its address.
    pub(super) fn new(config: &Adobe) -> Result<Self, KeyError> {
        install();
        let ims = Url::parse(&config.token_url).map(|url| url.origin().ascii_serialization());
        let ims = ims.unwrap_or_default();
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), config.jwt_organization.as_str().into());
        claims.insert("sub".to_owned(), config.jwt_technical_account.as_str().into());
        claims.insert("aud".to_owned(), format!("{ims}/c/{}", config.client_id).into());
        for scope in &config.jwt_metascopes {
            claims.insert(format!("{ims}/s/{scope}"), true.into());
        }
        Ok(Self { claims, key: key(&config.jwt_key)? })
    }

    pub(super) fn sign(&self, now: DateTime<Utc>) -> Result<Secret, String> {
        let mut claims = self.claims.clone();
        claims.insert("exp".to_owned(), (now + LIFE).timestamp().into());
        let signed = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &self.key);
        signed.map(Secret::new).map_err(|error| error.to_string())
    }
}

/// Reads the key, and tries whether it can sign.
fn key(pem: &Secret) -> Result<EncodingKey, KeyError> {
    let pem = pem.reveal();
    if pem.contains("ENCRYPTED") {
        let advice = "it is encrypted; `openssl pkcs8 -in KEY -out FILE` writes one that is not";
        return Err(KeyError(advice.to_owned()));
    }
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| KeyError(error.to_string()))?;
    rsa_key(der.secret_der()).map_err(KeyError)?;
    Ok(EncodingKey::from_rsa_der(der.secret_der()))
}

static RING: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: no_verifier,
    // Needed for keys in JSON only; there are none here.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes ring the cryptography of `jsonwebtoken` in this process. Calling it again changes nothing.
fn install() {
    // The error only says that one is installed already.
    let _ = RING.install_default();
}

/// A private RSA key from DER, in the form of PKCS #8 or of PKCS #1.
fn rsa_key(der: &[u8]) -> Result<KeyPair, String> {
    KeyPair::from_pkcs8(der).or_else(|_| KeyPair::from_der(der)).map_err(|error| error.to_string())
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    if *algorithm != Algorithm::RS256 {
        return Err(ErrorKind::UnsupportedAlgorithm.into());
    }
    let key = rsa_key(key.as_bytes()).map_err(ErrorKind::InvalidRsaKey)?;
    Ok(Box::new(Rs256(key)))
}

fn no_verifier(_: &Algorithm, _: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

struct Rs256(KeyPair);

impl JwtSigner for Rs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
}

impl Signer<Vec<u8>> for Rs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let mut signed = vec![0; self.0.public().modulus_len()];
        match self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signed) {
            Ok(()) => Ok(signed),
            Err(_) => Err(signature::Error::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PKCS8: &str = include_str!("../../../../tests/adobe/keys/technical_account.pem");
    const PKCS1: &str = include_str!("../../../../tests/adobe/keys/technical_account.pkcs1.pem");

    #[test]
    fn a_key_may_have_either_form_and_signs_alike() {
        install();
        let signed = |pem: &str| {
            let key = key(&Secret::new(pem)).unwrap();
            let claims = Map::from_iter([("aud".to_owned(), Value::from("x"))]);
            let account = ServiceAccount { claims, key };
            account.sign(DateTime::UNIX_EPOCH).unwrap().reveal().to_owned()
        };
        let jwt = signed(PKCS8);
        assert_eq!(jwt, signed(PKCS1), "PKCS #1 padding has no chance in it");
        assert_eq!(jwt.split('.').map(str::len).collect::<Vec<_>>(), [36, 30, 342]);
    }

    #[test]
    fn a_key_that_cannot_sign_is_told_apart_and_not_shown() {
        let said = |pem: &str| key(&Secret::new(pem)).unwrap_err().to_string();
        let secret = PKCS8.lines().nth(5).unwrap();
        let damaged = PKCS8.replace(secret, &secret.replace('a', "b"));
        for (pem, expected) in [
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
                "encrypted",
            ),
            ("hunter2", "no items found"),
            (damaged.as_str(), "Invalid"),
            ("-----BEGIN PRIVATE KEY-----\nPRIVATE_KEY\n-----END PRIVATE KEY-----\n", "base64"),
        ] {
            let said = said(pem);
            assert!(said.starts_with("adobe.jwt_key is no private RSA key in PEM: "), "{said}");
            assert!(said.contains(expected), "{said}");
            assert!(!said.contains("hunter2") && !said.contains(secret), "{said}");
        }
    }
}
