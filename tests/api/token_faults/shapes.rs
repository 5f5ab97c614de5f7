//! Strings without the exact form or encoding of a token.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use serde_json::json;

use super::Fault;
use super::forge::{Forge, encoded, message};
use crate::support::SERVICE_TOKEN;

/// Returns other encodings of the same bytes, which differ in the unused bits of the last character.
fn other_spellings(part: &str) -> Vec<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let spare = match part.len() % 4 {
        2 => 16,
        3 => 4,
        _ => return Vec::new(),
    };
    let (rest, last) = part.split_at(part.len() - 1);
    let at = ALPHABET.iter().position(|letter| *letter == last.as_bytes()[0]).unwrap();
    assert_eq!(at % spare, 0);
    (at + 1..at + spare).map(|at| format!("{rest}{}", char::from(ALPHABET[at]))).collect()
}

pub(super) fn faults(forge: &Forge) -> Vec<Fault> {
    let good = &forge.token;
    let parts: Vec<&str> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("{} parts", parts.len()) };
    let mut faults = Vec::new();
    let mut add = |why: &str, token: String| faults.push(Fault::new(format!("shape: {why}"), token));
    for dots in ["", ".", "..", "...", "....", "....."] {
        add("dots", dots.to_owned());
    }
    for (why, token) in [
        ("one part", header.to_owned()),
        ("two parts", format!("{header}.{claims}")),
        ("no header", format!(".{claims}.{signature}")),
        ("no claims", format!("{header}..{signature}")),
        ("no signature", format!("{header}.{claims}.")),
        ("four parts", format!("{good}.{signature}")),
        ("a part before", format!("{header}.{good}")),
        ("a dot behind", format!("{good}.")),
        ("a dot before", format!(".{good}")),
        ("five parts", format!("{header}.{claims}.{signature}.{claims}.{signature}")),
        ("changed places", format!("{claims}.{header}.{signature}")),
        ("twice", format!("{good},{good}")),
        ("in quotes", format!("\"{good}\"")),
        ("upper case", good.to_uppercase()),
        ("lower case", good.to_lowercase()),
        ("its scheme before it", format!("Bearer {good}")),
        ("a space before", format!(" {good}")),
        ("a space behind", format!("{good} ")),
        ("a line behind", format!("{good}\n")),
        ("a tab in it", good.replacen('.', ".\t", 1)),
        ("lines in it", good.replacen('.', "\r\n.", 1)),
        ("a space in the signature", format!("{header}.{claims}.{} {}", &signature[..8], &signature[8..])),
        ("a zero behind", format!("{good}\0")),
        ("a percent escape", good.replacen('.', "%2e", 1)),
        ("letters of another width", good.replacen('e', "ｅ", 1)),
        ("flattened JSON", json!({"payload": claims, "protected": header, "signature": signature}).to_string()),
        ("JSON", json!({"payload": claims, "signatures": [{"protected": header, "signature": signature}]}).to_string()),
        ("a service token", SERVICE_TOKEN.to_owned()),
    ] {
        add(why, token);
    }
    for close in other_spellings(signature) {
        add("bits to spare in the signature", format!("{header}.{claims}.{close}"));
    }
    for (why, spelt) in
        [("padded signature", format!("{signature}=")), ("doubly padded signature", format!("{signature}=="))]
    {
        add(why, format!("{header}.{claims}.{spelt}"));
    }
    // The claims in another encoding, with a signature over that encoding.
    let text = forge.claims.to_string();
    for spaces in 0..3 {
        let spaced = format!("{text}{}", " ".repeat(spaces));
        for close in other_spellings(&encoded(&spaced)) {
            add("bits to spare in the claims", forge.signed(format!("{header}.{close}")));
        }
        let padded = URL_SAFE.encode(&spaced);
        if padded.ends_with('=') {
            add("padded claims", forge.signed(format!("{header}.{padded}")));
        }
    }
    for close in other_spellings(header) {
        add("bits to spare in the header", forge.signed(format!("{close}.{claims}")));
    }
    add("padded header", forge.signed(format!("{header}=.{claims}")));
    let marks = forge.claims_with("nickname", json!("???>>>~~~"));
    assert_ne!(STANDARD_NO_PAD.encode(&marks), encoded(&marks));
    add("the other alphabet", forge.signed(format!("{header}.{}", STANDARD_NO_PAD.encode(&marks))));
    add("the other alphabet, padded", forge.signed(format!("{header}.{}", STANDARD.encode(marks + " "))));
    // The signed payload is not a set of claims.
    let text_of = forge.header_text();
    for payload in [
        "",
        "null",
        "0",
        "[]",
        "{}",
        "\"sub\"",
        "{",
        "[[[[",
        "\u{feff}{}",
        &text[1..],
        &format!("{text}{text}"),
        &format!("[{text}]"),
    ] {
        add("no claims in it", forge.signed(message(&text_of, payload)));
    }
    add("deep claims", forge.signed(message(&text_of, &"[".repeat(2000))));
    add("claims that are no text", forge.signed(format!("{header}.{}", encoded([0xFF, 0xFE, 0x00, 0x80]))));
    add("a token in a token", forge.signed(message(&text_of, good)));
    add("a token in the text of a token", forge.signed(message(&text_of, &json!(good).to_string())));
    let encrypted =
        encoded(json!({"alg": "dir", "enc": "A256GCM", "cty": "JWT", "kid": forge.header["kid"]}).to_string());
    add("encrypted", format!("{encrypted}..{}.{claims}.{signature}", encoded([0; 12])));
    // This token is valid in every other respect.
    let limit = 4096;
    let padding = limit * 3 / 4;
    let long = forge.token(&text_of, &forge.claims_with("pad", json!("x".repeat(padding))));
    assert!(long.len() > limit);
    add("too long", long);
    add("far too long", "x".repeat(6000));
    faults
}
