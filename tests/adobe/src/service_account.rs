//! The service account IMS knows, and what it makes of the claims a client signed for it: the checks in the order of
//! the real ones, with their texts where one was published (adobeio-auth issue 67, adobe-dev-console issue 54).

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::StatusCode;
use ring::{
    rsa::KeyPair,
    signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::Value;

/// A refusal with its OAuth error code.
pub(crate) type Denial = (StatusCode, &'static str, &'static str);

/// The organization, `iss` of the claims.
pub const ORGANIZATION: &str = "0123456789ABCDEF01234567@AdobeOrg";
/// The technical account, `sub` of the claims.
pub const TECHNICAL_ACCOUNT: &str = "89ABCDEF0123456789ABCDEF@techacct.adobe.com";
/// The only metascope it was given.
pub const METASCOPE: &str = "ent_analytics_bulk_ingest_sdk";
/// Its private key, as PEM. IMS keeps the public half.
pub const PRIVATE_KEY: &str = include_str!("../keys/technical_account.pem");

/// IMS takes no claims that are good for longer.
const MAX_LIFE_SECONDS: u64 = 86_400;

/// What IMS keeps of the account.
pub(crate) struct ServiceAccount {
    public_key: Vec<u8>,
}

impl ServiceAccount {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let key = PrivateKeyDer::from_pem_slice(PRIVATE_KEY.as_bytes())?;
        let key = KeyPair::from_pkcs8(key.secret_der()).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Self { public_key: key.public().as_ref().to_vec() })
    }

    /// Checks the claims of `client_id` for the IMS at `origin`.
    pub(crate) fn check(&self, jwt: &str, client_id: &str, origin: &str) -> Result<(), Denial> {
        let bad = |code, why| Err((StatusCode::BAD_REQUEST, code, why));
        if jwt.is_empty() {
            return bad("bad_request", "jwt_token is missing");
        }
        let Some((signed, header, claims, signature)) = parts(jwt) else {
            return bad("invalid_token", "could not parse the JWT");
        };
        if header["alg"] != "RS256" {
            return bad("invalid_signature", "the JWT must be signed with RS256");
        }
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key);
        if key.verify(signed.as_bytes(), &signature).is_err() {
            return bad("invalid_token", "Could not match JWT signature to any of the bindings");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        match claims["exp"].as_u64() {
            None => return bad("invalid_token", "exp is missing or no number"),
            Some(exp) if exp <= now => return bad("invalid_token", "the JWT has expired"),
            Some(exp) if exp > now + MAX_LIFE_SECONDS => return bad("invalid_token", "exp is too far ahead"),
            Some(_) => {}
        }
        if claims["iss"] != ORGANIZATION {
            return bad("invalid_client", "the organization associated with this client is invalid");
        }
        if claims["sub"] != TECHNICAL_ACCOUNT {
            return bad("invalid_client", "the user associated with this client is invalid");
        }
        if claims["aud"] != format!("{origin}/c/{client_id}").as_str() {
            return bad("invalid_token", "aud does not name this client at this IMS");
        }
        let prefix = format!("{origin}/s/");
        let mut scopes = claims.as_object().into_iter().flatten().filter_map(|(name, value)| {
            let scope = name.strip_prefix(&prefix)?;
            Some((scope, value))
        });
        let bound = |(scope, value): (&str, &Value)| scope == METASCOPE && *value == Value::Bool(true);
        if !scopes.next().is_some_and(bound) || !scopes.all(bound) {
            let why = "The metascopes in the JWT are not a subset of the metascopes in the binding.";
            return bad("invalid_scope", why);
        }
        Ok(())
    }
}

/// What is signed, and header, claims and signature decoded.
fn parts(jwt: &str) -> Option<(&str, Value, Value, Vec<u8>)> {
    let (signed, signature) = jwt.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    Some((signed, json(header)?, json(claims)?, URL_SAFE_NO_PAD.decode(signature).ok()?))
}

#[cfg(test)]
mod tests {
    use ring::{rand::SystemRandom, signature::RSA_PKCS1_SHA256};
    use serde_json::json;

    use super::*;

    const ORIGIN: &str = "http://127.0.0.1:1";
    const STRANGER: &str = include_str!("../keys/stranger.pem");

    fn signed(pem: &str, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let key = KeyPair::from_pkcs8(key.secret_der()).unwrap();
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn claims() -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        json!({
            "exp": now + 60, "iss": ORGANIZATION, "sub": TECHNICAL_ACCOUNT, "aud": format!("{ORIGIN}/c/id"),
            format!("{ORIGIN}/s/{METASCOPE}"): true,
        })
    }

    fn verdict(jwt: &str) -> Result<(), &'static str> {
        ServiceAccount::new().unwrap().check(jwt, "id", ORIGIN).map_err(|(_, code, _)| code)
    }

    fn with(name: &str, value: Value) -> Result<(), &'static str> {
        let mut claims = claims();
        claims[name] = value;
        verdict(&signed(PRIVATE_KEY, &json!({"alg": "RS256"}), &claims))
    }

    #[test]
    fn claims_that_are_right_and_signed_by_the_account_are_taken() {
        assert_eq!(with("iss", ORGANIZATION.into()), Ok(()));
    }

    #[test]
    fn a_signature_must_be_the_accounts_and_rs256() {
        let rs256 = json!({"alg": "RS256"});
        assert_eq!(verdict(&signed(STRANGER, &rs256, &claims())), Err("invalid_token"));
        assert_eq!(
            verdict(&signed(PRIVATE_KEY, &json!({"alg": "none"}), &claims())),
            Err("invalid_signature")
        );
        let good = signed(PRIVATE_KEY, &rs256, &claims());
        let other = signed(PRIVATE_KEY, &rs256, &json!({}));
        let (text, _) = good.rsplit_once('.').unwrap();
        let (_, signature) = other.rsplit_once('.').unwrap();
        assert_eq!(verdict(&format!("{text}.{signature}")), Err("invalid_token"));
        assert_eq!(verdict("a.b.c"), Err("invalid_token"));
        assert_eq!(verdict(""), Err("bad_request"));
    }

    #[test]
    fn each_claim_must_be_right() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        for exp in [json!(now - 1), json!(now + 90_000), json!("soon"), json!(null)] {
            assert_eq!(with("exp", exp), Err("invalid_token"));
        }
        assert_eq!(with("iss", "x@AdobeOrg".into()), Err("invalid_client"));
        assert_eq!(with("sub", "x@techacct.adobe.com".into()), Err("invalid_client"));
        assert_eq!(with("aud", format!("{ORIGIN}/c/other").into()), Err("invalid_token"));
        assert_eq!(with("aud", "https://elsewhere/c/id".into()), Err("invalid_token"));
        assert_eq!(with(&format!("{ORIGIN}/s/{METASCOPE}"), false.into()), Err("invalid_scope"));
        assert_eq!(with(&format!("{ORIGIN}/s/ent_other_sdk"), true.into()), Err("invalid_scope"));
        let mut none = claims();
        none.as_object_mut().unwrap().remove(&format!("{ORIGIN}/s/{METASCOPE}"));
        assert_eq!(verdict(&signed(PRIVATE_KEY, &json!({"alg": "RS256"}), &none)), Err("invalid_scope"));
    }
}
