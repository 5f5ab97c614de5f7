//! A data directory of an older layout opens and reads.

use doorward_actors::ports::{AccountUpdate, EndSessions, Store};
use doorward_actors::{
    Account, AccountChange, CredentialHash, CustomerAccount, Email, Locale, Nickname, Role, TokenPurpose,
};

use crate::rules::open_engine;
use crate::{at, id, issue, open, token};

/// What a version wrote for one registered administrator. The second added two fields to accounts: no pending address, English.
fn older_version(data_dir: &std::path::Path, version: u8) -> Vec<(Vec<u8>, Vec<u8>)> {
    let added: &[u8] = if version == 1 { &[] } else { &[0, 1] };
    let account = [
        &[version, 1][..],
        b"\x0fAnn@example.com",
        b"\x03Ann",
        b"\x02$a",
        b"\x02$b",
        b"\x04none",
        &[1, 0, 1],
        &[2, 0, 3],
        added,
    ]
    .concat();
    let numbered = |kind: u8| vec![kind, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut rows = vec![
        (vec![1, 0], vec![0, 0, 0, version]),
        (numbered(0x10), account),
        (b"\x11ann@example.com".to_vec(), vec![1, 1]),
        (b"\x12ann".to_vec(), vec![1, 1]),
        (numbered(0x22), vec![1, 4]),
    ];
    rows.extend([1, 3, 4, 5].map(|counter| (vec![1, counter], vec![1, 1])));
    std::fs::create_dir_all(data_dir).unwrap();
    let engine = open_engine(data_dir);
    for (key, value) in &rows {
        engine.insert(key, value.as_slice()).unwrap();
    }
    engine.flush().unwrap();
    rows
}

#[tokio::test]
async fn a_directory_of_the_first_version_opens_and_goes_on() {
    opens_and_goes_on(1).await;
}

#[tokio::test]
async fn a_directory_of_the_second_version_opens_and_goes_on() {
    opens_and_goes_on(2).await;
}

async fn opens_and_goes_on(version: u8) {
    let dir = tempfile::tempdir().unwrap();
    let rows = older_version(dir.path(), version);
    let expected = Account {
        id: id(1),
        email: Email::parse("Ann@example.com").unwrap(),
        nickname: Nickname::parse("Ann").unwrap(),
        password_hash: CredentialHash::from_phc("$a".to_owned()),
        passphrase_hash: CredentialHash::from_phc("$b".to_owned()),
        customer_account: CustomerAccount::none(),
        role: Role::Admin,
        locked: false,
        email_verified: true,
        pending_email: None,
        locale: Locale::En,
        password_compromised: false,
        created_at: at(1),
        session_epoch: 0,
        revision: 3,
    };
    let store = open(dir.path());
    assert_eq!(store.account_by_email(expected.email.key()).await.unwrap(), Some(expected.clone()));
    assert_eq!(store.listed_account(id(1)).await.unwrap().unwrap().last_active_at, Some(at(2)));
    assert!(store.had_admin().await.unwrap());
    assert!(store.mails(None, 9).await.unwrap().is_empty());
    drop(store);
    {
        let engine = open_engine(dir.path());
        assert_eq!(engine.get([1, 0]).unwrap().unwrap(), [0, 0, 0, 3], "an older program would refuse it now");
        for (key, value) in &rows[1..] {
            assert_eq!(engine.get(key).unwrap().unwrap(), value.as_slice(), "the step to it changes no record");
        }
    }

    let store = open(dir.path());
    let change = AccountChange { locale: Some(Locale::Fr), ..AccountChange::default() };
    let update = AccountUpdate {
        id: id(1),
        expected_revision: Some(3),
        change,
        ends: EndSessions::None,
        redeems: None,
        revokes_tokens: false,
    };
    store.update_account(update, issue(vec![token(1, TokenPurpose::VerifyAddress)])).await.unwrap();
    drop(store);
    let store = open(dir.path());
    let after = Account { locale: Locale::Fr, revision: 4, ..expected };
    assert_eq!(store.account(id(1)).await.unwrap(), Some(after));
    assert!(store.token_of(id(1), TokenPurpose::VerifyAddress).await.unwrap().is_some());
}
