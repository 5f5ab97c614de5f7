//! Hashes that other systems made. They are verified as they are, until the next login replaces them by one of ours.
//!
//! A stored hash chooses how long its verification takes. So a hash that costs too much is refused at the import, and is not computed
//! if it got into the store in another way.

use std::num::NonZeroU32;

use argon2::password_hash::phc::{Ident, Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::argon2id::MAX_STORED_ITERATIONS;
use crate::domain::account::CredentialHash;
use crate::domain::hash_form::HashForm;

/// The maximum passes of PBKDF2, over all blocks of the key: each block of the length of a digest takes all passes. They take 0.3 to 0.7 s;
/// Django asks for 1,200,000 with SHA-256 today.
const MAX_PBKDF2_ITERATIONS: u32 = 1_500_000;
/// The maximum memory of an imported argon2 hash, in KiB, and its maximum memory × passes. That is 27 times our default, about 0.4 s.
const MAX_ARGON2_MEMORY_KIB: u32 = 64 * 1024;
const MAX_ARGON2_WORK_KIB: u64 = 1024 * 1024;
/// The maximum lanes of an imported argon2 hash, which are computed one after the other.
const MAX_ARGON2_LANES: u32 = 64;
/// The maximum `N` × `r` × `p` of scrypt: 128 MiB and about 0.4 s.
const MAX_SCRYPT_WORK: u64 = 1 << 20;
/// The maximum cost of bcrypt, about 0.6 s, and the minimum that bcrypt has.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=13;
/// The length of a bcrypt hash.
const BCRYPT_CHARS: usize = 60;
/// The maximum length of the text of a hash that is read at all, in bytes.
const MAX_TEXT_BYTES: usize = 512;
/// The lengths of salt and key, in bytes, that are accepted: those that fit the PHC format.
const SALT_BYTES: std::ops::RangeInclusive<usize> = 8..=48;
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
/// The prefix of the hashes of the auth service that Doorward replaces.
const AUTH_SERVICE: &str = "pbkdf2-sha256$";
/// Base64 in either alphabet, with or without padding.
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Why a hash of another system cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForeignHashError {
    /// It is not in a form that is known here.
    #[error("the hash is not in a known form")]
    Unknown,
    /// Its verification would take too long.
    #[error("the hash costs too much to verify")]
    TooCostly,
    /// Its salt or its key is too short or too long.
    #[error("the salt or the key of the hash has an unusual length")]
    Length,
}

impl CredentialHash {
    /// Reads a password hash of the auth service that Doorward replaces: `pbkdf2-sha256$600000$SALT$KEY`, with salt and key in base64.
    ///
    /// # Errors
    /// It has another form, an unusual length or too high a cost.
    pub fn from_auth_service(text: &str) -> Result<Self, ForeignHashError> {
        let mut parts = text.strip_prefix(AUTH_SERVICE).ok_or(ForeignHashError::Unknown)?.split('$');
        let (Some(passes), Some(salt), Some(key), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(ForeignHashError::Unknown);
        };
        let digits = !passes.is_empty() && passes.bytes().all(|b| b.is_ascii_digit());
        // A number that does not fit is a cost that is too high.
        let passes = if digits { passes.parse().unwrap_or(u32::MAX) } else { 0 };
        pbkdf2_hash("pbkdf2-sha256", passes, &from_base64(salt)?, &from_base64(key)?)
    }

    /// Reads a password hash of any system: argon2id, argon2i, argon2d, scrypt, PBKDF2 with SHA-256 or SHA-512 as a PHC string, or bcrypt
    /// in its own format.
    ///
    /// # Errors
    /// It has another form, an unusual length or too high a cost.
    pub fn from_foreign(text: &str) -> Result<Self, ForeignHashError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(ForeignHashError::Length);
        }
        if text.starts_with("$2") {
            bcrypt_cost(text)?;
            return Ok(Self::from_phc(without_padding_bits(text)));
        }
        let stored = PasswordHash::new(text).map_err(|_| ForeignHashError::Unknown)?;
        let (Some(salt), Some(key)) = (&stored.salt, &stored.hash) else { return Err(ForeignHashError::Unknown) };
        if !SALT_BYTES.contains(&salt.as_ref().len()) || !KEY_BYTES.contains(&key.as_bytes().len()) {
            return Err(ForeignHashError::Length);
        }
        Kdf::of(&stored)?;
        let hash = Self::from_phc(stored.to_string());
        // A hash whose form cannot be kept would pass for one of ours.
        if stored.algorithm.as_str() != "argon2id" && HashForm::of(&hash).is_none() {
            return Err(ForeignHashError::Length);
        }
        Ok(hash)
    }

    /// Reads a passphrase hash: argon2id as a PHC string, which is the form of all passphrase hashes here.
    ///
    /// # Errors
    /// It has another form or too high a cost.
    pub fn from_own(text: &str) -> Result<Self, ForeignHashError> {
        let hash = Self::from_foreign(text)?;
        if hash.as_phc().starts_with("$argon2id$") { Ok(hash) } else { Err(ForeignHashError::Unknown) }
    }
}

