//! A forger who has the keys of an installation and can sign any token with them.

use std::fs;
use std::path::Path;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaEncoding,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use doorward::settings::Algorithm;
use doorward_actors::Secret;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Person, TestApp, TestAppBuilder, leaks};

/// The secret that signs with `HS*` in these tests.
const SECRET: &str = "forged-secret-key-0123456789abcdef";
/// The lifetime of tokens in seconds.
pub(super) const LIFETIME: i64 = 1800;

/// An installation that signs with one algorithm, and its keys. It signed with another algorithm shortly before.
pub(super) struct Forge {
    pub(super) app: TestApp,
    pub(super) algorithm: Algorithm,
    /// A logged-in person, and the parts of their token.
    pub(super) ann: Person,
    pub(super) token: String,
    pub(super) header: Value,
    pub(super) claims: Value,
    /// Another person and the token of their session.
    pub(super) admin: Person,
    pub(super) admins: String,
    key: Key,
    directory: TempDir,
}

pub(super) enum Key {
    Secret(hmac::Algorithm),
    Ed25519(Box<Ed25519KeyPair>),
    P256(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

impl Key {
    fn of(algorithm: Algorithm, directory: &Path, kid: &Value) -> Self {
        let pkcs8 = || {
            let file = directory.join("keys").join(format!("key-{}.pem", kid.as_str().unwrap()));
            let pem = fs::read_to_string(file).unwrap();
            let lines = pem.lines().filter(|line| !line.starts_with('-'));
            STANDARD.decode(lines.collect::<String>()).unwrap()
        };
        match algorithm {
            Algorithm::Hs256 => Self::Secret(hmac::HMAC_SHA256),
            Algorithm::Hs384 => Self::Secret(hmac::HMAC_SHA384),
            Algorithm::Hs512 => Self::Secret(hmac::HMAC_SHA512),
            Algorithm::EdDsa => Self::Ed25519(Box::new(Ed25519KeyPair::from_pkcs8(&pkcs8()).unwrap())),
            Algorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8());
                Self::P256(Box::new(pair.unwrap()))
            }
            Algorithm::Rs256 => Self::Rsa(Box::new(RsaKeyPair::from_pkcs8(&pkcs8()).unwrap())),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Secret(algorithm) => mac(*algorithm, SECRET.as_bytes(), message),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::P256(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => rsa(pair, &RSA_PKCS1_SHA256, message),
        }
    }

    /// Returns every encoding of the public key that a verifier could mistake for a secret.
    pub(super) fn public_forms(&self, jwk: &Value) -> Vec<Vec<u8>> {
        let (raw, der) = match self {
            Self::Secret(_) => return Vec::new(),
            Self::Ed25519(pair) => (pair.public_key().as_ref(), pair.public_key().as_der().unwrap()),
            Self::P256(pair) => (pair.public_key().as_ref(), pair.public_key().as_der().unwrap()),
            Self::Rsa(pair) => (pair.public_key().as_ref(), pair.public_key().as_der().unwrap()),
        };
        let der: PublicKeyX509Der<'_> = der;
        let (raw, der) = (raw.to_vec(), der.as_ref().to_vec());
        let mut lines = String::new();
        for line in STANDARD.encode(&der).as_bytes().chunks(64) {
            lines.push_str(std::str::from_utf8(line).unwrap());
            lines.push('\n');
        }
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{lines}-----END PUBLIC KEY-----");
        let mut forms: Vec<Vec<u8>> = [
            format!("{pem}\n"),
            pem.replace('\n', "\r\n"),
            pem.replace('\n', ""),
            lines.replace('\n', ""),
            jwk.to_string(),
            json!({"keys": [jwk]}).to_string(),
            STANDARD.encode(&raw),
            URL_SAFE_NO_PAD.encode(&raw),
            pem,
        ]
        .map(String::into_bytes)
        .into();
        for member in ["x", "y", "n", "e", "kid"] {
            if let Some(text) = jwk[member].as_str() {
                forms.push(text.as_bytes().to_vec());
                forms.push(URL_SAFE_NO_PAD.decode(text).unwrap());
            }
        }
        forms.extend([raw, der, Vec::new(), vec![0; 32]]);
        forms
    }
}

pub(super) fn rsa(pair: &RsaKeyPair, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
    signature
}

pub(super) fn mac(algorithm: hmac::Algorithm, secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(algorithm, secret), message).as_ref().to_vec()
}

