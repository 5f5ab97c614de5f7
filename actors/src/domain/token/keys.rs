//! A ring with its keys, ready to sign and to check.

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

/// Why keys cannot be put to use.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// A key of the ring is not there.
    #[error("the ring names the key {0}, which is not there")]
    Missing(KeyId),
    /// The ring names nothing that could sign.
    #[error("the ring of keys names none that signs")]
    NoSigner,
    /// A key cannot be used.
    #[error(transparent)]
    Bad(#[from] BadKey),
    /// The library refused.
    #[error(transparent)]
    Library(#[from] jsonwebtoken::errors::Error),
    /// What is signed or published has no JSON form.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// The public keys, as `/.well-known/jwks.json` shows them (RFC 7517 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedKeys {
    /// The set in JSON.
    pub body: String,
    /// Its entity tag, with the quotes: another one for another set.
    pub etag: String,
}

/// All that may sign or check, made of one state of the ring. It never changes; another state makes another one.
pub(crate) struct TokenKeys {
    pub(crate) ring: KeyRing,
    /// The key pairs of the ring.
    pub(crate) pairs: Vec<SigningKey>,
    /// One for each key of the ring that is at hand. A secret of the past that nobody gave is not.
    ready: Vec<ReadyKey>,
    pub(crate) published: PublishedKeys,
    /// Counts the states, so that what was found out by an older one is not taken for known.
    pub(crate) generation: u64,
}

/// A key with what its tokens begin with and are checked by.
struct ReadyKey {
    of: RingKey,
    /// The header as it stands in every token that this key signs. A token with any other header (another `alg`, another
    /// `kid`, `jku`, `x5u`, `jwk` or `crit`, another `typ`) is not of this key (S43).
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
    /// Puts the keys of a ring to use.
    ///
    /// # Errors
    /// One of them is missing or cannot be used, or none signs.
    pub(crate) fn new(
        settings: &TokenSettings,
        ring: KeyRing,
        pairs: Vec<SigningKey>,
        generation: u64,
    ) -> Result<Self, TokenKeyError> {
        let mut ready = Vec::with_capacity(ring.keys.len());
        let mut public: Vec<Jwk> = Vec::new();
        // The newest first: it is asked for most often.
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

    /// Signs claims with the key whose turn it is.
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

    /// The claims of a token and the key that signed it; `None` unless one of the keys did.
    ///
    /// The header only finds the key; with which algorithm it is used, the key alone says (RFC 8725 §3.1).
    pub(crate) fn open<C: DeserializeOwned>(&self, token: &str, now: Timestamp) -> Option<(C, &RingKey)> {
        let (header, _) = token.split_once('.')?;
        // Two secrets of one algorithm have the same header; a key pair has its own.
        let mut fitting = self.ready.iter().filter(|key| key.header == header && key.is_accepted(now));
        fitting.find_map(|key| {
            let opened = jsonwebtoken::decode::<C>(token, &key.decoding, &key.validation).ok()?;
            Some((opened.claims, &key.of))
        })
    }

    /// Whether tokens of a key of the ring can be checked.
    pub(crate) fn is_at_hand(&self, key: &RingKey) -> bool {
        self.ready.iter().any(|ready| ready.of.id == key.id && ready.of.algorithm == key.algorithm)
    }
}

impl ReadyKey {
    /// A secret of the ring, if it is one of those that were given.
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

    /// Whether the time of its last token is not over. Whoever has a secret of the past may write any `exp`.
    fn is_accepted(&self, now: Timestamp) -> bool {
        self.of.accepted_until().is_none_or(|until| until > now)
    }
}

/// The first segment of the tokens of a key. Those of a secret have no `kid`: nobody looks for their key in a key set.
fn header(algorithm: SigningAlgorithm, id: Option<&KeyId>) -> String {
    let kid = id.map_or_else(String::new, |id| format!(",\"kid\":\"{id}\""));
    URL_SAFE_NO_PAD.encode(format!("{{\"typ\":\"{TOKEN_TYPE}\",\"alg\":\"{algorithm}\"{kid}}}"))
}

/// The one algorithm and the claims that are asked for. The library reads the ambient clock, so it is not asked for times.
fn validation(settings: &TokenSettings, algorithm: SigningAlgorithm) -> Validation {
    let mut validation = Validation::new(algorithm.into());
    validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    validation.set_issuer(&[&settings.issuer]);
    validation.set_audience(&[&settings.audience]);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation
}
