//! Accounts of other systems on both stores.

use doorward_actors::store::{EndSessions, ImportBatch, ImportRefusal, Store, StoreError};
use doorward_actors::{
    AccountChange, AccountOrigin, CredentialHash, HashCount, HashForm, ImportOutcome, ImportedAccount, MAX_HASH_FORMS,
    NewRole, Nickname, NumberStanding, ProfileChange, Role,
};

use crate::{at, audit, email, id, memory, new_account, open};

fn old(number: u64, name: &str) -> ImportedAccount {
    ImportedAccount {
        id: Some(id(number)),
        email: email(name),
        nickname: Nickname::parse(name).unwrap(),
        password_hash: Some(hash(10)),
        passphrase_hash: None,
        role: Role::User,
        locked: false,
        email_verified: false,
        profile: ProfileChange::default(),
        created_at: at(1),
    }
}

fn hash(passes: usize) -> CredentialHash {
    CredentialHash::from_phc(format!("$pbkdf2-sha256$i={passes},l=32$c2FsdHNhbHQ$a2V5"))
}

async fn import(
    store: &Store,
    accounts: Vec<ImportedAccount>,
    last: u64,
) -> Result<Vec<ImportOutcome>, StoreError<ImportRefusal>> {
    store.import_accounts(ImportBatch { accounts, last_number: Some(id(last)), audit: audit(5) }).await
}

fn created(number: u64) -> ImportOutcome {
    ImportOutcome::Created { id: id(number), renamed: None }
}

fn update(number: u64, change: AccountChange) -> doorward_actors::store::AccountUpdate {
    doorward_actors::store::AccountUpdate {
        id: id(number),
        acting: None,
        expected_revision: None,
        change,
        ends: EndSessions::None,
        redeems: None,
        revokes_tokens: false,
    }
}

/// Both stores, and the directory of the one on disk.
fn both() -> ([Store; 2], tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    ([open(dir.path()), memory()], dir)
}

