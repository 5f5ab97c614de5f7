//! The mails of the flows and their tokens.

use std::time::Duration;

use super::Flows;
use crate::domain::account::{Account, Undoable};
use crate::domain::email::{Email, EmailKey};
use crate::domain::mail::{Locale, MailKind};
use crate::domain::one_time::{NewToken, OneTimeKey, TokenHash, TokenPurpose, TokenSeed};
use crate::domain::outbox::{HANDOVER_WITHIN, NewMail};
use crate::domain::session::Origin;
use crate::ports::{Clock, Entropy};
use crate::store::{Effects, OnlyNetwork, SignIn};
use crate::user::RecoveryMode;

/// The recipient of a mail, the name that it uses and its language.
#[derive(Clone, Copy)]
pub(crate) struct Addressee<'a> {
    pub(crate) to: &'a Email,
    pub(crate) nickname: &'a str,
    pub(crate) locale: Locale,
}

impl<'a> Addressee<'a> {
    /// Returns the owner of an account, at its address.
    pub(super) fn owner(account: &'a Account) -> Self {
        Self { to: &account.email, nickname: account.nickname.as_str(), locale: account.locale }
    }
}

/// The dependencies for writing mails.
pub(crate) struct Writer<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) entropy: &'a dyn Entropy,
}

impl Writer<'_> {
    /// Writes a mail that reports something done from this origin.
    pub(crate) fn letter(&self, kind: MailKind, addressee: Addressee<'_>, origin: &Origin) -> NewMail {
        let mut message_key = [0; 16];
        self.entropy.fill(&mut message_key);
        NewMail {
            to: addressee.to.clone(),
            kind,
            locale: addressee.locale,
            nickname: addressee.nickname.to_owned(),
            seed: None,
            token: None,
            valid_for: None,
            new_address: None,
            client_address: origin.address,
            network: None,
            user_agent: origin.user_agent.clone(),
            written_at: self.clock.now(),
            message_key,
        }
    }

    /// Adds a link to a mail; returns it with the token of the link.
    /// The token is valid for `ttl` once the mail is handed over.
    /// The token is about an address that need not be the recipient of the mail.
    pub(crate) fn linked(
        &self,
        mut mail: NewMail,
        key: &OneTimeKey,
        purpose: TokenPurpose,
        about: &EmailKey,
        ttl: Duration,
    ) -> (NewMail, NewToken) {
        let mut seed = [0; 32];
        self.entropy.fill(&mut seed);
        let seed = TokenSeed::from_bytes(seed);
        let hash = TokenHash::of_issued(&key.token(purpose, &seed));
        mail.seed = Some(seed);
        mail.token = Some(hash);
        mail.valid_for = Some(ttl);
        let token = NewToken {
            hash,
            purpose,
            address: about.clone(),
            issued_at: mail.written_at,
            expires_at: mail.written_at.plus(HANDOVER_WITHIN).plus(ttl),
        };
        (mail, token)
    }
}

