//! Refresh tokens: a client exchanges one for its next access token.
//!
//! A session has one family of refresh tokens, a chain in which each token is derived from the one before.
//! The successor is an HMAC of its predecessor under a key that is derived from the signing secret.
//! A client that presents the same token twice therefore gets the same successor, and the store needs only the hash of the present one.
//! A tag, made with another such key and a random seed of the family, proves that a token was issued.
//! So an old token is recognised as such, however old it is (ADR 022).

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::account::AccountId;
use super::secret::Secret;
use super::session::SessionId;
use super::time::Timestamp;

/// The prefix of every refresh token, by which scanners for leaked secrets recognise it.
const PREFIX: &str = "dwr_";
/// The labels from which the keys are derived, so that no other use of the signing secret produces the same keys.
const CHAIN_LABEL: &[u8] = b"doorward refresh tokens, version 1";
const TAG_LABEL: &[u8] = b"doorward tags of refresh tokens, version 1";
/// The bytes of a token: account 8, session 16, generation 4, secret 32, tag 16.
const TOKEN_BYTES: usize = 76;
const TAG_BYTES: usize = 16;
/// The length of a written token.
const TOKEN_CHARS: usize = PREFIX.len() + 102;
/// The maximum number of replaced tokens that are accepted at the same time.
/// No client needs more exchanges within the grace period.
const MAX_RECENT: usize = 16;

/// SHA-256 of the secret part of a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshHash([u8; 32]);

impl RefreshHash {
    /// Makes a hash from its stored bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, as the store keeps them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn of(secret: &RefreshSecret) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.0.as_ref());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

/// The secret 256 bits of a refresh token.
#[derive(Clone)]
struct RefreshSecret(Zeroizing<[u8; 32]>);

/// A parsed refresh token.
#[derive(Clone)]
pub(crate) struct RefreshToken {
    pub(crate) account: AccountId,
    pub(crate) session: SessionId,
    generation: u32,
    secret: RefreshSecret,
    tag: [u8; TAG_BYTES],
}

impl RefreshToken {
    /// Parses a written token; `None` for a text that cannot be a token.
    pub(crate) fn parse(written: &str) -> Option<Self> {
        if written.len() != TOKEN_CHARS {
            return None;
        }
        let body = written.strip_prefix(PREFIX)?;
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES + 3]);
        let length = URL_SAFE_NO_PAD.decode_slice(body, bytes.as_mut()).ok()?;
        if length != TOKEN_BYTES {
            return None;
        }
        let account = u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
        let session = SessionId::from_bytes(bytes.get(8..24)?.try_into().ok()?);
        let generation = u32::from_be_bytes(bytes.get(24..28)?.try_into().ok()?);
        let secret = RefreshSecret(Zeroizing::new(bytes.get(28..60)?.try_into().ok()?));
        let tag = bytes.get(60..TOKEN_BYTES)?.try_into().ok()?;
        Some(Self { account: AccountId::new(account)?, session, generation, secret, tag })
    }

    /// Returns the token in its written form.
    pub(crate) fn write(&self) -> Secret {
        let mut bytes = Zeroizing::new(Vec::with_capacity(TOKEN_BYTES));
        bytes.extend(self.account.get().to_be_bytes());
        bytes.extend(self.session.as_bytes());
        bytes.extend(self.generation.to_be_bytes());
        bytes.extend(self.secret.0.as_ref());
        bytes.extend(self.tag);
        let mut written = String::with_capacity(TOKEN_CHARS);
        written.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut written);
        Secret::new(written)
    }

    /// Builds the proof for the store, without checking the tag. The caller checks that the tag is one of this family.
    pub(crate) fn untagged(&self, family: &RefreshFamily) -> RefreshProof {
        let Self { account, session, generation, .. } = *self;
        RefreshProof { account, session, seed: family.seed, generation, hash: RefreshHash::of(&self.secret) }
    }
}

