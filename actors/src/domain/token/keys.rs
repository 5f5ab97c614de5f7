//! A key ring with its keys, ready to sign and to verify.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{DecodingKey, Validation};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::key::{BadKey, KeyId, SigningKey};
use super::ring::{KeyRing, RingKey};
use super::{SigningAlgorithm, TOKEN_TYPE, TokenSettings};
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// A key of the ring does not exist.
    #[error("the ring names the key {0}, which is missing")]
    Missing(KeyId),
    /// The ring contains no key that signs.
    #[error("the ring of keys names none that signs")]
    NoSigner,
    /// A key cannot be used.
    #[error(transparent)]
    Bad(#[from] BadKey),
    /// The library returned an error.
    #[error(transparent)]
    Library(#[from] jsonwebtoken::errors::Error),
    /// The claims or the key set cannot be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// The public keys, as `/.well-known/jwks.json` returns them (RFC 7517 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedKeys {
    /// The key set as JSON.
    pub body: String,
    /// Its entity tag, including the quotes. It differs for each set.
    pub etag: String,
}

/// All keys that may sign or verify, built from one state of the ring. It is immutable; a new state gets a new value.
pub(crate) struct TokenKeys {
    pub(crate) ring: KeyRing,
    /// The key pairs of the ring.
    pub(crate) pairs: Vec<SigningKey>,
    /// One for each available key of the ring. An earlier secret that is not configured is not available.
    ready: Vec<ReadyKey>,
    pub(crate) published: PublishedKeys,
    /// The number of this state, so that results from an older state are not reused.
    pub(crate) generation: u64,
}

/// A key with the header of its tokens and the data to verify them.
struct ReadyKey {
    of: RingKey,
    /// The exact header of each token that this key signs.
    /// A token with any other header (another `alg`, `kid` or `typ`, or a `jku`, `x5u`, `jwk` or `crit`) does not belong to this key (S43).
    header: String,
    signer: Signer,
    decoding: DecodingKey,
    validation: Validation,
}

enum Signer {
    Secret(Box<hmac::Key>),
    Pair(SigningKey),
}

impl TokenKeys {
    /// Prepares the keys of a ring for use.
    ///
    /// # Errors
    /// A key is missing or cannot be used, or no key signs.
    pub(crate) fn new(
        settings: &TokenSettings,
        ring: KeyRing,
        pairs: Vec<SigningKey>,
        generation: u64,
    ) -> Result<Self, TokenKeyError> {
        let mut ready = Vec::with_capacity(ring.keys.len());
        let mut public: Vec<Jwk> = Vec::new();
        // Newest first, because it is used most often.
        for key in ring.keys.iter().rev() {
            if key.algorithm.is_symmetric() {
                ready.extend(ReadyKey::of_secret(settings, key));
                continue;
            }
            let pair = pairs.iter().find(|pair| *pair.id() == key.id && pair.algorithm() == key.algorithm);
            let pair = pair.ok_or_else(|| TokenKeyError::Missing(key.id.clone()))?;
            public.push(pair.public().clone());
            ready.push(ReadyKey::of_pair(settings, key, pair)?);
        }
        if ready.is_empty() {
            return Err(TokenKeyError::NoSigner);
        }
        let body = serde_json::to_string(&JwkSet { keys: public })?;
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest(&SHA256, body.as_bytes()).as_ref()[..16]));
        let published = PublishedKeys { body, etag };
        Ok(Self { ring, pairs, ready, published, generation })
    }

    /// Signs claims with the key that signs at `now`.
    pub(crate) fn sign(&self, claims: &impl Serialize, now: Timestamp) -> Result<Secret, TokenKeyError> {
        let turn = self.ring.signer(now).ok_or(TokenKeyError::NoSigner)?;
        let of_turn = |key: &&ReadyKey| key.of.id == turn.id && key.of.algorithm == turn.algorithm;
        let key = self.ready.iter().find(of_turn).ok_or(TokenKeyError::NoSigner)?;
        let mut token = format!("{}.{}", key.header, URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims)?));
        let signature = match &key.signer {
            Signer::Secret(secret) => hmac::sign(secret, token.as_bytes()).as_ref().to_vec(),
            Signer::Pair(pair) => pair.sign(token.as_bytes())?,
        };
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Secret::new(token))
    }

    /// Returns the claims of a token and the key that signed it; `None` if none of the keys did.
    ///
    /// The header only selects the key. The key alone determines the algorithm (RFC 8725 §3.1).
    pub(crate) fn open<C: DeserializeOwned>(&self, token: &str, now: Timestamp) -> Option<(C, &RingKey)> {
        let (header, _) = token.split_once('.')?;
        // Two secrets with the same algorithm have the same header; each key pair has its own.
        let mut fitting = self.ready.iter().filter(|key| key.header == header && key.is_accepted(now));
        fitting.find_map(|key| {
            let opened = jsonwebtoken::decode::<C>(token, &key.decoding, &key.validation).ok()?;
            Some((opened.claims, &key.of))
        })
    }

    /// Returns whether tokens of this key of the ring can be verified.
    pub(crate) fn is_at_hand(&self, key: &RingKey) -> bool {
        self.ready.iter().any(|ready| ready.of.id == key.id && ready.of.algorithm == key.algorithm)
    }
}

