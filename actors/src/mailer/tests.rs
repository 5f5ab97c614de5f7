//! Which mail is tried when.

use std::sync::Arc;

use super::postman::Postman;
use super::state::{Effect, Event, State};
use crate::domain::account::AccountId;
use crate::domain::account::NewAccount;
use crate::domain::email::Email;
use crate::domain::mail::{Locale, MailKind};
use crate::domain::nickname::Nickname;
use crate::domain::one_time::OneTimeKey;
use crate::domain::outbox::{MailId, MailState, NewMail, QueuedMail};
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::ports::Clock;
use crate::store::Effects;
use crate::testing::{ManualClock, MemoryMail, SeededEntropy, memory_store, system_settings};

/// A mail that has been due for long.
pub(super) fn mail(id: u64, kind: MailKind, client: u8, account: u64) -> QueuedMail {
    let written_at = Timestamp::from_millis(1);
    QueuedMail {
        id: MailId::new(id).unwrap(),
        account: AccountId::new(account),
        mail: NewMail {
            to: Email::parse("ann@example.com").unwrap(),
            kind,
            locale: Locale::En,
            nickname: "Ann".to_owned(),
            seed: None,
            token: None,
            valid_for: None,
            new_address: None,
            client_address: None,
            network: (client > 0).then(|| [192, 0, 2, client].into()),
            user_agent: None,
            written_at,
            message_key: [0; 16],
        },
        state: MailState::Queued,
        attempts: 0,
        next_attempt_at: written_at,
        last_error: None,
    }
}

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);

const NONE: [u64; 0] = [];

fn begun(effects: &[Effect]) -> Vec<u64> {
    let ids = effects.iter().filter_map(|effect| match effect {
        Effect::Begin(mail) => Some(mail.get()),
        _ => None,
    });
    ids.collect()
}

#[test]
fn a_mail_whose_outcome_is_being_noted_is_not_tried_again() {
    let (mut state, due) = (State::new(2), || Event::Due(vec![mail(1, MailKind::ResetPassword, 1, 1)]));
    assert_eq!(begun(&state.handle(due(), NOW)), [1]);
    assert_eq!(begun(&state.handle(due(), NOW)), NONE, "it is under way");
    let id = mail(1, MailKind::ResetPassword, 1, 1).id;
    assert_eq!(begun(&state.handle(Event::Sent(id), NOW)), NONE);
    assert_eq!(begun(&state.handle(due(), NOW)), NONE, "the store still says that it is due");
    assert!(!state.is_idle());
    state.handle(Event::Noted(id), NOW);
    assert!(state.is_idle());
    assert_eq!(begun(&state.handle(due(), NOW)), [1], "it failed, and is due again");
}

#[test]
fn one_client_has_half_of_the_places() {
    let mut state = State::new(3);
    let of = |id, client| mail(id, MailKind::ResetPassword, client, id);
    let mails = vec![of(1, 1), of(2, 1), of(3, 1), of(4, 1), of(5, 2)];
    assert_eq!(begun(&state.handle(Event::Due(mails), NOW)), [1, 5, 2]);
    assert_eq!(begun(&state.handle(Event::Sent(of(5, 2).id), NOW)), NONE);
    assert_eq!(begun(&state.handle(Event::Sent(of(1, 1).id), NOW)), [3]);
}

/// A mail that a crash may still lose belongs to an account that may never exist.
#[tokio::test]
async fn r04_a_mail_is_sent_only_when_it_is_durable() {
    let (store, engine) = memory_store();
    engine.keep_others_out();
    let (transport, clock) = (Arc::new(MemoryMail::new()), Arc::new(ManualClock::new()));
    let postman = Postman {
        settings: system_settings().mailer,
        store: store.clone(),
        transport: Arc::clone(&transport) as _,
        key: Arc::new(OneTimeKey::derive(&Secret::new("0123456789abcdef0123456789abcdef".to_owned()))),
        previous_key: None,
        clock: Arc::clone(&clock) as _,
        entropy: Arc::new(SeededEntropy::new(1)),
        troubles: Arc::default(),
        links: Arc::default(),
    };
    let queued = NewMail { written_at: clock.now(), ..mail(1, MailKind::PasswordChanged, 1, 1).mail };
    let account = NewAccount::sample(queued.to.clone(), Nickname::parse("ann").unwrap());
    let effects = Effects { mails: vec![queued], ..Effects::default() };
    engine.hold_answers(true);
    let (mut commit, mut attempt) =
        (Box::pin(store.create_account(account, effects)), Box::pin(postman.attempt(MailId::new(1).unwrap())));
    assert!(futures_util::poll!(&mut commit).is_pending());
    assert_eq!(store.mails(None, 1).await.unwrap().len(), 1, "others can read the mail already");
    assert!(futures_util::poll!(&mut attempt).is_pending());
    assert_eq!(transport.attempts(), 0);
    engine.hold_answers(false);
    assert!(commit.await.is_ok());
    assert!(attempt.await.unwrap().is_some());
    assert_eq!(transport.sent().len(), 1);
}
