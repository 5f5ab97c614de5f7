//! Missing or invalid claims under a valid signature.

use serde_json::{Value, json};

use super::Fault;
use super::forge::{Forge, LIFETIME};

/// Returns another token id, so that none of these tokens is cached.
fn jti(n: u8) -> Value {
    json!(super::forge::encoded([n; 16]))
}

/// Returns forged tokens without a fault, which are valid. This shows that the other tokens are refused for their
/// faults.
pub(super) fn none(forge: &Forge) -> Vec<(String, String)> {
    let header = forge.header_text();
    let text = forge.claims_with("jti", jti(1));
    let mut controls = vec![
        ("as it is", text.clone()),
        ("spaced", text.replace(',', " ,\n ")),
        ("another claim", forge.claims_with("amr", json!(["pwd", {"x": [1]}]))),
        // The established claims do not decide whom the token belongs to.
        ("another id", forge.claims_with("id", json!(forge.admin.id))),
        ("another role", forge.claims_with("role", json!("admin"))),
        ("an end far away", forge.claims_with("exp", json!(i64::MAX))),
        ("issued long ago", forge.claims_with("iat", json!(i64::MIN))),
        ("good since long ago", forge.claims_with("nbf", json!(0))),
    ];
    if forge.is_symmetric() {
        let mut unnamed = forge.claims.clone();
        unnamed.as_object_mut().unwrap().remove("jti");
        // Tokens had no id before that claim existed.
        controls.push(("without a name", unnamed.to_string()));
    }
    controls.into_iter().map(|(name, claims)| (name.to_owned(), forge.token(&header, &claims))).collect()
}

pub(super) async fn faults(forge: &Forge) -> Vec<Fault> {
    let mut wrong: Vec<(String, String)> = missing(forge);
    wrong.extend(mistyped(forge));
    wrong.extend(numbers(forge));
    wrong.extend(doubled(forge));
    let mut set =
        |claim: &str, value: Value| wrong.push((format!("{claim} is {value}"), forge.claims_with(claim, value)));
    for iss in ["", "other", "doorward ", "Doorward", "https://doorward"] {
        set("iss", json!(iss));
    }
    set("iss", json!(["doorward"]));
    for aud in ["", "other", "DOORWARD", "doorward2"] {
        set("aud", json!(aud));
    }
    for aud in [json!(["doorward"]), json!(["other", "doorward"]), json!({"doorward": true})] {
        set("aud", aud);
    }
    let (ann, admin) = (forge.ann.id, forge.admin.id);
    for sub in [
        "0".to_owned(),
        "-1".to_owned(),
        format!(" {ann}"),
        format!("{ann}.0"),
        "18446744073709551616".to_owned(),
        "ann".to_owned(),
    ] {
        set("sub", json!(sub));
    }
    set("sub", json!(ann));
    set("sub", json!("999"));
    // The session belongs to another account.
    set("sub", json!(admin.to_string()));
    let admins = forge.app.handles.sessions.look(&forge.admins).await.unwrap().session.to_string();
    set("sid", json!(admins));
    let sid = forge.claims["sid"].as_str().unwrap();
    let mut spare = sid.to_owned();
    let last = spare.pop().unwrap();
    // The last character has four unused bits.
    spare.push(char::from(last as u8 + 1));
    for sid in [
        String::new(),
        spare,
        format!("{sid}="),
        format!("{sid}=="),
        format!("{sid}A"),
        sid[1..].to_owned(),
        "A".repeat(22),
    ] {
        set("sid", json!(sid));
    }
    let ended = forge.app.login(&forge.ann).await;
    let session = forge.app.handles.sessions.look(&ended).await.unwrap();
    forge.app.handles.sessions.logout(&session, doorward_actors::Origin::default()).await.unwrap();
    // A session that the account has ended.
    set("sid", json!(session.session.to_string()));
    for name in ["", "short", "not base64 of sixteen!", &"A".repeat(23), &"A".repeat(44)] {
        set("jti", json!(name));
    }
    let header = forge.header_text();
    wrong.into_iter().map(|(why, claims)| Fault::new(why, forge.token(&header, &claims))).collect()
}

