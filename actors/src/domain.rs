//! The rules of accounts, sessions and tokens: pure and synchronous, with no input or output and no ambient clock.

pub(crate) mod account;
pub(crate) mod audit;
mod codes;
pub(crate) mod email;
pub(crate) mod failures;
pub(crate) mod hash_form;
pub(crate) mod import;
pub(crate) mod lease;
pub(crate) mod mail;
pub(crate) mod network;
pub(crate) mod networks;
pub(crate) mod nickname;
pub(crate) mod one_time;
pub(crate) mod outbox;
pub(crate) mod passphrase;
pub(crate) mod password;
pub(crate) mod refresh;
pub(crate) mod revocation;
pub(crate) mod secret;
pub(crate) mod service_token;
pub(crate) mod session;
pub(crate) mod time;
pub(crate) mod token;
