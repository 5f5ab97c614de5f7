use std::sync::atomic::{AtomicU8, Ordering};

use aws_lc_rs::hmac;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::account::{AccountOrigin, CustomerAccount, Role};
use crate::domain::email::Email;
use crate::domain::nickname::Nickname;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const EARLIER: &str = "an earlier secret of thirty-two b";
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const LIFETIME: Duration = Duration::from_mins(30);

fn settings(algorithm: SigningAlgorithm) -> TokenSettings {
    TokenSettings {
        algorithm,
        secret: Secret::new(SECRET.to_owned()),
        previous_secret: Some(Secret::new(EARLIER.to_owned())),
        issuer: "doorward".to_owned(),
        audience: "services".to_owned(),
        lifetime: LIFETIME,
        rotation: None,
    }
}

/// Returns a different id each time.
fn token_id() -> TokenId {
    static GIVEN: AtomicU8 = AtomicU8::new(0);
    TokenId::from_bytes([GIVEN.fetch_add(1, Ordering::Relaxed); 16])
}

/// A service with one key of this algorithm, and an attacker who has that key.
struct World {
    algorithm: SigningAlgorithm,
    tokens: AccessTokens,
    pair: Option<SigningKey>,
    header: Value,
}

impl World {
    fn new(algorithm: SigningAlgorithm) -> Self {
        let mut ring = KeyRing::default();
        let (pair, header) = if algorithm.is_symmetric() {
            ring.switch(KeyId::of_secret(&Secret::new(SECRET.to_owned())), algorithm, LIFETIME, NOW);
            (None, json!({"typ": "at+jwt", "alg": algorithm.as_str()}))
        } else {
            let pair = SigningKey::generate(algorithm).unwrap();
            ring.switch(pair.id().clone(), algorithm, LIFETIME, NOW);
            let header = json!({"typ": "at+jwt", "alg": algorithm.as_str(), "kid": pair.id().as_str()});
            (Some(pair), header)
        };
        let pairs = pair.iter().cloned().collect();
        Self { algorithm, tokens: tokens(algorithm, ring, pairs), pair, header }
    }

    fn all() -> impl Iterator<Item = Self> {
        SigningAlgorithm::ALL.into_iter().map(Self::new)
    }

    /// Signs a message as the service would.
    fn sign(&self, message: &str) -> String {
        match &self.pair {
            Some(pair) => URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()).unwrap()),
            None => mac(self.algorithm, SECRET.as_bytes(), message),
        }
    }

    /// Signs a token with the right key and any header and claims.
    fn forge(&self, header: &str, claims: &Value) -> String {
        let message = message(header, claims);
        format!("{message}.{}", self.sign(&message))
    }

    fn signed(&self, claims: &Value) -> String {
        self.forge(&spelt(&self.header), claims)
    }

    /// Returns the service's header with one member changed, added or, for null, removed.
    fn header_with(&self, member: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[member] = value;
        spelt(&header)
    }

    #[track_caller]
    fn assert_refused(&self, token: &str, why: &str) {
        assert_eq!(self.tokens.verify(token, NOW), Err(InvalidToken), "{} {why}", self.algorithm);
    }
}

fn tokens(algorithm: SigningAlgorithm, ring: KeyRing, pairs: Vec<SigningKey>) -> AccessTokens {
    let keys = TokenKeys::new(&settings(algorithm), ring, pairs, 0).unwrap();
    AccessTokens::new(&settings(algorithm), keys)
}

/// Writes a header in the order that the service uses, without null members.
fn spelt(header: &Value) -> String {
    let mut order = vec!["typ", "alg", "kid"];
    order.extend(
        header.as_object().unwrap().keys().map(String::as_str).filter(|name| !["typ", "alg", "kid"].contains(name)),
    );
    let members = order.into_iter().filter(|name| !header[*name].is_null());
    let members: Vec<_> = members.map(|name| format!("\"{name}\":{}", header[name])).collect();
    format!("{{{}}}", members.join(","))
}

