//! RS256 for `jsonwebtoken` by ring, which is here for TLS already. The crate leaves cryptography to its user; those that it
//! can bring along are a second library, or one whose RSA leaks its key through timing (RUSTSEC-2023-0071).

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Signer};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;

static RING: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: no_verifier,
    // Needed for keys in JSON only; there are none here.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes ring the cryptography of `jsonwebtoken` in this process. Calling it again changes nothing.
pub(super) fn install() {
    // The error only says that one is installed already.
    let _ = RING.install_default();
}

/// A private RSA key from DER, in the form of PKCS #8 or of PKCS #1.
pub(super) fn rsa_key(der: &[u8]) -> Result<KeyPair, String> {
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
