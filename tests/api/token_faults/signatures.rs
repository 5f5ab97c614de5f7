//! Invalid and almost valid signatures.

use aws_lc_rs::signature::{RSA_PKCS1_SHA384, RSA_PSS_SHA256};
use doorward::settings::Algorithm;
use reqwest::Method;
use serde_json::{Value, json};

use super::forge::{Forge, Key, encoded, message, rsa};
use super::{Doors, Fault};

/// The order of P-256, big-endian (FIPS 186-4 D.1.2.3).
const P256_ORDER: [u8; 32] = [
    0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC, 0xE6, 0xFA, 0xAD, 0xA7,
    0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
];
/// The order of the base point of Ed25519, little-endian (RFC 8032 §5.1).
const ED25519_ORDER: [u8; 32] = [
    0xED, 0xD3, 0xF5, 0x5C, 0x1A, 0x63, 0x12, 0x58, 0xD6, 0x9C, 0xF7, 0xA2, 0xDE, 0xF9, 0xDE, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// Adds two 256-bit numbers, little-endian.
fn sum(a: &[u8], b: &[u8; 32]) -> Vec<u8> {
    let mut carry = 0;
    let add = |(a, b): (&u8, &u8)| {
        carry += u16::from(*a) + u16::from(*b);
        let [high, low] = carry.to_be_bytes();
        carry = u16::from(high);
        low
    };
    a.iter().zip(b).map(add).collect()
}

/// Returns the order of P-256 minus a number.
fn negated(s: &[u8]) -> Vec<u8> {
    // n − s = n + (2²⁵⁶ − 1 − s) + 1; the carry of the sum is dropped.
    let complement: Vec<u8> = s.iter().rev().map(|byte| !byte).collect();
    let mut order = P256_ORDER;
    order.reverse();
    let mut one = [0; 32];
    one[0] = 1;
    let mut difference = sum(&sum(&complement, &one), &order);
    difference.reverse();
    difference
}

/// Encodes two numbers in ASN.1, as other libraries write a signature.
fn der(signature: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let start = number.iter().position(|byte| *byte != 0).unwrap_or(31);
        let mut digits = number[start..].to_vec();
        if digits[0] >= 0x80 {
            digits.insert(0, 0);
        }
        [vec![2, u8::try_from(digits.len()).unwrap()], digits].concat()
    };
    let both = [integer(&signature[..32]), integer(&signature[32..])].concat();
    [vec![0x30, u8::try_from(both.len()).unwrap()], both].concat()
}

pub(super) fn faults(forge: &Forge) -> Vec<Fault> {
    let message = message(&forge.header_text(), &forge.claims.to_string());
    let good = forge.sign(&message);
    let length = good.len();
    let mut signatures = vec![
        ("empty", Vec::new()),
        ("a byte", vec![0]),
        ("cut off", good[..length - 1].to_vec()),
        ("half", good[..length / 2].to_vec()),
        ("a byte more", [&good[..], &[0]].concat()),
        ("a byte before", [&[0], &good[..]].concat()),
        ("twice", good.repeat(2)),
        ("zeros", vec![0; length]),
        ("ones", vec![0xFF; length]),
        ("backwards", good.iter().rev().copied().collect()),
        ("of something else", forge.sign("something else")),
        ("of the claims alone", forge.sign(message.split_once('.').unwrap().1)),
    ];
    for bit in [0, length * 4, length * 8 - 1] {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        signatures.push(("a bit flipped", flipped));
    }
    match forge.key() {
        Key::Secret(_) => {}
        Key::Ed25519(_) => {
            signatures.push(("s above the order", [&good[..32], &sum(&good[32..], &ED25519_ORDER)].concat()));
            signatures.push(("s is zero", [&good[..32], &[0; 32]].concat()));
            // The neutral element: with a key of small order, it signs any message.
            signatures.push(("r is neutral", [&[1], &[0; 63][..]].concat()));
        }
        Key::P256(_) => {
            let (r, s, zero) = (&good[..32], &good[32..], [0; 32]);
            signatures.push(("in ASN.1", der(&good)));
            for (why, r, s) in [
                ("r is zero", &zero[..], s),
                ("s is zero", r, &zero[..]),
                ("r is the order", &P256_ORDER[..], s),
                ("s is the order", r, &P256_ORDER[..]),
                ("both are the order", &P256_ORDER[..], &P256_ORDER[..]),
                ("r and s changed places", s, r),
                ("r is negated", &negated(r), s),
            ] {
                signatures.push((why, [r, s].concat()));
            }
        }
        Key::Rsa(pair) => {
            signatures.push(("PSS", rsa(pair, &RSA_PSS_SHA256, message.as_bytes())));
            signatures.push(("SHA-384", rsa(pair, &RSA_PKCS1_SHA384, message.as_bytes())));
            signatures.push(("the number one", [&vec![0; length - 1][..], &[1]].concat()));
        }
    }
    signatures
        .into_iter()
        .map(|(why, bytes)| Fault::new(format!("signature: {why}"), format!("{message}.{}", encoded(bytes))))
        .collect()
}

/// Anyone can derive a second valid signature of ES256 from a first one. Both are the same token: the end of the
/// session ends both, and so does the end of the key. That one is cached says nothing about the other.
#[tokio::test]
async fn s43_the_second_form_of_a_p256_signature_is_the_same_token() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    for how in 0..3 {
        let forge = Box::pin(Forge::with(Algorithm::Es256)).await;
        let doors = Doors::of(&forge).await;
        let (message, signature) = forge.token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let second = format!("{message}.{}", encoded([&signature[..32], &negated(&signature[32..])].concat()));
        assert_ne!(second, forge.token);
        // Either token is checked first.
        let order = if how == 0 { [&forge.token, &second] } else { [&second, &forge.token] };
        let mut told = Vec::new();
        for token in order.into_iter().chain(order) {
            assert!(forge.app.is_live(token).await);
            told.push(doors.introspect(token).await.body);
        }
        assert!(told.iter().all(|other| *other == told[0]), "{told:?}");
        match how {
            0 => assert_eq!(forge.app.logout(&second).await.status, 200),
            1 => assert_eq!(doors.revoke(&second).await.status, 200),
            _ => {
                let body = json!({"compromised": true});
                let answer = forge.app.call(Method::POST, "/keys/rotate", &forge.admins, &body).await;
                assert_eq!(answer.status, 200, "{answer:?}");
            }
        }
        for token in [&forge.token, &second] {
            doors.assert_dead(&Fault::new("a form of a token whose session or key is over", token)).await;
        }
        // The account's other session is not affected.
        let again = forge.app.login(&forge.ann).await;
        let told = forge.app.call(Method::GET, "/my_account/sessions", &again, &Value::Null).await;
        assert_eq!(told.body["sessions"].as_array().unwrap().len(), if how == 2 { 2 } else { 1 });
    }
}
