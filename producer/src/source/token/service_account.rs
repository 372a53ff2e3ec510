//! The claims that a service account exchanges for a token: a JWT, signed with the account's key.

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Url;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value};
use shared::config::Adobe;
use shared::secret::Secret;

use super::sign;

/// How long the claims are valid. They are used at once; the hour allows for clocks that differ.
const LIFE: TimeDelta = TimeDelta::hours(1);

#[derive(Debug, thiserror::Error)]
#[error("adobe.jwt_key is no private RSA key in PEM: {0}")]
pub struct KeyError(String);

pub(super) struct ServiceAccount {
    /// All claims but the time.
    claims: Map<String, Value>,
    key: EncodingKey,
}

impl ServiceAccount {
    /// The account that the configuration names. Claims name their IMS by the origin of its address.
    pub(super) fn new(config: &Adobe) -> Result<Self, KeyError> {
        sign::install();
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
    sign::rsa_key(der.secret_der()).map_err(KeyError)?;
    Ok(EncodingKey::from_rsa_der(der.secret_der()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PKCS8: &str = include_str!("../../../../tests/adobe/keys/technical_account.pem");
    const PKCS1: &str = include_str!("../../../../tests/adobe/keys/technical_account.pkcs1.pem");

    #[test]
    fn a_key_may_have_either_form_and_signs_alike() {
        sign::install();
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