/// Returns the signed part of a token: header and claims.
pub(super) fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", encoded(header), encoded(claims))
}

pub(super) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn part(token: &str, n: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(n).unwrap()).unwrap()).unwrap()
}

impl Forge {
    fn builder(algorithm: Algorithm, directory: &Path) -> TestAppBuilder {
        let change = move |settings: &mut doorward::settings::Settings| {
            settings.tokens.algorithm = algorithm;
            settings.tokens.secret_key = Some(Secret::new(SECRET.to_owned()));
            settings.limits.address_failures = 10_000;
        };
        TestApp::builder().with(change).data_dir(directory)
    }

    pub(super) async fn with(algorithm: Algorithm) -> Self {
        leaks::note_secret(SECRET);
        let directory = TempDir::new().unwrap();
        // With this history, headers of `HS256` are known, and a key pair exists that no longer signs.
        let app = Self::builder(Algorithm::Hs256, directory.path()).spawn().await;
        let admin = app.register("admin").await;
        let ann = app.register("ann").await;
        let app = Self::builder(other_than(algorithm), directory.path()).continuing(app).await;
        let app = Self::builder(algorithm, directory.path()).continuing(app).await;
        let (token, admins) = (app.login(&ann).await, app.login(&admin).await);
        let (header, claims) = (part(&token, 0), part(&token, 1));
        let key = Key::of(algorithm, directory.path(), &header["kid"]);
        Self { app, algorithm, ann, token, header, claims, admin, admins, key, directory }
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Returns the header as the service writes it.
    pub(super) fn header_text(&self) -> String {
        spelt(&self.header)
    }

    /// Returns the header with a member changed, added or, for null, removed.
    pub(super) fn header_with(&self, member: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[member] = value;
        spelt(&header)
    }

    /// Returns the claims with a member changed or added.
    pub(super) fn claims_with(&self, member: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        claims[member] = value;
        claims.to_string()
    }

    pub(super) fn sign(&self, message: &str) -> Vec<u8> {
        self.key.sign(message.as_bytes())
    }

    /// Returns a token with a valid signature over any content.
    pub(super) fn token(&self, header: &str, claims: &str) -> String {
        self.signed(message(header, claims))
    }

    pub(super) fn signed(&self, message: String) -> String {
        let signature = encoded(self.sign(&message));
        message + "." + &signature
    }

    /// Signs a message for an older key of the installation. `message` receives the name of the key.
    pub(super) async fn other_key(&self, message: impl Fn(&str) -> String) -> String {
        let keys = self.app.get("/.well-known/jwks.json").await.body["keys"].clone();
        let is_other = |key: &&Value| key["kid"] != self.header["kid"];
        let kid = keys.as_array().unwrap().iter().find(is_other).map(|key| key["kid"].clone()).unwrap();
        let message = message(kid.as_str().unwrap());
        let other = Key::of(other_than(self.algorithm), self.directory.path(), &kid);
        format!("{message}.{}", encoded(other.sign(message.as_bytes())))
    }

    /// Returns the published public key of the signing key.
    pub(super) async fn jwk(&self) -> Value {
        let keys = self.app.get("/.well-known/jwks.json").await.body["keys"].clone();
        let own = keys.as_array().unwrap().iter().find(|key| key["kid"] == self.header["kid"]);
        own.cloned().unwrap_or_default()
    }

    pub(super) fn is_symmetric(&self) -> bool {
        matches!(self.key, Key::Secret(_))
    }
}

/// Returns the algorithm that the installation signed with before.
fn other_than(algorithm: Algorithm) -> Algorithm {
    if algorithm == Algorithm::Es256 { Algorithm::EdDsa } else { Algorithm::Es256 }
}

/// Writes a header in the order of the service. Null members are left out.
pub(super) fn spelt(header: &Value) -> String {
    let first = ["typ", "alg", "kid"];
    let others = header.as_object().unwrap().keys().map(String::as_str).filter(|name| !first.contains(name));
    let members = first.into_iter().chain(others).filter(|name| !header[*name].is_null());
    let members: Vec<_> = members.map(|name| format!("\"{name}\":{}", header[name])).collect();
    format!("{{{}}}", members.join(","))
}