/// The properties of an issued token without its secret: enough to judge it, too little to use it.
#[derive(Debug, Clone, Copy)]
pub struct RefreshProof {
    /// The account that the token names.
    pub account: AccountId,
    /// The session that the token names.
    pub session: SessionId,
    /// The seed of the family in which it was issued. The session may have another family by now.
    seed: [u8; 32],
    generation: u32,
    hash: RefreshHash,
}

impl RefreshProof {
    /// Returns the hash of the token.
    #[must_use]
    pub const fn hash(&self) -> RefreshHash {
        self.hash
    }
}

/// The judgement of a presented token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshVerdict {
    /// It is the present token.
    Current,
    /// It was replaced within the grace period; the present token is `behind` generations newer.
    Recent {
        /// The number of generations, at least 1.
        behind: u32,
    },
    /// It was issued, but replaced too long ago: two parties hold tokens of this family.
    Reused,
    /// It belongs to another family (a new password was set in the session) or is newer than the present token (a backup was restored).
    /// It is treated as if it had never been issued.
    Unknown,
}

/// The refresh tokens of one session, as the store keeps them. This value gives no access.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshFamily {
    /// The seed of the tags of the family.
    pub seed: [u8; 32],
    /// The generation of the present token; the first is 0.
    pub generation: u32,
    /// The hash of the present token.
    pub current: RefreshHash,
    /// When the tokens before it were replaced, newest first. Times past the grace period are dropped.
    pub replaced_at: Vec<Timestamp>,
}

impl fmt::Debug for RefreshFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, replaced_at, .. } = self;
        f.debug_struct("RefreshFamily")
            .field("generation", generation)
            .field("replaced_at", replaced_at)
            .finish_non_exhaustive()
    }
}

impl RefreshFamily {
    /// Judges at `now` a token that was issued in this family.
    #[must_use]
    pub fn judge(&self, proof: &RefreshProof, now: Timestamp, grace: Duration) -> RefreshVerdict {
        if proof.seed != self.seed {
            return RefreshVerdict::Unknown;
        }
        match self.generation.checked_sub(proof.generation) {
            Some(0) if proof.hash == self.current => RefreshVerdict::Current,
            None | Some(0) => RefreshVerdict::Unknown,
            Some(behind) => {
                let replaced = usize::try_from(behind - 1).ok().and_then(|at| self.replaced_at.get(at));
                // A clock that was set back by more than the grace period does not extend the time for which a token is accepted.
                let honoured = |at: &Timestamp| now.since(*at) <= grace && at.since(now) <= grace;
                if replaced.is_some_and(honoured) { RefreshVerdict::Recent { behind } } else { RefreshVerdict::Reused }
            }
        }
    }

    /// Returns the family after its present token is replaced; `None` if the generation would overflow.
    #[must_use]
    pub fn renewed(&self, successor: RefreshHash, now: Timestamp, grace: Duration) -> Option<Self> {
        let recent = self.replaced_at.iter().copied().take_while(|at| now.since(*at) <= grace);
        let replaced_at = std::iter::once(now).chain(recent).take(MAX_RECENT).collect();
        let generation = self.generation.checked_add(1)?;
        Some(Self { seed: self.seed, generation, current: successor, replaced_at })
    }
}

/// The keys that are derived from one signing secret.
struct Derived {
    chain: hmac::Key,
    tags: hmac::Key,
}

impl Derived {
    fn from(signing_secret: &Secret) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, signing_secret.expose().as_bytes());
        let derive = |label| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, label).as_ref());
        Self { chain: derive(CHAIN_LABEL), tags: derive(TAG_LABEL) }
    }

    /// Derives the secret of the token of this generation from the secret of the one before.
    fn next(&self, token: &RefreshToken, generation: u32, secret: &RefreshSecret) -> RefreshSecret {
        let mut context = hmac::Context::with_key(&self.chain);
        context.update(&token.account.get().to_be_bytes());
        context.update(token.session.as_bytes());
        context.update(&generation.to_be_bytes());
        context.update(secret.0.as_ref());
        let mut next = Zeroizing::new([0; 32]);
        next.copy_from_slice(context.sign().as_ref());
        RefreshSecret(next)
    }

    fn tag(&self, seed: &[u8; 32], proof: &RefreshProof) -> [u8; TAG_BYTES] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&self.tags, seed).as_ref());
        let mut context = hmac::Context::with_key(&key);
        context.update(&proof.account.get().to_be_bytes());
        context.update(proof.session.as_bytes());
        context.update(&proof.generation.to_be_bytes());
        context.update(proof.hash.as_bytes());
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG_BYTES]);
        tag
    }
}

