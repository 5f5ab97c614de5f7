use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::*;
use crate::domain::account::{CredentialHash, CustomerAccount, Role};
use crate::domain::email::Email;
use crate::domain::nickname::Nickname;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const GOOD_HEADER: &str = r#"{"typ":"at+jwt","alg":"HS256"}"#;
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn settings() -> TokenSettings {
    TokenSettings {
        algorithm: SigningAlgorithm::Hs256,
        secret: Secret::new(SECRET.to_owned()),
        issuer: "doorward".to_owned(),
        audience: "services".to_owned(),
    }
}

fn tokens() -> AccessTokens {
    AccessTokens::new(&settings()).unwrap()
}

fn account() -> Account {
    Account {
        id: AccountId::new(7).unwrap(),
        email: Email::parse("ann@example.com").unwrap(),
        nickname: Nickname::parse("ann").unwrap(),
        password_hash: CredentialHash::from_phc(String::new()),
        passphrase_hash: CredentialHash::from_phc(String::new()),
        customer_account: CustomerAccount::none(),
        role: Role::User,
        locked: false,
        email_verified: false,
        pending_email: None,
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
        expires_at: Timestamp::from_millis(NOW.as_millis() + 60_000),
        last_active_at: NOW,
        address: None,
        user_agent: None,
        label: None,
        remembered: false,
    }
}

fn good_claims() -> Value {
    let now = NOW.as_seconds();
    json!({"iss": "doorward", "aud": "services", "sub": "7", "sid": session().id.to_string(), "iat": now, "nbf": now, "exp": now + 60})
}

/// A token signed with the right secret, whatever its header and claims say.
fn forge(header: &str, claims: &Value, secret: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let algorithm = if header.contains("HS384") { Algorithm::HS384 } else { Algorithm::HS256 };
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn signed(claims: &Value) -> String {
    forge(GOOD_HEADER, claims, SECRET)
}

#[test]
fn an_issued_token_reads_back() {
    let token = tokens().issue(&account(), &session(), NOW, session().expires_at).unwrap();
    let read = tokens().verify(token.expose(), NOW).unwrap();
    assert_eq!((read.account, read.session), (account().id, session().id));
    assert!(tokens().verify(&signed(&good_claims()), NOW).is_ok(), "the forger of these tests makes good tokens");
}

#[test]
fn s43_any_other_header_is_refused() {
    for header in [
        r#"{"typ":"at+jwt","alg":"none"}"#,
        r#"{"typ":"at+jwt","alg":"HS384"}"#,
        r#"{"typ":"at+jwt","alg":"RS256"}"#,
        r#"{"typ":"at+jwt","alg":"HS256","kid":"1"}"#,
        r#"{"typ":"at+jwt","alg":"HS256","jku":"https://example.com/keys"}"#,
        r#"{"typ":"at+jwt","alg":"HS256","x5u":"https://example.com/cert"}"#,
        r#"{"typ":"at+jwt","alg":"HS256","jwk":{"kty":"oct","k":"AA"}}"#,
        r#"{"typ":"at+jwt","alg":"HS256","crit":["exp"]}"#,
        r#"{"typ":"at+jwt","alg":"HS256","zip":"DEF"}"#,
    ] {
        assert_eq!(tokens().verify(&forge(header, &good_claims(), SECRET), NOW), Err(InvalidToken), "{header}");
    }
}

#[test]
fn s43_an_unsigned_or_foreign_token_is_refused() {
    let good = signed(&good_claims());
    let (unsigned, signature) = good.rsplit_once('.').unwrap();
    let mut flipped = signature.to_owned();
    let first = if flipped.starts_with('A') { "B" } else { "A" };
    flipped.replace_range(0..1, first);
    for bad in [
        format!("{unsigned}."),
        unsigned.to_owned(),
        format!("{unsigned}.{flipped}"),
        format!("{good}="),
        format!("{good}.{signature}"),
        forge(GOOD_HEADER, &good_claims(), "another secret of thirty-two byte"),
        String::new(),
        ".".repeat(5),
        "x".repeat(100_000),
    ] {
        assert_eq!(tokens().verify(&bad, NOW), Err(InvalidToken), "{bad:.60}");
    }
}

#[test]
fn s45_each_required_claim_is_required_and_typed() {
    for claim in ["exp", "iat", "nbf", "iss", "aud", "sub", "sid"] {
        let mut missing = good_claims();
        missing.as_object_mut().unwrap().remove(claim);
        assert_eq!(tokens().verify(&signed(&missing), NOW), Err(InvalidToken), "without {claim}");
        for wrong in [json!(null), json!(true), json!([]), json!({}), json!("x"), json!(1.5), json!("")] {
            let mut mistyped = good_claims();
            mistyped[claim] = wrong.clone();
            assert_eq!(tokens().verify(&signed(&mistyped), NOW), Err(InvalidToken), "{claim} = {wrong}");
        }
    }
    for (claim, value) in [("iss", json!("other")), ("aud", json!("other")), ("sub", json!("0")), ("sub", json!(7))] {
        let mut wrong = good_claims();
        wrong[claim] = value;
        assert_eq!(tokens().verify(&signed(&wrong), NOW), Err(InvalidToken), "{claim}");
    }
}

#[test]
fn s47_nothing_else_that_is_signed_passes_as_an_access_token() {
    for typ in [r#""JWT""#, r#""rt+jwt""#, r#""AT+JWT""#, "null"] {
        let header = GOOD_HEADER.replace(r#""at+jwt""#, typ);
        assert_ne!(header, GOOD_HEADER);
        assert_eq!(tokens().verify(&forge(&header, &good_claims(), SECRET), NOW), Err(InvalidToken), "{typ}");
    }
}

#[test]
fn s48_the_edges_of_its_time() {
    let at = |offset: i64| Timestamp::from_millis(NOW.as_millis() + offset * 1000);
    let token = signed(&good_claims());
    assert!(tokens().verify(&token, at(59)).is_ok());
    assert_eq!(tokens().verify(&token, at(60)), Err(InvalidToken));
    assert!(tokens().verify(&token, at(-NOT_BEFORE_LEEWAY_SECONDS)).is_ok());
    assert_eq!(tokens().verify(&token, at(-NOT_BEFORE_LEEWAY_SECONDS - 1)), Err(InvalidToken));
    let mut early = good_claims();
    early["nbf"] = json!(NOW.as_seconds() + 30);
    assert_eq!(tokens().verify(&signed(&early), NOW), Err(InvalidToken));
}