impl Flows {
    fn writer(&self) -> Writer<'_> {
        Writer { clock: &*self.clock, entropy: &*self.entropy }
    }

    /// Writes a mail that reports something done from this origin.
    pub(super) fn letter(&self, kind: MailKind, addressee: Addressee<'_>, origin: &Origin) -> NewMail {
        let network = origin.address.and_then(|client| self.limits.counted(client));
        NewMail { network, ..self.writer().letter(kind, addressee, origin) }
    }

    /// Writes a mail to the owner of an account.
    pub(super) fn notice(&self, kind: MailKind, account: &Account, origin: &Origin) -> NewMail {
        self.letter(kind, Addressee::owner(account), origin)
    }

    /// Returns the network of a login and the mail that the owner gets if the account was never used from there.
    pub(super) fn sign_in(&self, account: &Account, origin: &Origin) -> Option<SignIn> {
        let from = self.limits.network_of(origin.address?);
        Some(SignIn { from, notice: self.notice(MailKind::NewSignIn, account, origin) })
    }

    /// Returns the only network that stays known after a recovery.
    /// The recovery may be against an attacker who logged in from another network before.
    pub(super) fn only_network(&self, origin: &Origin) -> OnlyNetwork {
        OnlyNetwork(origin.address.map(|client| self.limits.network_of(client)))
    }

    /// As [`Writer::linked`]; this process also remembers when the link ends.
    fn linked(&self, mail: NewMail, purpose: TokenPurpose, about: &EmailKey, ttl: Duration) -> (NewMail, NewToken) {
        let (mail, token) = self.writer().linked(mail, &self.key, purpose, about, ttl);
        self.links.note(token.hash, self.clock.monotonic().saturating_add(HANDOVER_WITHIN).saturating_add(ttl));
        (mail, token)
    }

    /// Adds a mail that verifies an address.
    pub(super) fn ask_to_verify(&self, effects: &mut Effects, addressee: Addressee<'_>, origin: &Origin) {
        let mail = self.letter(MailKind::VerifyAddress, addressee, origin);
        let ttl = self.rules.verification_ttl;
        let (mail, token) = self.linked(mail, TokenPurpose::VerifyAddress, addressee.to.key(), ttl);
        effects.mails.push(mail);
        effects.tokens.push(token);
    }

    /// Adds a mail for choosing a new password.
    pub(super) fn offer_reset(&self, effects: &mut Effects, account: &Account, origin: &Origin) {
        let mail = self.notice(MailKind::ResetPassword, account, origin);
        let ttl = self.rules.recovery_ttl;
        let (mail, token) = self.linked(mail, TokenPurpose::ResetPassword, account.email.key(), ttl);
        effects.mails.push(mail);
        effects.tokens.push(token);
    }

    /// Adds a mail that confirms a new address, sent to that address.
    pub(super) fn ask_to_confirm(&self, effects: &mut Effects, account: &Account, new: &Email, origin: &Origin) {
        let addressee = Addressee { to: new, ..Addressee::owner(account) };
        let mut mail = self.letter(MailKind::ConfirmNewAddress, addressee, origin);
        mail.new_address = Some(new.clone());
        let ttl = self.rules.address_change_ttl;
        let (mail, token) = self.linked(mail, TokenPurpose::ConfirmAddress, new.key(), ttl);
        effects.mails.push(mail);
        effects.tokens.push(token);
    }

    /// Adds mails to the owner that report one change, each with the link that undoes it (S74).
    /// The link is left out if the account's address itself results from a change that can still be undone, because the attacker who made
    /// that change may read the mails.
    pub(super) fn tell_with_undo(&self, effects: &mut Effects, account: &Account, mails: Vec<NewMail>) {
        let mut mails = mails.into_iter();
        let Some(first) = mails.next() else { return };
        if account.reserved_at(self.clock.now()).is_some() {
            effects.mails.push(first);
            effects.mails.extend(mails);
            return;
        }
        let (first, token) = self.linked(first, TokenPurpose::Undo, account.email.key(), self.rules.undo_ttl);
        let (seed, valid_for) = (first.seed, first.valid_for);
        effects.mails.push(first);
        effects.mails.extend(mails.map(|mail| NewMail { seed, valid_for, ..mail }));
        effects.tokens.push(token);
    }

    /// Asks the owner to choose a passphrase, because the account has no usable one. Does nothing if passphrases are not used here.
    pub(super) fn ask_for_passphrase(&self, effects: &mut Effects, addressee: Addressee<'_>, origin: &Origin) {
        if self.rules.recovery_mode != RecoveryMode::Email {
            effects.mails.push(self.letter(MailKind::PassphraseNeeded, addressee, origin));
        }
    }

    /// Returns the period in which a change of address made now can be undone.
    pub(super) fn undoable(&self) -> Undoable {
        let at = self.clock.now();
        Undoable { at, until: at.plus(self.rules.undo_ttl) }
    }
}
