//! The mails of the flows, and the tokens that go with them.

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

/// To whom a letter goes and how they are addressed.
#[derive(Clone, Copy)]
pub(crate) struct Addressee<'a> {
    pub(crate) to: &'a Email,
    pub(crate) nickname: &'a str,
    pub(crate) locale: Locale,
}

impl<'a> Addressee<'a> {
    /// The owner of an account, at its address.
    pub(super) fn owner(account: &'a Account) -> Self {
        Self { to: &account.email, nickname: account.nickname.as_str(), locale: account.locale }
    }
}

/// What letters are written with.
pub(crate) struct Writer<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) entropy: &'a dyn Entropy,
}

impl Writer<'_> {
    /// A mail that tells of what was done from this origin.
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

    /// A mail with a link, and the token that makes the link good for this long once the mail is handed over. The token is about
    /// an address, which need not be the one it is mailed to.
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

    /// A mail that tells of what was done from this origin.
    pub(super) fn letter(&self, kind: MailKind, addressee: Addressee<'_>, origin: &Origin) -> NewMail {
        let network = origin.address.and_then(|client| self.limits.counted(client));
        NewMail { network, ..self.writer().letter(kind, addressee, origin) }
    }

    /// A mail to the owner of an account.
    pub(super) fn notice(&self, kind: MailKind, account: &Account, origin: &Origin) -> NewMail {
        self.letter(kind, Addressee::owner(account), origin)
    }

    /// From where an account is used, and what its owner is told if it was never used from there.
    pub(super) fn sign_in(&self, account: &Account, origin: &Origin) -> Option<SignIn> {
        let from = self.limits.network_of(origin.address?);
        Some(SignIn { from, notice: self.notice(MailKind::NewSignIn, account, origin) })
    }

    /// The network that stays known after a recovery: whoever made one elsewhere before may be whom it is to keep out.
    pub(super) fn only_network(&self, origin: &Origin) -> OnlyNetwork {
        OnlyNetwork(origin.address.map(|client| self.limits.network_of(client)))
    }

    /// As [`Writer::linked`], and this process remembers when the link ends.
    fn linked(&self, mail: NewMail, purpose: TokenPurpose, about: &EmailKey, ttl: Duration) -> (NewMail, NewToken) {
        let (mail, token) = self.writer().linked(mail, &self.key, purpose, about, ttl);
        self.links.note(token.hash, self.clock.monotonic().saturating_add(HANDOVER_WITHIN).saturating_add(ttl));
        (mail, token)
    }

    /// Adds the mail by which an address is verified.
    pub(super) fn ask_to_verify(&self, effects: &mut Effects, addressee: Addressee<'_>, origin: &Origin) {
        let mail = self.letter(MailKind::VerifyAddress, addressee, origin);
        let ttl = self.rules.verification_ttl;
        let (mail, token) = self.linked(mail, TokenPurpose::VerifyAddress, addressee.to.key(), ttl);
        effects.mails.push(mail);
        effects.tokens.push(token);
    }

    /// Adds the mail by which a new password is chosen.
    pub(super) fn offer_reset(&self, effects: &mut Effects, account: &Account, origin: &Origin) {
        let mail = self.notice(MailKind::ResetPassword, account, origin);
        let ttl = self.rules.recovery_ttl;
        let (mail, token) = self.linked(mail, TokenPurpose::ResetPassword, account.email.key(), ttl);
        effects.mails.push(mail);
        effects.tokens.push(token);
    }

    /// Adds the mail that confirms a new address there.
    pub(super) fn ask_to_confirm(&self, effects: &mut Effects, account: &Account, new: &Email, origin: &Origin) {
        let addressee = Addressee { to: new, ..Addressee::owner(account) };
        let mut mail = self.letter(MailKind::ConfirmNewAddress, addressee, origin);
        mail.new_address = Some(new.clone());
        let ttl = self.rules.address_change_ttl;
        let (mail, token) = self.linked(mail, TokenPurpose::ConfirmAddress, new.key(), ttl);
        effects.mails.push(mail);
        effects.tokens.push(token);
    }

    /// Adds mails to the owner that tell of one change, each with the link that undoes it (S74). They have none where the
    /// account's address is itself the outcome of a change that can still be undone: whoever did that reads them.
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

    /// Asks the owner for a passphrase where they have none that opens anything, unless none is of use here.
    pub(super) fn ask_for_passphrase(&self, effects: &mut Effects, addressee: Addressee<'_>, origin: &Origin) {
        if self.rules.recovery_mode != RecoveryMode::Email {
            effects.mails.push(self.letter(MailKind::PassphraseNeeded, addressee, origin));
        }
    }

    /// For how long a change of address that is made now can be undone.
    pub(super) fn undoable(&self) -> Undoable {
        let at = self.clock.now();
        Undoable { at, until: at.plus(self.rules.undo_ttl) }
    }
}
