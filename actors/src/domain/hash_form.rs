//! The forms of password hashes that other systems made, and which of them an unknown address is answered with (S11).
//!
//! A hash of another system takes another time than one of ours. If unknown addresses always took the time of ours, a login that takes
//! the other time would reveal an account. So each unknown address is answered with the time of one form, always the same one, and the
//! forms are as frequent among unknown addresses as among accounts.

use aws_lc_rs::hmac;

use super::account::CredentialHash;
use super::email::EmailKey;
use super::secret::Secret;

/// The label from which the key is derived, so that no other use of the signing secret produces the same key.
const KEY_LABEL: &[u8] = b"doorward hash forms of unknown addresses, version 1";
/// The maximum length of a form, in bytes. The longest that is accepted, of scrypt, has about 30.
const MAX_FORM_BYTES: usize = 64;

/// The algorithm and the cost of a hash that another system made: its text without salt and hash, like `$pbkdf2-sha256$i=600000,l=32`.
/// Two hashes of one form take the same time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashForm(String);

impl HashForm {
    /// Returns the form of a hash; `None` for argon2id, which is ours whatever its cost.
    #[must_use]
    pub fn of(hash: &CredentialHash) -> Option<Self> {
        let text = hash.as_phc();
        if text.starts_with("$argon2id$") {
            return None;
        }
        // The modular crypt format of bcrypt has salt and hash in one part.
        let parts = if text.starts_with("$2") { 2 } else { 3 };
        let form = text.rsplitn(parts, '$').nth(parts - 1)?;
        Self::from_stored(form.to_owned())
    }

    /// Makes a form from its stored text; `None` for a text that cannot be one.
    #[must_use]
    pub fn from_stored(text: String) -> Option<Self> {
        (text.starts_with('$') && text.len() <= MAX_FORM_BYTES).then_some(Self(text))
    }

    /// Returns the form as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How many accounts have a hash of one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCount {
    /// The number of accounts now.
    pub now: u64,
    /// The number of accounts to which the form was ever imported.
    pub ever: u64,
}

/// How frequent the forms are among the accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HashForms {
    /// The number of all accounts.
    pub accounts: u64,
    /// The forms of other systems, each with its count. One that no account has any more stays while there are others, so that the
    /// addresses that had it do not change to those.
    pub foreign: Vec<(HashForm, HashCount)>,
}

/// Chooses the form for an address. Without the key, nobody can tell which form an unknown address should have.
pub(crate) struct HashFormKey(hmac::Key);

impl HashFormKey {
    /// Derives the key from a signing secret.
    pub(crate) fn derive(signing_secret: &Secret) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, signing_secret.expose().as_bytes());
        let derived = hmac::sign(&root, KEY_LABEL);
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// Returns a number above 0 and below 1 for an address and a purpose, evenly distributed over addresses.
    fn chance(&self, email: &EmailKey, purpose: &[u8]) -> f64 {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(email.as_str().as_bytes());
        // No address contains a zero byte.
        context.update(&[0]);
        context.update(purpose);
        let tag = context.sign();
        let first = tag.as_ref().first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        (f64::from(first) + 0.5) / (f64::from(u32::MAX) + 1.0)
    }
}

impl HashForms {
    /// Returns the form whose time an unknown address takes; `None` for that of our own hashes.
    ///
    /// An address keeps its form while hashes of that form are renewed at logins, until it changes to our own, as an account does at
    /// its first login. It never changes between two foreign forms, which no account does.
    pub(crate) fn for_unknown(&self, key: &HashFormKey, email: &EmailKey) -> Option<&HashForm> {
        // Weighted rendezvous hashing: among exponential draws with these rates, each is the smallest as often as its weight says, and
        // a weight that grows moves addresses to its own form alone.
        let draw = |purpose: &[u8], weight: u64| -key.chance(email, purpose).ln() / as_float(weight);
        let ever: u64 = self.foreign.iter().map(|(_, count)| count.ever).sum();
        let mut least = draw(b"own", self.accounts.saturating_sub(ever));
        let mut chosen = None;
        for (form, count) in &self.foreign {
            let drawn = draw(form.as_str().as_bytes(), count.ever.max(count.now));
            if drawn < least {
                (least, chosen) = (drawn, Some((form, count)));
            }
        }
        let (form, count) = chosen?;
        let remains = as_float(count.now) / as_float(count.ever.max(count.now));
        (key.chance(email, b"renewed") < remains).then_some(form)
    }
}

