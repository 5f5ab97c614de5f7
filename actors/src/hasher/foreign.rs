//! Hashes that other systems made. They are verified as they are, until the next login replaces them by one of ours.
//!
//! A stored hash chooses how long its verification takes. So a hash that costs too much is refused at the import, and is not computed
//! if it got into the store in another way.

use std::num::NonZeroU32;

use argon2::password_hash::phc::{Ident, Output, ParamsString, PasswordHash, Salt};
use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::domain::account::CredentialHash;
use crate::domain::hash_form::HashForm;

/// The maximum passes of PBKDF2. With SHA-256 they take 0.5 s on a slow processor; Django asks for 1,200,000 today.
const MAX_PBKDF2_ITERATIONS: u32 = 1_500_000;
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
}

/// Builds the PHC text of a PBKDF2 hash.
fn pbkdf2_hash(algorithm: &str, passes: u32, salt: &[u8], key: &[u8]) -> Result<CredentialHash, ForeignHashError> {
    if passes == 0 {
        return Err(ForeignHashError::Unknown);
    }
    if passes > MAX_PBKDF2_ITERATIONS {
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

/// A PBKDF2 hash that may be computed.
struct Pbkdf2 {
    algorithm: pbkdf2::Algorithm,
    passes: NonZeroU32,
}

impl Pbkdf2 {
    fn of(stored: &PasswordHash) -> Option<Self> {
        let algorithm = match stored.algorithm.as_str() {
            "pbkdf2-sha256" => pbkdf2::PBKDF2_HMAC_SHA256,
            "pbkdf2-sha512" => pbkdf2::PBKDF2_HMAC_SHA512,
            _ => return None,
        };
        let passes = NonZeroU32::new(stored.params.get_decimal("i")?)?;
        (passes.get() <= MAX_PBKDF2_ITERATIONS).then_some(Self { algorithm, passes })
    }
}

/// Compares a secret with a hash of another system. `None` if the hash is none that is known here, or costs too much.
pub(super) fn verify(secret: &[u8], against: &CredentialHash) -> Option<bool> {
    let stored = PasswordHash::new(against.as_phc()).ok()?;
    let Pbkdf2 { algorithm, passes } = Pbkdf2::of(&stored)?;
    let (salt, key) = (stored.salt.as_ref()?, stored.hash.as_ref()?);
    Some(pbkdf2::verify(algorithm, passes, salt.as_ref(), secret, key.as_bytes()).is_ok())
}

/// Returns a hash of this form that nobody has, to take its time.
pub(super) fn decoy(form: &HashForm) -> CredentialHash {
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

    #[test]
    fn s11_a_decoy_has_the_form_it_stands_for() {
        let hash = CredentialHash::from_auth_service(OLD).unwrap();
        let form = HashForm::of(&hash).unwrap();
        let decoy = decoy(&form);
        assert_eq!(HashForm::of(&decoy), Some(form));
        assert_eq!(verify(b"correct horse", &decoy), Some(false));
    }
}