impl ReadyKey {
    /// Prepares a secret of the ring; `None` if that secret is not configured.
    fn of_secret(settings: &TokenSettings, key: &RingKey) -> Option<Self> {
        let given = std::iter::once(&settings.secret).chain(&settings.previous_secret);
        let secret = given.into_iter().find(|secret| KeyId::of_secret(secret) == key.id)?.expose().as_bytes();
        let algorithm = match key.algorithm {
            SigningAlgorithm::Hs384 => hmac::HMAC_SHA384,
            SigningAlgorithm::Hs512 => hmac::HMAC_SHA512,
            _ => hmac::HMAC_SHA256,
        };
        Some(Self {
            header: header(key.algorithm, None),
            signer: Signer::Secret(Box::new(hmac::Key::new(algorithm, secret))),
            decoding: DecodingKey::from_secret(secret),
            validation: validation(settings, key.algorithm),
            of: key.clone(),
        })
    }

    fn of_pair(settings: &TokenSettings, key: &RingKey, pair: &SigningKey) -> Result<Self, TokenKeyError> {
        Ok(Self {
            header: header(key.algorithm, Some(&key.id)),
            signer: Signer::Pair(pair.clone()),
            decoding: DecodingKey::from_jwk(pair.public())?,
            validation: validation(settings, key.algorithm),
            of: key.clone(),
        })
    }

    /// Returns whether its last token may still be valid. An attacker with an earlier secret could write any `exp`.
    fn is_accepted(&self, now: Timestamp) -> bool {
        self.of.accepted_until().is_none_or(|until| until > now)
    }
}

/// Returns the header segment of the tokens of a key. For a secret it has no `kid`, because no key set contains the secret.
fn header(algorithm: SigningAlgorithm, id: Option<&KeyId>) -> String {
    let kid = id.map_or_else(String::new, |id| format!(",\"kid\":\"{id}\""));
    URL_SAFE_NO_PAD.encode(format!("{{\"typ\":\"{TOKEN_TYPE}\",\"alg\":\"{algorithm}\"{kid}}}"))
}

/// Builds the checks of the algorithm and the claims. Times are checked elsewhere, because the library reads the ambient clock.
fn validation(settings: &TokenSettings, algorithm: SigningAlgorithm) -> Validation {
    let mut validation = Validation::new(algorithm.into());
    validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    validation.set_issuer(&[&settings.issuer]);
    validation.set_audience(&[&settings.audience]);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation
}