/// Returns the cost of a bcrypt hash that may be computed.
fn bcrypt_cost(text: &str) -> Result<u32, ForeignHashError> {
    if text.len() != BCRYPT_CHARS {
        return Err(ForeignHashError::Length);
    }
    // `2x` marks hashes of an implementation with a fault, which others must not repeat.
    let rest = ["$2a$", "$2b$", "$2y$"].iter().find_map(|prefix| text.strip_prefix(prefix));
    let (cost, encoded) = rest.and_then(|rest| rest.split_once('$')).ok_or(ForeignHashError::Unknown)?;
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'/';
    if cost.len() != 2 || !cost.bytes().all(|b| b.is_ascii_digit()) || !encoded.bytes().all(is_base64) {
        return Err(ForeignHashError::Unknown);
    }
    match cost.parse() {
        Ok(cost) if BCRYPT_COSTS.contains(&cost) => Ok(cost),
        Ok(cost) if cost > *BCRYPT_COSTS.end() => Err(ForeignHashError::TooCostly),
        _ => Err(ForeignHashError::Unknown),
    }
}

/// Clears the bits of a bcrypt hash that carry nothing: four at the end of the salt, and two at the end of the hash. Some systems set
/// them and all ignore them, but our implementation refuses them.
fn without_padding_bits(text: &str) -> String {
    const ALPHABET: &[u8] = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let cleared = |(at, byte): (usize, u8)| {
        let unused = match at {
            28 => 4,
            59 => 2,
            _ => return char::from(byte),
        };
        let value = ALPHABET.iter().position(|known| *known == byte).unwrap_or(0) >> unused << unused;
        char::from(ALPHABET[value])
    };
    text.bytes().enumerate().map(cleared).collect()
}

/// Returns how many passes PBKDF2 makes for a key of this length (RFC 8018 §5.2).
fn pbkdf2_work(algorithm: &str, passes: u32, key_bytes: usize) -> u64 {
    let digest = if algorithm == "pbkdf2-sha512" { 64 } else { 32 };
    let blocks = u64::try_from(key_bytes.div_ceil(digest)).unwrap_or(u64::MAX);
    u64::from(passes).saturating_mul(blocks)
}

/// Builds the PHC text of a PBKDF2 hash.
fn pbkdf2_hash(algorithm: &str, passes: u32, salt: &[u8], key: &[u8]) -> Result<CredentialHash, ForeignHashError> {
    if passes == 0 {
        return Err(ForeignHashError::Unknown);
    }
    if pbkdf2_work(algorithm, passes, key.len()) > u64::from(MAX_PBKDF2_ITERATIONS) {
        return Err(ForeignHashError::TooCostly);
    }
    if !SALT_BYTES.contains(&salt.len()) || !KEY_BYTES.contains(&key.len()) {
        return Err(ForeignHashError::Length);
    }
    let mut params = ParamsString::new();
    let length = u32::try_from(key.len()).map_err(|_| ForeignHashError::Length)?;
    params.add_decimal("i", passes).map_err(|_| ForeignHashError::Unknown)?;
    params.add_decimal("l", length).map_err(|_| ForeignHashError::Unknown)?;
    let phc = PasswordHash {
        algorithm: Ident::new(algorithm).map_err(|_| ForeignHashError::Unknown)?,
        version: None,
        params,
        salt: Some(Salt::new(salt).map_err(|_| ForeignHashError::Length)?),
        hash: Some(Output::new(key).map_err(|_| ForeignHashError::Length)?),
    };
    Ok(CredentialHash::from_phc(phc.to_string()))
}