fn message(header: &str, claims: &Value) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn mac(algorithm: SigningAlgorithm, secret: &[u8], message: &str) -> String {
    let algorithm = match algorithm {
        SigningAlgorithm::Hs384 => hmac::HMAC_SHA384,
        SigningAlgorithm::Hs512 => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    URL_SAFE_NO_PAD.encode(hmac::sign(&hmac::Key::new(algorithm, secret), message.as_bytes()))
}

fn account() -> Account {
    Account {
        id: AccountId::new(7).unwrap(),
        email: Email::parse("ann@example.com").unwrap(),
        nickname: Nickname::parse("ann").unwrap(),
        password_hash: None,
        password_revision: 0,
        passphrase_hash: None,
        passphrase_revision: 0,
        customer_account: CustomerAccount::none(),
        role: Role::User,
        origin: AccountOrigin::Owner,
        locked: false,
        email_verified: false,
        pending_email: None,
        reserved_email: None,
        password_compromised: false,
        locale: crate::domain::mail::Locale::En,
        created_at: NOW,
        session_epoch: 0,
        revision: 0,
    }
}

fn session() -> Session {
    Session {
        id: SessionId::from_bytes([9; 16]),
        account: AccountId::new(7).unwrap(),
        epoch: 0,
        created_at: NOW,
        authenticated_at: Some(NOW),
        expires_at: NOW.plus(Duration::from_mins(1)),
        last_active_at: NOW,
        address: None,
        user_agent: None,
        notified_at: None,
        label: None,
        remembered: false,
    }
}

fn issue(tokens: &AccessTokens, at: Timestamp) -> String {
    tokens.issue(&account(), &session(), at, at.plus(Duration::from_mins(1)), token_id()).unwrap().expose().to_owned()
}

fn good_claims() -> Value {
    let now = NOW.as_seconds();
    json!({"iss": "doorward", "aud": "services", "sub": "7", "sid": session().id.to_string(),
        "jti": TokenId([5; 16]).to_string(), "iat": now, "nbf": now, "exp": now + 60})
}

#[test]
fn an_issued_token_reads_back_and_says_what_rfc_9068_asks_for() {
    for world in World::all() {
        let token = issue(&world.tokens, NOW);
        let read = world.tokens.verify(&token, NOW).unwrap();
        assert_eq!((read.account, read.session), (account().id, session().id));
        assert_eq!((read.issued_at, read.expires_at), (NOW, NOW.plus(Duration::from_mins(1))));
        let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
        assert_eq!(String::from_utf8(parts.next().unwrap()).unwrap(), spelt(&world.header));
        let claims: Value = serde_json::from_slice(&parts.next().unwrap()).unwrap();
        let mut expected = good_claims();
        expected["jti"] = json!(read.token_id.unwrap().to_string());
        expected["id"] = json!(7);
        expected["nickname"] = json!("ann");
        expected["role"] = json!("user");
        assert_eq!(claims, expected);
        let again = world.tokens.verify(&issue(&world.tokens, NOW), NOW).unwrap();
        assert_ne!(again.token_id, read.token_id, "each token has a name of its own");
        assert!(world.tokens.verify(&world.signed(&good_claims()), NOW).is_ok(), "the forger makes good tokens");
    }
}

#[test]
fn the_header_of_secrets_is_what_it_always_was() {
    let header = spelt(&World::new(SigningAlgorithm::Hs256).header);
    assert_eq!(header, r#"{"typ":"at+jwt","alg":"HS256"}"#);
}

#[test]
fn s43_any_other_header_is_refused_whatever_signs() {
    for world in World::all() {
        let mut bad = vec![
            world.header_with("alg", json!("none")),
            world.header_with("alg", json!("None")),
            world.header_with("alg", json!(null)),
            world.header_with("kid", json!("1")),
            world.header_with("kid", json!("../../dev/null")),
            world.header_with("kid", json!(KeyId::of_secret(&Secret::new(SECRET.to_owned())).as_str())),
            world.header_with("jku", json!("https://example.com/keys")),
            world.header_with("x5u", json!("https://example.com/cert")),
            world.header_with("x5c", json!(["MIIB"])),
            world.header_with("crit", json!(["exp"])),
            world.header_with("b64", json!(false)),
            world.header_with("zip", json!("DEF")),
            world.header_with("jwk", json!({"kty": "oct", "k": "AA"})),
            spelt(&world.header).replace(',', ", "),
            String::new(),
            "null".to_owned(),
        ];
        let other = |algorithm: &&SigningAlgorithm| **algorithm != world.algorithm;
        bad.extend(
            SigningAlgorithm::ALL.iter().filter(other).map(|other| world.header_with("alg", json!(other.as_str()))),
        );
        if let Some(pair) = &world.pair {
            bad.push(world.header_with("kid", json!(null)));
            bad.push(world.header_with("jwk", serde_json::to_value(pair.public()).unwrap()));
        }
        for header in bad {
            world.assert_refused(&world.forge(&header, &good_claims()), &header);
        }
    }
}

#[test]
fn s43_a_public_key_is_no_secret() {
    for world in World::all().filter(|world| world.pair.is_some()) {
        let public = world.pair.as_ref().unwrap().public();
        let jwk = serde_json::to_string(public).unwrap();
        let members = serde_json::to_value(public).unwrap();
        let mut secrets =
            vec![jwk.clone().into_bytes(), world.tokens.keys().published.body.clone().into_bytes(), Vec::new()];
        for member in ["x", "y", "n", "e", "kid"] {
            if let Some(text) = members[member].as_str() {
                secrets.push(text.as_bytes().to_vec());
                secrets.push(URL_SAFE_NO_PAD.decode(text).unwrap());
            }
        }
        for algorithm in SigningAlgorithm::SYMMETRIC {
            let with_kid = world.header_with("alg", json!(algorithm.as_str()));
            let without = spelt(&json!({"typ": "at+jwt", "alg": algorithm.as_str()}));
            for header in [spelt(&world.header), with_kid, without] {
                let message = message(&header, &good_claims());
                for secret in &secrets {
                    let forged = format!("{message}.{}", mac(algorithm, secret, &message));
                    world.assert_refused(&forged, &header);
                }
            }
        }
    }
}

#[test]
fn s43_the_key_of_the_kid_decides_and_no_other() {
    let pairs: Vec<_> =
        [SigningAlgorithm::EdDsa, SigningAlgorithm::EdDsa, SigningAlgorithm::Es256, SigningAlgorithm::Rs256]
            .map(|algorithm| SigningKey::generate(algorithm).unwrap())
            .to_vec();
    let mut ring = KeyRing::default();
    for pair in &pairs {
        ring.switch(pair.id().clone(), pair.algorithm(), LIFETIME, NOW);
    }
    ring.switch(KeyId::of_secret(&Secret::new(SECRET.to_owned())), SigningAlgorithm::Hs256, LIFETIME, NOW);
    let tokens = tokens(SigningAlgorithm::Hs256, ring, pairs.clone());
    for named in &pairs {
        for algorithm in SigningAlgorithm::ALL {
            let header = spelt(&json!({"typ": "at+jwt", "alg": algorithm.as_str(), "kid": named.id().as_str()}));
            let message = message(&header, &good_claims());
            for signer in &pairs {
                let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signer.sign(message.as_bytes()).unwrap()));
                let is_its_own = signer.id() == named.id() && algorithm == named.algorithm();
                assert_eq!(tokens.verify(&token, NOW).is_ok(), is_its_own, "{header} by {signer:?}");
            }
            let token = format!("{message}.{}", mac(SigningAlgorithm::Hs256, SECRET.as_bytes(), &message));
            assert_eq!(tokens.verify(&token, NOW), Err(InvalidToken), "{header} by the secret");
        }
    }
}