/// Issues refresh tokens and verifies that they were issued, with the signing secret and, if it is still configured, the previous one.
/// A token with the tag of neither is worthless, so a changed secret ends every family.
pub(crate) struct RefreshKeys {
    present: Derived,
    previous: Option<Derived>,
}

impl RefreshKeys {
    pub(crate) fn derive(signing_secret: &Secret, previous: Option<&Secret>) -> Self {
        Self { present: Derived::from(signing_secret), previous: previous.map(Derived::from) }
    }

    /// Begins a family with 512 random bits; returns it with its first token.
    pub(crate) fn begin(
        &self,
        account: AccountId,
        session: SessionId,
        random: &[u8; 64],
    ) -> (RefreshFamily, RefreshToken) {
        let (mut seed, mut secret) = ([0; 32], Zeroizing::new([0; 32]));
        seed.copy_from_slice(&random[..32]);
        secret.copy_from_slice(&random[32..]);
        let secret = RefreshSecret(secret);
        let family = RefreshFamily { seed, generation: 0, current: RefreshHash::of(&secret), replaced_at: Vec::new() };
        let token = self.write(&family, account, session, secret);
        (family, token)
    }

    /// Builds the present token of a family from its secret.
    fn write(
        &self,
        family: &RefreshFamily,
        account: AccountId,
        session: SessionId,
        secret: RefreshSecret,
    ) -> RefreshToken {
        let mut token = RefreshToken { account, session, generation: family.generation, secret, tag: [0; TAG_BYTES] };
        token.tag = self.present.tag(&family.seed, &token.untagged(family));
        token
    }

    /// Returns the proof of a token for the store; `None` if the token was never issued in this family.
    pub(crate) fn proof(&self, family: &RefreshFamily, token: &RefreshToken) -> Option<RefreshProof> {
        let proof = token.untagged(family);
        let is_of = |keys: &Derived| {
            constant_time::verify_slices_are_equal(&keys.tag(&family.seed, &proof), &token.tag).is_ok()
        };
        (is_of(&self.present) || self.previous.as_ref().is_some_and(is_of)).then_some(proof)
    }

    /// Returns the hash of the token that replaces this one.
    pub(crate) fn successor(&self, token: &RefreshToken) -> RefreshHash {
        RefreshHash::of(&self.present.next(token, token.generation.saturating_add(1), &token.secret))
    }

