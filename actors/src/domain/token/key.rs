//! A signing key pair: its id, its algorithm and its public half.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters, EllipticCurveKeyType, Jwk,
    OctetKeyPairParameters, OctetKeyPairType, PublicKeyUse, RSAKeyParameters, RSAKeyType, ThumbprintHash,
};
use zeroize::Zeroizing;

use super::SigningAlgorithm;
use crate::domain::secret::Secret;

/// The label from which the id of a signing secret is derived, so that no other use of the secret produces the same bytes.
const SECRET_NAME_LABEL: &[u8] = b"doorward signing secret name, version 1";
/// The length of a thumbprint and of the id of a secret: 256 bits in base64.
const ID_CHARS: usize = 43;
/// The size of new RSA keys, as required by BSI TR-02102-1, and by NIST SP 800-57 beyond 2030.
const RSA_SIZE: KeySize = KeySize::Rsa3072;
/// The minimum size of an RSA key (RFC 7518 §3.3), in bytes.
const MIN_RSA_BYTES: usize = 256;

/// The id of a key. For a key pair it is the RFC 7638 thumbprint, which is the `kid`.
/// For a secret it is derived by HMAC and shown only to the operator: it distinguishes two secrets, but reveals no more about them than
/// a token does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

impl KeyId {
    /// Parses an id; `None` for a text that cannot be one. An id is safe in a file name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_one = text.len() == ID_CHARS
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        is_one.then(|| Self(text.to_owned()))
    }

    /// Derives the id of a signing secret.
    #[must_use]
    pub fn of_secret(secret: &Secret) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        Self(URL_SAFE_NO_PAD.encode(hmac::sign(&key, SECRET_NAME_LABEL)))
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key pair cannot be used: it has another type, is damaged or too small, or could not be generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key cannot be used with {0}")]
pub struct BadKey(pub SigningAlgorithm);

/// A key pair that signs access tokens. Cheap to clone; its private half is overwritten when the last clone is dropped.
#[derive(Clone)]
pub struct SigningKey(Arc<Inner>);