#[test]
fn s43_an_unsigned_or_foreign_token_is_refused() {
    for world in World::all() {
        let good = world.signed(&good_claims());
        let (unsigned, signature) = good.rsplit_once('.').unwrap();
        let stranger = World::new(world.algorithm);
        let foreign = if world.pair.is_some() {
            let message = message(&spelt(&world.header), &good_claims());
            format!("{message}.{}", stranger.sign(&message))
        } else {
            let message = message(&spelt(&world.header), &good_claims());
            format!("{message}.{}", mac(world.algorithm, b"another secret of thirty-two byte", &message))
        };
        for bad in [
            format!("{unsigned}."),
            unsigned.to_owned(),
            format!("{good}="),
            format!("{good}.{signature}"),
            format!(".{good}"),
            format!("{good} "),
            format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
            format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode([0; 32])),
            foreign,
            String::new(),
            ".".repeat(5),
            "x".repeat(100_000),
        ] {
            world.assert_refused(&bad, &bad[..bad.len().min(60)]);
        }
    }
}

#[test]
fn s45_each_required_claim_is_required_and_typed() {
    for world in World::all() {
        for claim in ["exp", "iat", "nbf", "iss", "aud", "sub", "sid", "jti"] {
            let mut missing = good_claims();
            missing.as_object_mut().unwrap().remove(claim);
            let was_unnamed = claim == "jti" && world.algorithm.is_symmetric();
            let token = world.signed(&missing);
            assert_eq!(world.tokens.verify(&token, NOW).is_ok(), was_unnamed, "{} without {claim}", world.algorithm);
            for wrong in [json!(true), json!([]), json!({}), json!("x"), json!(1.5), json!("")] {
                let mut mistyped = good_claims();
                mistyped[claim] = wrong.clone();
                world.assert_refused(&world.signed(&mistyped), &format!("{claim} = {wrong}"));
            }
            let mut null = good_claims();
            null[claim] = json!(null);
            assert_eq!(world.tokens.verify(&world.signed(&null), NOW).is_ok(), was_unnamed, "{claim} = null");
        }
        let id = session().id.to_string();
        for (claim, value) in [
            ("iss", json!("other")),
            ("iss", json!(["doorward"])),
            ("aud", json!("other")),
            ("aud", json!(["services"])),
            ("aud", json!("SERVICES")),
            ("sub", json!("0")),
            ("sub", json!("-7")),
            ("sub", json!(7)),
            ("sid", json!(format!("{id}A"))),
            ("sid", json!(format!("{id}="))),
            ("exp", json!("1900000000")),
            ("exp", json!(-1)),
        ] {
            let mut wrong = good_claims();
            wrong[claim] = value.clone();
            world.assert_refused(&world.signed(&wrong), &format!("{claim} = {value}"));
        }
        let doubled = good_claims().to_string().replacen('{', r#"{"sub":"8","#, 1);
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(spelt(&world.header)), URL_SAFE_NO_PAD.encode(doubled));
        world.assert_refused(&format!("{message}.{}", world.sign(&message)), "two subjects");
    }
}

