//! `docs/audit.md` names every event and reason, and its example equals a record that the program stores.
#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::{
    AccountId, AuditActorKind, AuditEvent, AuditField, AuditRecord, AuditRefusal, Origin, SessionId, Timestamp,
};

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit.md")).unwrap()
}

/// Returns the codes in the first and second cells of the tables in a section of the page: name and number.
fn rows(part: &str) -> BTreeSet<(String, String)> {
    let page = page();
    let (_, rest) = page.split_once(&format!("\n## {part}\n")).unwrap();
    let text = rest.split("\n## ").next().unwrap();
    let cells = |line: &str| {
        let mut cells = line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).skip(1);
        Some((cells.next()?, cells.next()?))
    };
    text.lines().filter(|line| line.starts_with("| `")).filter_map(cells).collect()
}

#[test]
fn s70_the_page_names_every_event_and_no_other() {
    let expected: BTreeSet<_> =
        AuditEvent::ALL.iter().map(|event| (event.as_str().to_owned(), event.number().to_string())).collect();
    assert_eq!(rows("Events"), expected);
}

#[test]
fn s70_the_page_names_every_reason_and_no_other() {
    let expected: BTreeSet<_> =
        AuditRefusal::ALL.iter().map(|reason| (reason.as_str().to_owned(), reason.number().to_string())).collect();
    assert_eq!(rows("Reasons"), expected);
}

#[test]
fn s70_the_page_names_every_field_and_no_other() {
    let expected: BTreeSet<_> =
        AuditField::ALL.iter().map(|field| (field.as_str().to_owned(), field.number().to_string())).collect();
    assert_eq!(rows("Fields"), expected);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[tokio::test]
async fn the_example_of_the_chain_is_what_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let registered = AuditRecord {
        actor: AuditActorKind::Anonymous,
        subject: AccountId::new(1),
        origin: Origin::new(Some([192, 0, 2, 1].into()), Some("curl"), Some("r-1".to_owned())),
        ..AuditRecord::new(AuditEvent::Registered, Timestamp::from_millis(1_769_850_000_000))
    };
    let refused = AuditRecord {
        at: Timestamp::from_millis(1_769_850_000_250),
        event: AuditEvent::Login,
        session: Some(SessionId::from_bytes([0xF5; 16])),
        origin: Origin::new(Some("2001:db8::1".parse().unwrap()), None, Some("r-2".to_owned())),
        refusal: Some(AuditRefusal::WrongPassword),
        ..registered.clone()
    };
    let store = SledEngine::open(dir.path(), SledOptions::default()).unwrap().into_store(u64::MAX);
    store.append_audit(vec![registered, refused]).await.unwrap();
    let head = store.audit_status().await.unwrap().head;
    drop(store);
    let engine = loop {
        match sled::open(dir.path().join("db")) {
            Err(sled::Error::Io(error)) if error.to_string().contains("lock") => std::thread::yield_now(),
            other => break other.unwrap(),
        }
    };
    let page = page();
    for (key, value) in engine.scan_prefix([0x30]).map(Result::unwrap) {
        assert!(page.contains(&hex(&value)), "{}: {}", hex(&key), hex(&value));
    }
    assert!(page.contains(&head.to_string()), "{head}");
}
