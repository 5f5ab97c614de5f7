//! Headers that differ from the exact header of the signing key.

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use super::Fault;
use super::forge::{Forge, encoded, mac, message, spelt};

const ALGORITHMS: [&str; 6] = ["HS256", "HS384", "HS512", "EdDSA", "ES256", "RS256"];

/// Texts that could be misused as a path, a query or a name.
fn names() -> Vec<Value> {
    let texts = [
        "",
        "1",
        "../../../../../../dev/null",
        "/dev/null",
        "..\\..\\secret_key",
        "secret_key",
        "key\u{0}.pem",
        "' OR '1'='1",
        "x'; DROP TABLE keys;--",
        "x' UNION SELECT 'AA",
        "$(id)",
        "https://attacker.example/key",
        "file:///dev/null",
        "äöü\u{202e}",
    ];
    let mut names: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
    names.extend([
        json!("k".repeat(1500)),
        json!(1),
        json!(-1),
        json!(1.5),
        json!(true),
        json!([]),
        json!({}),
        json!([1]),
    ]);
    names
}

/// Faulty headers under a valid signature.
pub(super) async fn faults(forge: &Forge) -> Vec<Fault> {
    let claims = forge.claims.to_string();
    let mut headers: Vec<String> = Vec::new();
    let own = forge.header["alg"].as_str().unwrap();
    for alg in
        ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256", "eddsa", "ES384", "PS256", "RSA1_5", "dir", "A128GCM"]
    {
        headers.push(forge.header_with("alg", json!(alg)));
    }
    for alg in ALGORITHMS.into_iter().filter(|alg| *alg != own) {
        headers.push(forge.header_with("alg", json!(alg)));
    }
    for wrong in [json!(null), json!(1), json!([own]), json!({"alg": own}), json!(true)] {
        headers.push(forge.header_with("alg", wrong));
    }
    for typ in [
        "JWT",
        "jwt",
        "AT+JWT",
        "at+JWT",
        "application/at+jwt",
        "rt+jwt",
        "dpop+jwt",
        "logout+jwt",
        "secevent+jwt",
        "JOSE",
        "",
    ] {
        headers.push(forge.header_with("typ", json!(typ)));
    }
    for wrong in [json!(null), json!(1), json!(["at+jwt"])] {
        headers.push(forge.header_with("typ", wrong));
    }
    headers.extend(names().into_iter().map(|name| forge.header_with("kid", name)));
    if !forge.is_symmetric() {
        headers.push(forge.header_with("kid", json!(null)));
        let kid = forge.header["kid"].as_str().unwrap();
        for close in [format!("{kid} "), format!("{kid}="), kid.to_lowercase(), kid[1..].to_owned()] {
            headers.push(forge.header_with("kid", json!(close)));
        }
    }
    let attackers = json!({"kty": "oct", "k": "AAAA", "kid": "mine"});
    for (member, value) in [
        ("jku", json!("https://attacker.example/jwks.json")),
        ("jku", json!("http://127.0.0.1/.well-known/jwks.json")),
        ("x5u", json!("https://attacker.example/cert.pem")),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("AAAA")),
        ("x5t#S256", json!("AAAA")),
        ("jwk", attackers),
        ("jwk", forge.jwk().await),
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("crit", json!([])),
        ("crit", json!("exp")),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("enc", json!("A256GCM")),
        ("extra", json!(1)),
    ] {
        headers.push(forge.header_with(member, value));
    }
    headers.extend(spellings(forge));
    // A secret has no public key. Then one variant equals the valid header, so it is removed.
    headers.retain(|header| *header != forge.header_text());
    let mut faults: Vec<_> =
        headers.iter().map(|header| Fault::new(header.clone(), forge.token(header, &claims))).collect();
    // Tokens without any signature, with various headers.
    for alg in ["none", "None", "NONE"] {
        let header = forge.header_with("alg", json!(alg));
        faults.push(Fault::new(format!("{alg}, unsigned"), message(&header, &claims) + "."));
        faults.push(Fault::new(format!("{alg}, cut off"), message(&header, &claims)));
        faults.push(Fault::new(format!("bare {alg}"), message(&json!({"alg": alg}).to_string(), &claims) + "."));
    }
    // An unencoded payload (RFC 7797).
    let header =
        spelt(&json!({"typ": "at+jwt", "alg": own, "kid": forge.header["kid"], "b64": false, "crit": ["b64"]}));
    let detached = forge.sign(&format!("{}.{claims}", encoded(&header)));
    faults.push(Fault::new(
        "unencoded payload",
        format!("{}.{}.{}", encoded(&header), encoded(&claims), encoded(&detached)),
    ));
    faults.push(Fault::new("detached payload", format!("{}..{}", encoded(&header), encoded(&detached))));
    faults
}