#[test]
fn s47_nothing_else_that_is_signed_passes_as_an_access_token() {
    for world in World::all() {
        for typ in [json!("JWT"), json!("rt+jwt"), json!("AT+JWT"), json!("application/at+jwt"), json!(null), json!(1)]
        {
            let header = world.header_with("typ", typ.clone());
            world.assert_refused(&world.forge(&header, &good_claims()), &typ.to_string());
        }
    }
}

#[test]
fn s48_the_edges_of_its_time() {
    let at = |offset: i64| Timestamp::from_millis(NOW.as_millis() + offset * 1000);
    for world in World::all() {
        let token = world.signed(&good_claims());
        assert!(world.tokens.verify(&token, at(59)).is_ok());
        assert_eq!(world.tokens.verify(&token, at(60)), Err(InvalidToken));
        assert!(world.tokens.verify(&token, at(-NOT_BEFORE_LEEWAY_SECONDS)).is_ok());
        assert_eq!(world.tokens.verify(&token, at(-NOT_BEFORE_LEEWAY_SECONDS - 1)), Err(InvalidToken));
        for claim in ["nbf", "iat"] {
            let mut early = good_claims();
            early[claim] = json!(NOW.as_seconds() + 30);
            early["exp"] = json!(NOW.as_seconds() + 90);
            let token = world.signed(&early);
            assert_eq!(world.tokens.verify(&token, at(24)), Err(InvalidToken), "{claim}");
            assert!(world.tokens.verify(&token, at(25)).is_ok(), "{claim}");
        }
        for (claim, value) in [("exp", i64::MIN), ("nbf", i64::MAX), ("iat", i64::MAX)] {
            let mut extreme = good_claims();
            extreme[claim] = json!(value);
            world.assert_refused(&world.signed(&extreme), claim);
        }
    }
}