/// Returns a count as a float. More than 4 billion accounts count as 4 billion, which changes a share, not a decision.
fn as_float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::email::Email;

    fn form(text: &str) -> HashForm {
        HashForm::from_stored(text.to_owned()).unwrap()
    }

    fn key() -> HashFormKey {
        HashFormKey::derive(&Secret::new("a secret of at least thirty-two bytes".to_owned()))
    }

    fn addresses() -> Vec<EmailKey> {
        (0..4000).map(|n| Email::parse(&format!("nobody{n}@example.com")).unwrap().key().clone()).collect()
    }

    #[test]
    fn a_form_is_a_hash_without_salt_and_hash() {
        let of = |text: &str| HashForm::of(&CredentialHash::from_phc(text.to_owned())).map(|form| form.0);
        assert_eq!(of("$pbkdf2-sha256$i=600000,l=32$c2FsdA$a2V5").as_deref(), Some("$pbkdf2-sha256$i=600000,l=32"));
        assert_eq!(of("$scrypt$ln=14,r=8,p=1$c2FsdA$a2V5").as_deref(), Some("$scrypt$ln=14,r=8,p=1"));
        assert_eq!(of("$argon2i$v=19$m=64,t=1,p=1$c2FsdA$a2V5").as_deref(), Some("$argon2i$v=19$m=64,t=1,p=1"));
        assert_eq!(of("$2b$10$abcdefghijklmnopqrstuv").as_deref(), Some("$2b$10"));
        assert_eq!(of("$argon2id$v=19$m=64,t=1,p=1$c2FsdA$a2V5"), None);
        assert_eq!(of("nonsense"), None);
    }

    #[test]
    fn s11_unknown_addresses_have_forms_as_often_as_accounts_do() {
        let (key, addresses) = (key(), addresses());
        let (one, other) = (form("$pbkdf2-sha256$i=600000,l=32"), form("$2b$10"));
        let count = |now, ever| HashCount { now, ever };
        let forms =
            HashForms { accounts: 100, foreign: vec![(one.clone(), count(30, 50)), (other.clone(), count(20, 20))] };
        let share = |wanted: Option<&HashForm>| {
            addresses.iter().filter(|email| forms.for_unknown(&key, email) == wanted).count() * 100 / addresses.len()
        };
        for (wanted, percent) in [(Some(&one), 30_usize), (Some(&other), 20), (None, 50)] {
            assert!(share(wanted).abs_diff(percent) <= 3, "{wanted:?}: {} instead of {percent} %", share(wanted));
        }
        let none = HashForms { accounts: 100, foreign: Vec::new() };
        assert!(addresses.iter().all(|email| none.for_unknown(&key, email).is_none()));
        let all = HashForms { accounts: 10, foreign: vec![(one.clone(), count(10, 10))] };
        assert!(addresses.iter().all(|email| all.for_unknown(&key, email) == Some(&one)));
    }

    #[test]
    fn s11_an_unknown_address_changes_only_to_our_own_form() {
        let (key, addresses) = (key(), addresses());
        let (one, other) = (form("$pbkdf2-sha256$i=600000,l=32"), form("$2b$10"));
        let mut before: Vec<Option<HashForm>> = Vec::new();
        for logged_in in 0..=40 {
            let foreign = vec![
                (one.clone(), HashCount { now: 40 - logged_in, ever: 40 }),
                (other.clone(), HashCount { now: 40 - logged_in / 2, ever: 40 }),
            ];
            // Meanwhile other people register.
            let forms = HashForms { accounts: 100 + logged_in, foreign };
            let now: Vec<_> = addresses.iter().map(|email| forms.for_unknown(&key, email).cloned()).collect();
            for (before, now) in before.iter().zip(&now) {
                assert!(before == now || now.is_none(), "{before:?} became {now:?}");
            }
            before = now;
        }
    }
}