/// The valid header, or almost, in other spellings.
fn spellings(forge: &Forge) -> Vec<String> {
    let own = forge.header["alg"].as_str().unwrap();
    let text = forge.header_text();
    let inside = text.trim_start_matches('{');
    vec![
        format!("{{\"alg\":\"none\",{inside}"),
        text.replace("\"alg\"", "\"alg\":\"none\",\"alg\""),
        format!("{},\"alg\":\"none\"}}", text.trim_end_matches('}')),
        format!("{},\"typ\":\"JWT\"}}", text.trim_end_matches('}')),
        format!("{{\"kid\":\"mine\",{inside}"),
        text.replace(',', ", "),
        text.replace(':', ": "),
        text.replacen("at+jwt", "at\\u002bjwt", 1),
        text.replacen(own, &format!("\\u00{:02x}{}", own.as_bytes()[0], &own[1..]), 1),
        format!("\u{feff}{text}"),
        format!("{text} "),
        format!("{text}{text}"),
        format!("[{text}]"),
        json!(text).to_string(),
        serde_json::to_string(&forge.header).unwrap().replace("\"typ\"", "\"TYP\""),
        "{}".to_owned(),
        "null".to_owned(),
        String::new(),
    ]
}

/// Tokens that confuse two keys.
pub(super) async fn confusions(forge: &Forge) -> Vec<Fault> {
    let (claims, mut faults) = (forge.claims.to_string(), Vec::new());
    let text = forge.header_text();
    // The header of an older key, whose tokens are still accepted, with a signature of the present key, and the other
    // way round.
    let other = |kid: &str| {
        let alg = if forge.header["alg"] == "ES256" { "EdDSA" } else { "ES256" };
        spelt(&json!({"typ": "at+jwt", "alg": alg, "kid": kid}))
    };
    let others = forge.other_key(|kid| message(&other(kid), &claims)).await;
    assert!(forge.app.is_live(&others).await, "its own tokens are good");
    let (others_message, others_signature) = others.rsplit_once('.').unwrap();
    faults
        .push(Fault::new("another key's header", format!("{others_message}.{}", encoded(forge.sign(others_message)))));
    faults.push(Fault::new("another key's signature", format!("{}.{others_signature}", message(&text, &claims))));
    let by_other = forge.other_key(|_| message(&text, &claims)).await;
    faults.push(Fault::new("by another key", by_other));
    let headless = spelt(&json!({"typ": "at+jwt", "alg": "HS256"}));
    for (header, why) in [(text.clone(), "own header"), (headless.clone(), "header of HS256")] {
        let message = message(&header, &claims);
        for (alg, name) in [(hmac::HMAC_SHA256, "HS256"), (hmac::HMAC_SHA384, "HS384"), (hmac::HMAC_SHA512, "HS512")] {
            for (n, form) in forge.key().public_forms(&forge.jwk().await).iter().enumerate() {
                let token = format!("{message}.{}", encoded(mac(alg, form, message.as_bytes())));
                faults.push(Fault::new(format!("{name} by form {n} of the public key, {why}"), token));
            }
        }
    }
    if !forge.is_symmetric() {
        let message = message(&headless, &claims);
        faults
            .push(Fault::new("a pair's signature under HS256", format!("{message}.{}", encoded(forge.sign(&message)))));
    }
    faults
}