#[test]
fn tokens_of_the_secret_before_and_of_the_algorithm_before_are_good_until_they_are_over() {
    let earlier = World::new(SigningAlgorithm::Hs384);
    let pair = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
    let mut ring = KeyRing::default();
    ring.switch(KeyId::of_secret(&Secret::new(EARLIER.to_owned())), SigningAlgorithm::Hs256, LIFETIME, NOW);
    ring.switch(KeyId::of_secret(&Secret::new(SECRET.to_owned())), SigningAlgorithm::Hs256, LIFETIME, NOW);
    ring.switch(KeyId::of_secret(&Secret::new(SECRET.to_owned())), SigningAlgorithm::Hs384, LIFETIME, NOW);
    ring.switch(pair.id().clone(), SigningAlgorithm::Es256, LIFETIME, NOW);
    let tokens = tokens(SigningAlgorithm::Es256, ring, vec![pair]);
    let mut claims = good_claims();
    claims["exp"] = json!(NOW.as_seconds() + 100_000);
    let hs256 = message(r#"{"typ":"at+jwt","alg":"HS256"}"#, &claims);
    let by = |secret: &str| format!("{hs256}.{}", mac(SigningAlgorithm::Hs256, secret.as_bytes(), &hs256));
    let over = NOW.plus(LIFETIME).plus(Duration::from_mins(1));
    for token in [by(SECRET), by(EARLIER), earlier.signed(&claims)] {
        assert!(tokens.verify(&token, NOW).is_ok());
        assert!(tokens.verify(&token, over.minus(Duration::from_millis(1))).is_ok());
        assert_eq!(
            tokens.verify(&token, over),
            Err(InvalidToken),
            "an old key is not good for ever, whatever it signs"
        );
    }
    assert_eq!(tokens.verify(&by("a secret that never signed, 32 byte"), NOW), Err(InvalidToken));
    assert_eq!(tokens.keys().published.body.matches("kid").count(), 1, "of the secrets nothing is published");
    assert!(!tokens.keys().published.body.contains("oct"));
}

#[test]
fn a_rotation_signs_with_the_new_key_in_its_time_and_keeps_the_old_tokens() {
    let world = World::new(SigningAlgorithm::EdDsa);
    let old = issue(&world.tokens, NOW);
    let new = SigningKey::generate(SigningAlgorithm::EdDsa).unwrap();
    let mut ring = world.tokens.keys().ring.clone();
    ring.rotate(new.id().clone(), SigningAlgorithm::EdDsa, LIFETIME, NOW, None);
    let turn = ring.keys[1].signs_from;
    let pairs = vec![world.pair.clone().unwrap(), new.clone()];
    let before = world.tokens.keys().published.etag.clone();
    world.tokens.take_up(TokenKeys::new(&settings(SigningAlgorithm::EdDsa), ring, pairs, 1).unwrap());
    assert_ne!(world.tokens.keys().published.etag, before);
    let set: Value = serde_json::from_str(&world.tokens.keys().published.body).unwrap();
    assert_eq!(set["keys"].as_array().unwrap().len(), 2);
    let kid = |token: &str| {
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&header).unwrap()["kid"].clone()
    };
    let pending = issue(&world.tokens, turn.minus(Duration::from_millis(1)));
    assert_eq!(kid(&pending), kid(&old));
    let after = issue(&world.tokens, turn);
    assert_eq!(kid(&after), json!(new.id().as_str()));
    for token in [pending, after] {
        assert!(world.tokens.verify(&token, turn).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn s43_any_change_to_a_token_makes_it_worthless(at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>()) {
        for world in WORLDS.iter() {
            let good = world.signed(&good_claims());
            let mut bytes = good.clone().into_bytes();
            let at = at.index(bytes.len());
            if cut {
                bytes.remove(at);
            } else {
                bytes[at] = with;
            }
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            if changed != good {
                prop_assert_eq!(world.tokens.verify(&changed, NOW), Err(InvalidToken), "{}", changed);
            }
        }
    }

    #[test]
    fn r07_any_text_is_refused_without_a_panic(text in "[A-Za-z0-9._=-]{0,200}") {
        for world in WORLDS.iter() {
            prop_assert_eq!(world.tokens.verify(&text, NOW), Err(InvalidToken));
            let headed = format!("{}.{text}", URL_SAFE_NO_PAD.encode(spelt(&world.header)));
            prop_assert_eq!(world.tokens.verify(&headed, NOW), Err(InvalidToken));
        }
    }
}

/// Created once, because an RSA key takes long to generate.
static WORLDS: std::sync::LazyLock<Vec<World>> = std::sync::LazyLock::new(|| World::all().collect());