fn from_base64(text: &str) -> Result<Vec<u8>, ForeignHashError> {
    // Bounded before it is decoded.
    if text.len() > 256 {
        return Err(ForeignHashError::Length);
    }
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).map_err(|_| ForeignHashError::Unknown)
}

/// A function that makes a key of a secret, at a cost that may be computed.
enum Kdf {
    Pbkdf2(pbkdf2::Algorithm, NonZeroU32),
    Scrypt(scrypt::Params),
    Argon2(Algorithm, Version, Params),
}

impl Kdf {
    fn of(stored: &PasswordHash) -> Result<Self, ForeignHashError> {
        let number = |name: &str| stored.params.get_decimal(name).ok_or(ForeignHashError::Unknown);
        let key_bytes = stored.hash.as_ref().map_or(0, |key| key.as_bytes().len());
        let pbkdf2 = |algorithm| {
            let passes = NonZeroU32::new(number("i")?).ok_or(ForeignHashError::Unknown)?;
            let work = pbkdf2_work(stored.algorithm.as_str(), passes.get(), key_bytes);
            let fits = work <= u64::from(MAX_PBKDF2_ITERATIONS);
            if fits { Ok(Self::Pbkdf2(algorithm, passes)) } else { Err(ForeignHashError::TooCostly) }
        };
        match stored.algorithm.as_str() {
            "pbkdf2-sha256" => pbkdf2(pbkdf2::PBKDF2_HMAC_SHA256),
            "pbkdf2-sha512" => pbkdf2(pbkdf2::PBKDF2_HMAC_SHA512),
            "scrypt" => Self::scrypt(number("ln")?, number("r")?, number("p")?),
            "argon2id" | "argon2i" | "argon2d" => Self::argon2(stored),
            _ => Err(ForeignHashError::Unknown),
        }
    }

    fn scrypt(log_n: u32, r: u32, p: u32) -> Result<Self, ForeignHashError> {
        let n = 1_u64.checked_shl(log_n).filter(|n| *n > 1).ok_or(ForeignHashError::TooCostly)?;
        let work = n.checked_mul(u64::from(r)).and_then(|work| work.checked_mul(u64::from(p)));
        if work.is_none_or(|work| work > MAX_SCRYPT_WORK) {
            return Err(ForeignHashError::TooCostly);
        }
        let log_n = u8::try_from(log_n).map_err(|_| ForeignHashError::TooCostly)?;
        scrypt::Params::new(log_n, r, p).map(Self::Scrypt).map_err(|_| ForeignHashError::Unknown)
    }

    fn argon2(stored: &PasswordHash) -> Result<Self, ForeignHashError> {
        let params = Params::try_from(stored).map_err(|_| ForeignHashError::Unknown)?;
        let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
        let lanes = params.p_cost();
        let passes = params.t_cost();
        if params.m_cost() > MAX_ARGON2_MEMORY_KIB
            || work > MAX_ARGON2_WORK_KIB
            || passes > MAX_STORED_ITERATIONS
            || lanes > MAX_ARGON2_LANES
        {
            return Err(ForeignHashError::TooCostly);
        }
        let algorithm = Algorithm::try_from(stored.algorithm.as_str()).map_err(|_| ForeignHashError::Unknown)?;
        // The first version wrote none.
        let version = Version::try_from(stored.version.unwrap_or(0x10)).map_err(|_| ForeignHashError::Unknown)?;
        if algorithm == Algorithm::Argon2id && version != Version::V0x13 {
            return Err(ForeignHashError::Unknown);
        }
        Ok(Self::Argon2(algorithm, version, params))
    }