#[tokio::test]
async fn the_numbers_of_an_import_are_kept_for_it_and_for_nobody_else() {
    use NumberStanding::{Deleted, Free, Imported, Taken};

    let (stores, _dir) = both();
    for store in stores {
        let first = store.create_account(new_account("first", NewRole::AdminIfFirst), audit(1).into()).await.unwrap();
        assert_eq!((first.id, first.origin), (id(1), AccountOrigin::Owner));
        assert_eq!(import(&store, vec![old(5, "five")], 9).await.unwrap(), [created(5)]);
        // Somebody registers before the import goes on.
        assert_eq!(
            store.create_account(new_account("ten", NewRole::AdminIfFirst), audit(1).into()).await.unwrap().id,
            id(10)
        );
        let numbers = [1, 2, 5, 9, 10, 11].map(id).to_vec();
        let standings = store.number_standings(numbers.clone()).await.unwrap();
        assert_eq!(standings, [Taken, Free, Imported, Free, Taken, Free], "number 2 is among the reserved ones");
        assert_eq!(import(&store, vec![old(2, "two"), old(9, "nine")], 9).await.unwrap(), [created(2), created(9)]);
        for taken in [1, 10] {
            let refused = import(&store, vec![old(3, "three"), old(taken, "other")], 10).await;
            assert!(
                matches!(refused, Err(StoreError::Refused(ImportRefusal::NumberTaken(number))) if number == id(taken))
            );
            assert!(store.account(id(3)).await.unwrap().is_none(), "a refused batch writes nothing");
        }
        for number in [5, 10] {
            store.delete_account(id(number), None, None, audit(1).into()).await.unwrap();
        }
        assert_eq!(store.number_standings(numbers).await.unwrap(), [Taken, Imported, Deleted, Imported, Taken, Free]);
        assert_eq!(import(&store, vec![old(5, "five")], 9).await.unwrap(), [ImportOutcome::DeletedSince]);
        assert!(store.account(id(5)).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn an_import_keeps_names_unique_and_repeats_without_a_trace() {
    let (stores, _dir) = both();
    for store in stores {
        let accounts = vec![
            old(1, "ann"),
            ImportedAccount { email: email("ANN"), ..old(2, "bob") },
            ImportedAccount { nickname: Nickname::parse("ANN").unwrap(), ..old(3, "cat") },
            ImportedAccount { nickname: Nickname::parse("ann-3").unwrap(), ..old(4, "dan") },
        ];
        let outcomes = import(&store, accounts.clone(), 4).await.unwrap();
        let renamed =
            |number, name: &str| ImportOutcome::Created { id: id(number), renamed: Nickname::parse(name).ok() };
        let taken = ImportOutcome::EmailTaken { by: Some(id(1)) };
        assert_eq!(outcomes, [created(1), taken.clone(), renamed(3, "ANN-3"), renamed(4, "ann-3-4")]);
        let records = store.recent_audit(10).await.unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].1.details.as_ref().unwrap().to_string(), "3");

        let left = ImportOutcome::LeftAlone { same_email: true };
        assert_eq!(import(&store, accounts, 4).await.unwrap(), [left.clone(), taken, left.clone(), left]);
        assert_eq!(store.recent_audit(10).await.unwrap(), records, "nothing was written");
        // Without a number, the address tells.
        let nameless = |name| ImportedAccount { id: None, ..old(1, name) };
        let outcomes = store
            .import_accounts(ImportBatch {
                accounts: vec![nameless("ann"), nameless("new")],
                last_number: None,
                audit: audit(6),
            })
            .await
            .unwrap();
        assert_eq!(outcomes, [ImportOutcome::LeftAlone { same_email: true }, created(5)]);
    }
}

#[tokio::test]
async fn an_import_ends_the_first_user_rule_and_its_accounts_do_not_give_way() {
    let (stores, _dir) = both();
    for store in stores {
        assert_eq!(
            import(&store, vec![ImportedAccount { email: email("x"), ..old(7, "old") }], 7).await.unwrap(),
            [created(7)]
        );
        let mut next = new_account("first", NewRole::AdminIfFirst);
        assert_eq!(store.create_account(next.clone(), audit(1).into()).await.unwrap().role, Role::User);
        next.email = email("X");
        next.nickname = Nickname::parse("squatter").unwrap();
        next.replaces_unverified = true;
        assert!(store.create_account(next, audit(1).into()).await.is_err());
        assert_eq!(store.unverified_before(at(i64::MAX), 10).await.unwrap(), [id(8)], "only the one that registered");
    }
}

#[tokio::test]
async fn s11_foreign_hashes_are_counted_until_the_last_is_gone() {
    let (stores, _dir) = both();
    for store in stores {
        let other = ImportedAccount { password_hash: Some(hash(20)), ..old(4, "d") };
        import(&store, vec![old(1, "a"), old(2, "b"), old(3, "c"), other], 4).await.unwrap();
        let forms = async || store.hash_forms().await.unwrap().foreign;
        let form = |passes| HashForm::of(&hash(passes)).unwrap();
        let count = |now, ever| HashCount { now, ever };
        assert_eq!(forms().await, [(form(10), count(3, 3)), (form(20), count(1, 1))]);
        let ours = CredentialHash::from_phc("$argon2id$v=19$m=64,t=1,p=1$c2FsdA$aGFzaA".to_owned());
        let renewed = AccountChange { renewed_hash: Some(ours), ..AccountChange::default() };
        for number in [1, 1, 4] {
            store.update_account(update(number, renewed.clone()), audit(1).into()).await.unwrap();
        }
        assert_eq!(forms().await, [(form(10), count(2, 3)), (form(20), count(0, 1))], "both stay while one is in use");
        let none = AccountChange { password_hash: Some(None), ..AccountChange::default() };
        store.update_account(update(2, none), audit(1).into()).await.unwrap();
        assert_eq!(forms().await, [(form(10), count(1, 3)), (form(20), count(0, 1))]);
        store.delete_account(id(3), None, None, audit(1).into()).await.unwrap();
        assert_eq!(forms().await, []);
    }
}

#[tokio::test]
async fn s85_there_is_a_limit_to_the_forms_of_foreign_hashes() {
    let (stores, _dir) = both();
    for store in stores {
        let with = |number: usize| ImportedAccount {
            password_hash: Some(hash(number)),
            ..old(number.try_into().unwrap(), &format!("p{number}"))
        };
        let refused = import(&store, (1..=MAX_HASH_FORMS + 1).map(with).collect(), 99).await;
        assert!(matches!(refused, Err(StoreError::Refused(ImportRefusal::TooManyHashForms))));
        assert!(store.hash_forms().await.unwrap().foreign.is_empty());
        import(&store, (1..=MAX_HASH_FORMS).map(with).collect(), 99).await.unwrap();
        assert_eq!(store.hash_forms().await.unwrap().foreign.len(), MAX_HASH_FORMS);
    }
}