struct Inner {
    algorithm: SigningAlgorithm,
    id: KeyId,
    pkcs8: Zeroizing<Vec<u8>>,
    pair: Pair,
    public: Jwk,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    /// Generates a key pair. An RSA key takes about half a second of computing.
    ///
    /// The randomness comes from aws-lc, which accepts none from outside for key generation.
    ///
    /// # Errors
    /// The algorithm signs with a secret, or the library returned no key.
    pub fn generate(algorithm: SigningAlgorithm) -> Result<Self, BadKey> {
        let bad = |_| BadKey(algorithm);
        let random = SystemRandom::new();
        let pkcs8 = match algorithm {
            SigningAlgorithm::EdDsa => Ed25519KeyPair::generate_pkcs8v1(&random).map_err(bad)?.as_ref().to_vec(),
            SigningAlgorithm::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(bad)?.as_ref().to_vec()
            }
            SigningAlgorithm::Rs256 => {
                let pair = RsaKeyPair::generate(RSA_SIZE).map_err(bad)?;
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(bad)?;
                der.as_ref().to_vec()
            }
            SigningAlgorithm::Hs256 | SigningAlgorithm::Hs384 | SigningAlgorithm::Hs512 => {
                return Err(BadKey(algorithm));
            }
        };
        Self::from_pkcs8(algorithm, pkcs8)
    }

    /// Reads a key pair from its PKCS#8 form (RFC 5208).
    ///
    /// # Errors
    /// It is not a key pair of this algorithm.
    pub fn from_pkcs8(algorithm: SigningAlgorithm, pkcs8: Vec<u8>) -> Result<Self, BadKey> {
        let pkcs8 = Zeroizing::new(pkcs8);
        let bad = || BadKey(algorithm);
        let (pair, parameters) = match algorithm {
            SigningAlgorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| bad())?;
                let parameters = OctetKeyPairParameters {
                    key_type: OctetKeyPairType::OctetKeyPair,
                    curve: EllipticCurve::Ed25519,
                    x: URL_SAFE_NO_PAD.encode(pair.public_key()),
                };
                (Pair::Ed25519(pair), AlgorithmParameters::OctetKeyPair(parameters))
            }
            SigningAlgorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).map_err(|_| bad())?;
                // An uncompressed point: 4, and two coordinates of 32 bytes (SEC 1 §2.3.3).
                let point: &[u8; 65] = pair.public_key().as_ref().try_into().map_err(|_| bad())?;
                let parameters = EllipticCurveKeyParameters {
                    key_type: EllipticCurveKeyType::EC,
                    curve: EllipticCurve::P256,
                    x: URL_SAFE_NO_PAD.encode(&point[1..33]),
                    y: URL_SAFE_NO_PAD.encode(&point[33..]),
                };
                (Pair::P256(pair), AlgorithmParameters::EllipticCurve(parameters))
            }
            SigningAlgorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(&pkcs8).map_err(|_| bad())?;
                if pair.public_modulus_len() < MIN_RSA_BYTES {
                    return Err(bad());
                }
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                let parameters = RSAKeyParameters {
                    key_type: RSAKeyType::RSA,
                    n: URL_SAFE_NO_PAD.encode(&public.n),
                    e: URL_SAFE_NO_PAD.encode(&public.e),
                };
                (Pair::Rsa(pair), AlgorithmParameters::RSA(parameters))
            }
            SigningAlgorithm::Hs256 | SigningAlgorithm::Hs384 | SigningAlgorithm::Hs512 => return Err(bad()),
        };
        let common = CommonParameters {
            public_key_use: Some(PublicKeyUse::Signature),
            key_algorithm: Some(jsonwebtoken::Algorithm::from(algorithm).into()),
            ..CommonParameters::default()
        };
        let mut public = Jwk { common, algorithm: parameters };
        let id = KeyId(public.thumbprint(ThumbprintHash::SHA256).map_err(|_| bad())?);
        public.common.key_id = Some(id.0.clone());
        Ok(Self(Arc::new(Inner { algorithm, id, pkcs8, pair, public })))
    }

    /// Returns the algorithm with which it signs.
    #[must_use]
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.0.algorithm
    }

    /// Returns its id.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.0.id
    }

    /// Returns the private key in its PKCS#8 form. Reviews should check every caller.
    #[must_use]
    pub fn expose_pkcs8(&self) -> &[u8] {
        &self.0.pkcs8
    }

    /// Returns the public half, as it is published.
    pub(crate) fn public(&self) -> &Jwk {
        &self.0.public
    }

    /// Signs a message with its algorithm (RFC 7518 §3, RFC 8037 §3.1).
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BadKey> {
        let bad = |_| BadKey(self.0.algorithm);
        let random = SystemRandom::new();
        match &self.0.pair {
            Pair::Ed25519(pair) => pair.try_sign(message).map(|signature| signature.as_ref().to_vec()).map_err(bad),
            Pair::P256(pair) => pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()).map_err(bad),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(bad)?;
                Ok(signature)
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.0.algorithm)
            .field("id", &self.0.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_jwk(jwk: &serde_json::Value) -> String {
        let jwk: Jwk = serde_json::from_value(jwk.clone()).unwrap();
        jwk.thumbprint(ThumbprintHash::SHA256).unwrap()
    }

    #[test]
    fn names_are_the_thumbprints_of_the_standards() {
        // RFC 7638 §3.1 and RFC 8037 A.3.
        let rsa = serde_json::json!({"kty": "RSA", "e": "AQAB", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"});
        assert_eq!(from_jwk(&rsa), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        let ed =
            serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        assert_eq!(from_jwk(&ed), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_key_reads_back_under_its_name_and_under_no_other_algorithm() {
        for algorithm in [SigningAlgorithm::EdDsa, SigningAlgorithm::Es256, SigningAlgorithm::Rs256] {
            let key = SigningKey::generate(algorithm).unwrap();
            let read = SigningKey::from_pkcs8(algorithm, key.expose_pkcs8().to_vec()).unwrap();
            assert_eq!((read.id(), read.algorithm()), (key.id(), algorithm));
            assert!(KeyId::parse(key.id().as_str()).is_some());
            for other in SigningAlgorithm::ALL.into_iter().filter(|other| *other != algorithm) {
                assert!(SigningKey::from_pkcs8(other, key.expose_pkcs8().to_vec()).is_err(), "{algorithm} as {other}");
            }
            let mut cut = key.expose_pkcs8().to_vec();
            cut.pop();
            assert!(SigningKey::from_pkcs8(algorithm, cut).is_err());
            assert_ne!(SigningKey::generate(algorithm).unwrap().id(), key.id());
        }
        for algorithm in SigningAlgorithm::SYMMETRIC {
            assert_eq!(SigningKey::generate(algorithm).unwrap_err(), BadKey(algorithm));
        }
    }

    #[test]
    fn s09_a_key_shows_nothing_of_its_private_half() {
        let key = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
        let shown = format!("{key:?} {}", serde_json::to_string(key.public()).unwrap());
        let members: serde_json::Value = serde_json::to_value(key.public()).unwrap();
        let mut names: Vec<_> = members.as_object().unwrap().keys().cloned().collect();
        names.sort_unstable();
        assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
        // The private scalar of RFC 5915 is in the first 32 bytes after its tag.
        for window in key.expose_pkcs8().windows(32) {
            let text = URL_SAFE_NO_PAD.encode(window);
            let is_public = [&members["x"], &members["y"]].iter().any(|value| **value == text);
            assert!(is_public || !shown.contains(&text));
        }
    }

    #[test]
    fn the_name_of_a_secret_depends_on_it_and_is_not_its_hash() {
        let name = |secret: &str| KeyId::of_secret(&Secret::new(secret.to_owned()));
        assert_eq!(name("a"), name("a"));
        assert_ne!(name("a"), name("b"));
        for bad in ["", "x", &"a".repeat(42), &"a".repeat(44), &format!("{}/", "a".repeat(42)), &"é".repeat(22)] {
            assert_eq!(KeyId::parse(bad), None, "{bad}");
        }
    }
}
