//! The frozen forms of queued mails, and the numbers of their enums.

use crate::domain::email::Email;
use crate::domain::mail::{Locale, MailKind};
use crate::domain::one_time::{TokenHash, TokenSeed};
use crate::domain::outbox::{MailId, MailState, NewMail, QueuedMail};
use crate::domain::time::Timestamp;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{AddressV1, Record, V1, account_id, email, open, write};

/// Returns the number under which a language is stored. It is never reused.
pub(super) const fn locale_number(locale: Locale) -> u8 {
    match locale {
        Locale::En => 1,
        Locale::De => 2,
        Locale::Fr => 3,
        Locale::Es => 4,
        Locale::Ro => 5,
    }
}

/// Returns the language with this number.
pub(super) fn locale(number: u8) -> Result<Locale, &'static str> {
    Locale::ALL.into_iter().find(|locale| locale_number(*locale) == number).ok_or("unknown language")
}

/// Returns the number under which a state is stored. It is never reused.
const fn state_number(state: MailState) -> u8 {
    match state {
        MailState::Queued => 1,
        MailState::Dead => 2,
    }
}

/// Returns the state with this number.
fn state(number: u8) -> Result<MailState, &'static str> {
    let states = [MailState::Queued, MailState::Dead];
    states.into_iter().find(|state| state_number(*state) == number).ok_or("unknown state")
}

#[derive(Serialize, Deserialize)]
pub(crate) struct MailV1 {
    id: u64,
    account: Option<u64>,
    to: String,
    kind: u8,
    locale: u8,
    nickname: String,
    seed: Option<[u8; 32]>,
    /// In milliseconds.
    valid_for: Option<u64>,
    new_address: Option<String>,
    client_address: Option<AddressV1>,
    user_agent: Option<String>,
    written_at: i64,
    message_key: [u8; 16],
    state: u8,
    attempts: u32,
    next_attempt_at: i64,
    last_error: Option<String>,
}

/// Adds the hash of the token of the link, and the client against which the mail is counted.
#[derive(Serialize, Deserialize)]
pub(crate) struct MailV2 {
    first: MailV1,
    token: Option<[u8; 32]>,
    network: Option<AddressV1>,
}

impl Record for QueuedMail {
    const KIND: &'static str = "mail";
    const VERSION: u8 = 2;
    type Frozen = MailV2;

    fn freeze(&self) -> MailV2 {
        let mail = &self.mail;
        let first = MailV1 {
            id: self.id.get(),
            account: self.account.map(crate::AccountId::get),
            to: mail.to.as_str().to_owned(),
            kind: mail.kind.number(),
            locale: locale_number(mail.locale),
            nickname: mail.nickname.clone(),
            seed: mail.seed.map(|seed| *seed.as_bytes()),
            valid_for: mail.valid_for.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            new_address: mail.new_address.as_ref().map(|address: &Email| address.as_str().to_owned()),
            client_address: mail.client_address.map(AddressV1::from),
            user_agent: mail.user_agent.clone(),
            written_at: mail.written_at.as_millis(),
            message_key: mail.message_key,
            state: state_number(self.state),
            attempts: self.attempts,
            next_attempt_at: self.next_attempt_at.as_millis(),
            last_error: self.last_error.clone(),
        };
        let token = mail.token.map(|token| *token.as_bytes());
        MailV2 { first, token, network: mail.network.map(AddressV1::from) }
    }

    fn put(&self, value: &mut Vec<u8>) -> Result<(), &'static str> {
        let frozen = self.freeze();
        if frozen.token.is_none() && frozen.network.is_none() {
            return write(V1, &frozen.first, value);
        }
        write(Self::VERSION, &frozen, value)
    }

    fn upgrade(version: u8, body: &[u8]) -> Result<MailV2, &'static str> {
        match version {
            V1 => Ok(MailV2 { first: open(body)?, token: None, network: None }),
            _ => Err("unknown version byte"),
        }
    }

    fn thaw(MailV2 { first: frozen, token, network }: MailV2) -> Result<Self, &'static str> {
        Ok(Self {
            id: mail_id(frozen.id)?,
            account: frozen.account.map(account_id).transpose()?,
            mail: NewMail {
                to: email(&frozen.to)?,
                kind: MailKind::from_number(frozen.kind).ok_or("unknown kind")?,
                locale: locale(frozen.locale)?,
                nickname: frozen.nickname,
                seed: frozen.seed.map(TokenSeed::from_bytes),
                token: token.map(TokenHash::from_bytes),
                valid_for: frozen.valid_for.map(Duration::from_millis),
                new_address: frozen.new_address.as_deref().map(email).transpose()?,
                client_address: frozen.client_address.map(Into::into),
                network: network.map(Into::into),
                user_agent: frozen.user_agent,
                written_at: Timestamp::from_millis(frozen.written_at),
                message_key: frozen.message_key,
            },
            state: state(frozen.state)?,
            attempts: frozen.attempts,
            next_attempt_at: Timestamp::from_millis(frozen.next_attempt_at),
            last_error: frozen.last_error,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct MailIdV1(u64);

/// The value of an entry in an index of mails.
impl Record for MailId {
    const KIND: &'static str = "mail index";
    type Frozen = MailIdV1;

    fn freeze(&self) -> MailIdV1 {
        MailIdV1(self.get())
    }

    fn thaw(frozen: MailIdV1) -> Result<Self, &'static str> {
        mail_id(frozen.0)
    }
}

fn mail_id(number: u64) -> Result<MailId, &'static str> {
    MailId::new(number).ok_or("mail number zero")
}