    /// Returns whether the secret makes this key.
    fn makes(self, secret: &[u8], salt: &[u8], key: &[u8]) -> Option<bool> {
        let mut made = vec![0; key.len()];
        match self {
            Self::Pbkdf2(algorithm, passes) => {
                return Some(pbkdf2::verify(algorithm, passes, salt, secret, key).is_ok());
            }
            Self::Scrypt(params) => scrypt::scrypt(secret, salt, &params, &mut made).ok()?,
            Self::Argon2(algorithm, version, params) => {
                Argon2::new(algorithm, version, params).hash_password_into(secret, salt, &mut made).ok()?;
            }
        }
        Some(aws_lc_rs::constant_time::verify_slices_are_equal(&made, key).is_ok())
    }
}

/// Compares a secret with a hash of another system. `None` if the hash is none that is known here, or costs too much.
pub(super) fn verify(secret: &[u8], against: &CredentialHash) -> Option<bool> {
    let text = against.as_phc();
    if text.starts_with("$2") {
        bcrypt_cost(text).ok()?;
        // Secrets are cut to 72 bytes, as the system did that made the hash.
        return bcrypt::verify(secret, text).ok();
    }
    let stored = PasswordHash::new(text).ok()?;
    let (salt, key) = (stored.salt.as_ref()?, stored.hash.as_ref()?);
    Kdf::of(&stored).ok()?.makes(secret, salt.as_ref(), key.as_bytes())
}