    /// Derives the present token of a family from an earlier one.
    /// `None` if the chain does not lead there, for example because the signing secret changed and the previous one is not configured.
    pub(crate) fn present(&self, family: &RefreshFamily, from: &RefreshToken) -> Option<RefreshToken> {
        let behind = family.generation.checked_sub(from.generation)?;
        if usize::try_from(behind).ok()? > MAX_RECENT {
            return None;
        }
        // The signing secret may have changed after any of the exchanges: try each number of exchanges with the previous secret, then the
        // rest with the present one.
        let mut changed = from.secret.clone();
        for generation in from.generation..=family.generation {
            let secret = (generation..family.generation)
                .fold(changed.clone(), |secret, before| self.present.next(from, before + 1, &secret));
            if RefreshHash::of(&secret) == family.current {
                return Some(self.write(family, from.account, from.session, secret));
            }
            changed = self.previous.as_ref()?.next(from, generation.checked_add(1)?, &changed);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn account() -> AccountId {
        AccountId::new(7).unwrap()
    }

    fn key(secret: &str) -> RefreshKeys {
        RefreshKeys::derive(&Secret::new(secret.to_owned()), None)
    }

    fn changed(before: &str, secret: &str) -> RefreshKeys {
        let [before, secret] = [before, secret].map(|text| Secret::new(text.to_owned()));
        RefreshKeys::derive(&secret, Some(&before))
    }

    fn begin(byte: u8) -> (RefreshFamily, RefreshToken) {
        key("a").begin(account(), SessionId::from_bytes([byte; 16]), &[byte; 64])
    }

    /// Replaces the present token at each of these times; returns the family and all tokens.
    fn exchanged(times: &[i64]) -> (RefreshFamily, Vec<RefreshToken>) {
        let (mut family, first) = begin(1);
        let mut tokens = vec![first];
        for seconds in times {
            let last = tokens.last().unwrap();
            family = family.renewed(key("a").successor(last), at(*seconds), GRACE).unwrap();
            tokens.push(key("a").present(&family, last).unwrap());
        }
        (family, tokens)
    }

    #[test]
    fn s24_a_refresh_token_reads_back_and_nothing_else_does() {
        let (_, token) = begin(1);
        let written = token.write();
        let written = written.expose();
        assert_eq!(written.len(), TOKEN_CHARS);
        assert!(written.starts_with("dwr_"));
        assert_eq!(RefreshToken::parse(written).unwrap().write().expose(), written);
        let nobody = format!("dwr_{}", URL_SAFE_NO_PAD.encode([0; TOKEN_BYTES]));
        for bad in ["", "dwr_", &written[1..], &written[..written.len() - 1], &format!("{written}A"), &nobody] {
            assert!(RefreshToken::parse(bad).is_none(), "{bad}");
        }
        assert!(RefreshToken::parse(&written.replace("dwr_", "dws_")).is_none());
        assert!(RefreshToken::parse(&"é".repeat(TOKEN_CHARS / 2)).is_none());
    }

    #[test]
    fn the_same_predecessor_has_the_same_successor_and_another_key_another_one() {
        let (_, token) = begin(1);
        assert_eq!(key("a").successor(&token), key("a").successor(&token));
        assert_ne!(key("a").successor(&token), key("b").successor(&token));
        assert_ne!(key("a").successor(&token), key("a").successor(&begin(2).1));
        let family = begin(1).0.renewed(key("a").successor(&token), at(1), GRACE).unwrap();
        assert!(key("a").present(&family, &token).is_some());
        assert!(key("b").present(&family, &token).is_none());
    }

    #[test]
    fn a_token_is_current_then_recent_then_reused() {
        let (family, tokens) = exchanged(&[100]);
        let judge = |n: usize, seconds| family.judge(&tokens[n].untagged(&family), at(seconds), GRACE);
        assert_eq!(judge(1, 100), RefreshVerdict::Current);
        assert_eq!(judge(1, 100_000), RefreshVerdict::Current);
        assert_eq!(judge(0, 110), RefreshVerdict::Recent { behind: 1 });
        assert_eq!(judge(0, 111), RefreshVerdict::Reused);
        assert_eq!(judge(0, 91), RefreshVerdict::Recent { behind: 1 }, "the clock was set back a little");
        assert_eq!(judge(0, 80), RefreshVerdict::Reused, "the clock was set back by a lot");
    }

    #[test]
    fn every_token_within_the_grace_leads_to_the_present_one() {
        let (family, tokens) = exchanged(&[100, 101, 105, 111]);
        for (n, expected) in [
            (0, RefreshVerdict::Reused),
            (1, RefreshVerdict::Recent { behind: 3 }),
            (2, RefreshVerdict::Recent { behind: 2 }),
            (3, RefreshVerdict::Recent { behind: 1 }),
            (4, RefreshVerdict::Current),
        ] {
            assert_eq!(family.judge(&tokens[n].untagged(&family), at(111), GRACE), expected, "{n}");
            let present = key("a").present(&family, &tokens[n]).unwrap();
            assert_eq!(present.write().expose(), tokens[4].write().expose());
        }
        let (busy, tokens) = exchanged(&[100; 40]);
        assert_eq!(busy.replaced_at.len(), MAX_RECENT);
        assert_eq!(busy.judge(&tokens[23].untagged(&busy), at(100), GRACE), RefreshVerdict::Reused);
        assert_eq!(busy.judge(&tokens[24].untagged(&busy), at(100), GRACE), RefreshVerdict::Recent { behind: 16 });
    }

    #[test]
    fn what_was_never_issued_is_nothing_and_not_a_reuse() {
        let (family, tokens) = exchanged(&[100, 200, 300]);
        let verdict =
            |token: &RefreshToken| key("a").proof(&family, token).map(|proof| family.judge(&proof, at(1000), GRACE));
        assert_eq!(verdict(&tokens[0]), Some(RefreshVerdict::Reused));
        for forged in [
            RefreshToken { generation: 1, ..tokens[0].clone() },
            RefreshToken { tag: [0; TAG_BYTES], ..tokens[0].clone() },
            RefreshToken { secret: tokens[1].secret.clone(), ..tokens[0].clone() },
            RefreshToken { session: SessionId::from_bytes([2; 16]), ..tokens[0].clone() },
            RefreshToken { account: AccountId::new(8).unwrap(), ..tokens[0].clone() },
            begin(2).1,
        ] {
            assert_eq!(verdict(&forged), None);
        }
        // The family as a backup from before the last exchanges has it.
        let older = exchanged(&[100]).0;
        let proof = key("a").proof(&older, &tokens[3]).unwrap();
        assert_eq!(older.judge(&proof, at(1000), GRACE), RefreshVerdict::Unknown);
    }

    #[test]
    fn c07_a_token_of_an_earlier_family_is_nothing_however_old_the_present_one_is() {
        let (earlier, tokens) = exchanged(&[100, 200]);
        let mut random = [1; 64];
        random[0] = 2;
        let (mut family, first) = key("a").begin(account(), SessionId::from_bytes([1; 16]), &random);
        let proofs: Vec<_> = tokens.iter().map(|token| key("a").proof(&earlier, token).unwrap()).collect();
        for token in &tokens {
            assert!(key("a").proof(&family, token).is_none());
        }
        for _ in 0..4 {
            // Proofs from the earlier family, judged while the present family is stored.
            for proof in &proofs {
                assert_eq!(family.judge(proof, at(1000), GRACE), RefreshVerdict::Unknown);
            }
            let last = key("a").present(&family, &first).unwrap();
            family = family.renewed(key("a").successor(&last), at(300), GRACE).unwrap();
        }
    }

    #[test]
    fn s37_another_signing_secret_ends_every_family_unless_the_one_before_is_given() {
        let (family, tokens) = exchanged(&[100]);
        assert!(key("b").proof(&family, &tokens[1]).is_none());
        let keys = changed("a", "b");
        let proof = keys.proof(&family, &tokens[1]).unwrap();
        assert_eq!(family.judge(&proof, at(200), GRACE), RefreshVerdict::Current);
        // Exchanges before the change are followed across it, however many exchanges came before and after.
        let mut chain = (family, tokens);
        for seconds in [101, 102, 103] {
            let last = chain.1.last().unwrap();
            chain.0 = chain.0.renewed(keys.successor(last), at(seconds), GRACE).unwrap();
            let next = keys.present(&chain.0, last).unwrap();
            chain.1.push(next);
            for token in &chain.1 {
                let present = keys.present(&chain.0, token).unwrap();
                assert_eq!(present.write().expose(), chain.1.last().unwrap().write().expose());
            }
        }
        // From then on, the new secret alone is enough.
        assert!(key("b").proof(&chain.0, chain.1.last().unwrap()).is_some());
    }
}