fn missing(forge: &Forge) -> Vec<(String, String)> {
    let required = ["exp", "iat", "nbf", "iss", "aud", "sub", "sid", "jti"];
    let required = required.into_iter().filter(|claim| *claim != "jti" || !forge.is_symmetric());
    let without = |claim: &str| {
        let mut claims = forge.claims.clone();
        claims.as_object_mut().unwrap().remove(claim);
        (format!("no {claim}"), claims.to_string())
    };
    required.map(without).collect()
}

fn mistyped(forge: &Forge) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    for claim in ["exp", "iat", "nbf", "iss", "aud", "sub", "sid", "jti"] {
        let values = [json!(null), json!(true), json!([]), json!({}), json!("x"), json!(""), json!(1.5), json!([[]])];
        for value in values {
            if !(claim == "jti" && value.is_null() && forge.is_symmetric()) {
                wrong.push((format!("{claim} is {value}"), forge.claims_with(claim, value)));
            }
        }
    }
    wrong
}

/// Invalid times, in various spellings.
fn numbers(forge: &Forge) -> Vec<(String, String)> {
    let now = forge.claims["iat"].as_i64().unwrap();
    let mut times: Vec<(&str, String)> = Vec::new();
    for claim in ["exp", "iat", "nbf"] {
        let later = now + LIFETIME;
        for text in [
            format!("\"{later}\""),
            format!("{later}.0"),
            format!("{later}e0"),
            "1e10".to_owned(),
            "1e400".to_owned(),
            "9223372036854775808".to_owned(),
            "18446744073709551616".to_owned(),
            format!("1{}", "0".repeat(400)),
            "-1e400".to_owned(),
            "NaN".to_owned(),
            "Infinity".to_owned(),
            format!("0{later}"),
            format!("+{later}"),
            "0x7fffffff".to_owned(),
        ] {
            times.push((claim, text));
        }
    }
    for exp in [now, now - 1, 0, -1, i64::MIN] {
        times.push(("exp", exp.to_string()));
    }
    // The service tolerates five seconds.
    for ahead in [now + 6, now + LIFETIME, i64::MAX] {
        times.push(("nbf", ahead.to_string()));
        times.push(("iat", ahead.to_string()));
    }
    let text = forge.claims.to_string();
    let spelt = |(claim, time): (&str, String)| {
        let before = format!("\"{claim}\":{}", forge.claims[claim]);
        assert!(text.contains(&before), "{text}");
        (format!("{claim} is {}", &time[..time.len().min(40)]), text.replace(&before, &format!("\"{claim}\":{time}")))
    };
    times.into_iter().map(spelt).collect()
}

/// Duplicate members: another parser may use the other one.
fn doubled(forge: &Forge) -> Vec<(String, String)> {
    let text = forge.claims.to_string();
    let (open, close) = (text.trim_start_matches('{'), text.trim_end_matches('}'));
    let mut doubled = Vec::new();
    for claim in ["exp", "iat", "nbf", "iss", "aud", "sub", "sid", "jti"] {
        let own = &forge.claims[claim];
        let other = if own.is_number() { json!(own.as_i64().unwrap() + 1) } else { json!("2") };
        for value in [own, &other] {
            doubled.push((format!("{claim} twice, first {value}"), format!("{{\"{claim}\":{value},{open}")));
            doubled.push((format!("{claim} twice, then {value}"), format!("{close},\"{claim}\":{value}}}")));
        }
        // The same name in another spelling.
        let escaped = format!("\\u00{:02x}{}", claim.as_bytes()[0], &claim[1..]);
        doubled.push((format!("{claim} twice, escaped"), format!("{close},\"{escaped}\":{own}}}")));
    }
    doubled
}