/// Returns a hash of this form that nobody has, to take its time.
pub(super) fn decoy(form: &HashForm) -> CredentialHash {
    if form.as_str().starts_with("$2") {
        // 22 characters of salt and 31 of the hash.
        return CredentialHash::from_phc(format!("{}${}", form.as_str(), ".".repeat(53)));
    }
    // 16 bytes of salt. A key of the length that the form names; of 32 bytes if it names none.
    let length = form.as_str().rsplit_once("l=").and_then(|(_, length)| length.parse().ok()).unwrap_or(32_usize);
    let key = Output::new(&vec![0x5A; length.clamp(*KEY_BYTES.start(), *KEY_BYTES.end())]);
    let key = key.map_or_else(|_| String::new(), |key| key.to_string());
    CredentialHash::from_phc(format!("{}$AAAAAAAAAAAAAAAAAAAAAA${key}", form.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `hashlib.pbkdf2_hmac("sha256", b"correct horse", b"0123456789abcdef", 1000)` of Python.
    const OLD: &str = "pbkdf2-sha256$1000$MDEyMzQ1Njc4OWFiY2RlZg==$cBg8D2DungRB9k76szThf5ehfyBz991ay6PT8Srwk4M=";

    #[test]
    fn a_hash_of_the_auth_service_verifies_as_it_is() {
        let hash = CredentialHash::from_auth_service(OLD).unwrap();
        assert!(hash.as_phc().starts_with("$pbkdf2-sha256$i=1000,l=32$MDEyMzQ1Njc4OWFiY2RlZg$"), "{}", hash.as_phc());
        assert_eq!(verify(b"correct horse", &hash), Some(true));
        assert_eq!(verify(b"Correct horse", &hash), Some(false));
        let url_safe = OLD.replace('+', "-").replace('/', "_").replace('=', "");
        assert_eq!(CredentialHash::from_auth_service(&url_safe).unwrap(), hash);
    }

    #[test]
    fn s85_a_hash_cannot_choose_a_ruinous_cost_or_an_absurd_length() {
        let of = |passes: &str, salt: &str, key: &str| {
            CredentialHash::from_auth_service(&format!("pbkdf2-sha256${passes}${salt}${key}")).unwrap_err()
        };
        let (salt, key) = ("MDEyMzQ1Njc4OWFiY2RlZg==", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
        assert_eq!(of("1500001", salt, key), ForeignHashError::TooCostly);
        assert_eq!(of("99999999999999999999", salt, key), ForeignHashError::TooCostly);
        for passes in ["0", "", "-1", "+5", "1e3", " 5"] {
            assert_eq!(of(passes, salt, key), ForeignHashError::Unknown, "{passes}");
        }
        assert_eq!(of("1000", "MDEy", key), ForeignHashError::Length);
        assert_eq!(of("1000", salt, "MDEy"), ForeignHashError::Length);
        assert_eq!(of("1000", &"A".repeat(1_000_000), key), ForeignHashError::Length);
        assert_eq!(of("1000", "not base64", key), ForeignHashError::Unknown);
        assert_eq!(of("1000", salt, &format!("{key}$more")), ForeignHashError::Unknown);
        for text in ["", "none", "pbkdf2-sha256$", "$2b$10$abc", "pbkdf2-sha512$1$a$b"] {
            assert_eq!(CredentialHash::from_auth_service(text).unwrap_err(), ForeignHashError::Unknown, "{text}");
        }
        let stored =
            CredentialHash::from_phc(format!("$pbkdf2-sha256$i=4294967295,l=32${}${}", "A".repeat(22), "A".repeat(43)));
        assert_eq!(verify(b"secret", &stored), None, "a hash that got into the store in another way");
    }

    /// Hashes of `correct horse`, made by Python's hashlib (PBKDF2 and scrypt), by crypt(3) (bcrypt) and by the crate itself (argon2).
    fn others() -> Vec<CredentialHash> {
        let argon2 = |algorithm: Algorithm, lanes| {
            let params = Params::new(256, 2, lanes, Some(32)).unwrap();
            let mut key = [0; 32];
            let salt = b"0123456789abcdef";
            Argon2::new(algorithm, Version::V0x13, params)
                .hash_password_into(b"correct horse", salt, &mut key)
                .unwrap();
            let (salt, key) = (Salt::new(salt).unwrap(), Output::new(&key).unwrap());
            format!("${}$v=19$m=256,t=2,p={lanes}${salt}${key}", algorithm.ident())
        };
        let texts = [
            argon2(Algorithm::Argon2i, 1),
            argon2(Algorithm::Argon2d, 4),
            "$scrypt$ln=10,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$6g3umF+uVrJsObaTZhIbbTlgrvOEFcCItdwSjtPF67M".to_owned(),
            "$pbkdf2-sha512$i=1000,l=64$MDEyMzQ1Njc4OWFiY2RlZg$OM0FAoIqCVK1sWtxDiffVlBejtLa+ks4TP71JiecwuSZCG8iLbnlIEPOMoVX+i2B2wkSxjQ8CRGR9OkNGuIPMQ".to_owned(),
            "$2b$04$KBCwKxOzLha2MUDyiq.5ve0B8l4VLCNgW3iezEF4xH2yBbe.5Q7QW".to_owned(),
        ];
        texts
            .iter()
            .map(|text| CredentialHash::from_foreign(text).unwrap_or_else(|error| panic!("{text}: {error}")))
            .collect()
    }

    #[test]
    fn hashes_of_many_systems_verify_as_they_are() {
        for hash in others() {
            assert_eq!(verify(b"correct horse", &hash), Some(true), "{}", hash.as_phc());
            assert_eq!(verify(b"Correct horse", &hash), Some(false), "{}", hash.as_phc());
            assert_eq!(CredentialHash::from_own(hash.as_phc()).unwrap_err(), ForeignHashError::Unknown);
        }
    }

    #[test]
    fn s85_no_form_can_choose_a_ruinous_cost() {
        let (salt, key) = ("A".repeat(22), "A".repeat(43));
        let of =
            |params: &str| CredentialHash::from_foreign(&format!("{params}${salt}${key}")).map(|_| ()).unwrap_err();
        for params in [
            "$argon2id$v=19$m=65537,t=1,p=1",
            "$argon2i$v=19$m=131072,t=1,p=1",
            "$argon2id$v=19$m=65536,t=16,p=4000",
            "$argon2d$v=19$m=1024,t=4000000,p=1",
            "$argon2id$v=19$m=64,t=17,p=1",
            "$argon2i$v=19$m=65536,t=1,p=65",
            "$scrypt$ln=18,r=8,p=1",
            "$scrypt$ln=10,r=8,p=4096",
            "$scrypt$ln=64,r=8,p=1",
            "$scrypt$ln=200,r=4294967295,p=4294967295",
            "$pbkdf2-sha512$i=1500001,l=32",
            "$pbkdf2-sha256$i=1500001",
        ] {
            assert_eq!(of(params), ForeignHashError::TooCostly, "{params}");
        }
        // A key of two digests takes all passes twice.
        let long = "A".repeat(86);
        let long = |params: &str| CredentialHash::from_foreign(&format!("{params}${salt}${long}")).map(drop);
        assert_eq!(long("$pbkdf2-sha256$i=750001,l=64"), Err(ForeignHashError::TooCostly));
        assert_eq!(long("$pbkdf2-sha256$i=750000,l=64"), Ok(()));
        assert_eq!(long("$pbkdf2-sha512$i=1500000,l=64"), Ok(()));
        for params in
            ["$scrypt$ln=10,r=8", "$md5$i=1", "$argon2id$v=16$m=64,t=1,p=1", "$pbkdf2-sha256$i=0,l=32", "$argon2x$m=1"]
        {
            assert_eq!(of(params), ForeignHashError::Unknown, "{params}");
        }
        let bcrypt =
            |head: &str| CredentialHash::from_foreign(&format!("{head}{}", ".".repeat(53))).map(|_| ()).unwrap_err();
        assert_eq!(bcrypt("$2b$14$"), ForeignHashError::TooCostly);
        assert_eq!(bcrypt("$2b$99$"), ForeignHashError::TooCostly);
        for head in ["$2x$10$", "$2b$03$", "$2b$1a$", "$2b$+9$"] {
            assert_eq!(bcrypt(head), ForeignHashError::Unknown, "{head}");
        }
        assert_eq!(CredentialHash::from_foreign("$2b$10$short").unwrap_err(), ForeignHashError::Length);
        assert_eq!(CredentialHash::from_foreign(&"$".repeat(1_000_000)).unwrap_err(), ForeignHashError::Length);
        assert!(CredentialHash::from_own(&format!("$argon2id$v=19$m=65536,t=3,p=4${salt}${key}")).is_ok());
    }

    #[test]
    fn every_hash_that_is_accepted_can_be_verified() {
        let good = "$2b$04$KBCwKxOzLha2MUDyiq.5ve0B8l4VLCNgW3iezEF4xH2yBbe.5Q7QW";
        let padded = "$2b$04$KBCwKxOzLha2MUDyiq.5vf0B8l4VLCNgW3iezEF4xH2yBbe.5Q7QX";
        assert_eq!(bcrypt::verify("correct horse", padded).ok(), None, "the implementation refuses it");
        let hash = CredentialHash::from_foreign(padded).unwrap();
        assert_eq!(hash.as_phc(), good);
        assert_eq!(verify(b"correct horse", &hash), Some(true));
        let long = format!("$argon2i$v=19$m=64,t=1,p=1,data={}${}${}", "A".repeat(43), "A".repeat(22), "A".repeat(43));
        assert!(CredentialHash::from_foreign(&long).is_err(), "its form cannot be kept");
        let foreign = format!("$pbkdf2-sha256$i=1000,l=32,x={}${}${}", "a".repeat(40), "A".repeat(22), "A".repeat(43));
        assert!(CredentialHash::from_own(&foreign).is_err(), "no passphrase hash has this form");
    }

    #[test]
    fn s11_a_decoy_has_the_form_it_stands_for() {
        for hash in others().into_iter().chain([CredentialHash::from_auth_service(OLD).unwrap()]) {
            let form = HashForm::of(&hash).unwrap();
            let decoy = decoy(&form);
            assert_eq!(HashForm::of(&decoy), Some(form));
            assert_eq!(verify(b"correct horse", &decoy), Some(false), "{}", decoy.as_phc());
        }
    }
}
