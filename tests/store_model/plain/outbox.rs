//! The mails of the model. It counts and searches where the store on disk keeps counters.

use doorward_actors::{
    AccountId, AuditEvent, AuditRecord, AuditRefusal, GivenUp, MAX_GIVEN_UP, MailCount, MailId, MailOutcome, MailState,
    NewMail, Origin, QueuedMail, Timestamp, TokenHash, day_of, no_longer_kept,
};
use std::collections::{HashMap, HashSet};

use super::State;
use doorward_actors::store::StoredToken;

/// The mails that were queued and withheld on each day.
#[derive(Debug, Default)]
pub(super) struct Days {
    queued: HashMap<(i64, MailCount), u64>,
    withheld: HashSet<(i64, MailCount)>,
}

impl State {
    /// Splits mails into those that are queued and those that are withheld, with the count that is full.
    pub(super) fn split(
        &self,
        account: Option<AccountId>,
        verified: bool,
        mails: Vec<NewMail>,
    ) -> (Vec<NewMail>, Vec<(NewMail, MailCount)>) {
        let mut goes: Vec<NewMail> = Vec::new();
        let mut withheld = Vec::new();
        let counts =
            |mail: &NewMail, count| mail.bounds(account, verified).iter().any(|bound: &_| bound.count == count);
        for mail in mails {
            let day = day_of(mail.written_at);
            let full = mail.bounds(account, verified).into_iter().find(|bound| {
                let same = |other: &&NewMail| counts(other, bound.count);
                let same_day = |other: &&NewMail| same(other) && day_of(other.written_at) == day;
                let before = self.days.queued.get(&(day, bound.count)).copied().unwrap_or_default();
                let today = before + goes.iter().filter(same_day).count() as u64;
                let waiting = self.waiting(bound.count) + goes.iter().filter(same).count() as u64;
                today >= bound.a_day || bound.waiting.is_some_and(|most| waiting >= most)
            });
            match full {
                Some(bound) => withheld.push((mail, bound.count)),
                None => goes.push(mail),
            }
        }
        (goes, withheld)
    }

    fn waiting(&self, count: MailCount) -> u64 {
        let counts = |queued: &&QueuedMail| {
            let bounds = queued.mail.bounds(queued.account, !count.unverified);
            queued.state == MailState::Queued && bounds.iter().any(|bound| bound.count == count)
        };
        self.mails.iter().filter(counts).count() as u64
    }

    /// Queues mails and returns those that are withheld.
    pub(super) fn queue_all(
        &mut self,
        account: Option<AccountId>,
        verified: bool,
        mails: Vec<NewMail>,
    ) -> Vec<NewMail> {
        let (goes, withheld) = self.split(account, verified, mails);
        for (mail, count) in &withheld {
            if self.days.withheld.insert((day_of(mail.written_at), *count)) {
                self.audit.push(AuditRecord {
                    subject: account,
                    origin: Origin::new(mail.client_address, mail.user_agent.as_deref(), None),
                    refusal: Some(AuditRefusal::TooManyMails),
                    ..AuditRecord::new(AuditEvent::MailWithheld, mail.written_at)
                });
            }
        }
        for mail in goes {
            for bound in mail.bounds(account, verified) {
                *self.days.queued.entry((day_of(mail.written_at), bound.count)).or_default() += 1;
            }
            self.mails_ever += 1;
            self.mails.extend(MailId::new(self.mails_ever).map(|id| QueuedMail {
                id,
                account,
                state: MailState::Queued,
                attempts: 0,
                next_attempt_at: mail.written_at,
                last_error: None,
                mail,
            }));
        }
        withheld.into_iter().map(|(mail, _)| mail).collect()
    }

    /// Removes the waiting mail of a token.
    pub(super) fn withdraw(&mut self, account: AccountId, token: &TokenHash, replaced: bool) {
        self.mails.retain(|waiting| {
            let is_of_token = waiting.account == Some(account) && waiting.mail.token == Some(*token);
            let goes = is_of_token && (replaced || waiting.mail.kind.is_only_a_link());
            waiting.state != MailState::Queued || !goes
        });
    }

    /// Invalidates the tokens of an account that `which` selects.
    pub(super) fn revoke(&mut self, account: AccountId, which: impl Fn(&StoredToken) -> bool) {
        let of = |stored: &StoredToken| stored.account == account && which(stored);
        let gone: Vec<TokenHash> =
            self.tokens.iter().filter(|stored| of(stored)).map(|stored| stored.token.hash).collect();
        self.tokens.retain(|stored| !of(stored));
        for token in gone {
            self.withdraw(account, &token, false);
        }
    }

    pub(super) fn claim(&mut self, id: MailId, now: Timestamp, until: Option<Timestamp>) -> Option<QueuedMail> {
        let due = self.mails.iter_mut().find(|mail| mail.id == id)?;
        if due.state != MailState::Queued || due.next_attempt_at > now {
            return None;
        }
        due.next_attempt_at = until.unwrap_or(due.next_attempt_at);
        Some(due.clone())
    }

    pub(super) fn settle(&mut self, id: MailId, outcome: MailOutcome) {
        let Some(mail) = self.mails.iter_mut().find(|mail| mail.id == id) else { return };
        let (state, at, error) = match outcome {
            MailOutcome::Sent { at } => {
                let of_mail = self.tokens.iter_mut().find(|stored| Some(stored.token.hash) == mail.mail.token);
                if let (Some(stored), Some(ttl)) = (of_mail, mail.mail.valid_for) {
                    stored.token.expires_at = stored.token.expires_at.min(at.plus(ttl));
                }
                self.mails.retain(|mail| mail.id != id);
                return;
            }
            MailOutcome::Retry { at, error } => (MailState::Queued, at, error),
            MailOutcome::Dead { at, error } => (MailState::Dead, at, error),
        };
        if mail.state == MailState::Dead {
            return;
        }
        mail.state = state;
        mail.attempts = mail.attempts.saturating_add(1);
        mail.next_attempt_at = at;
        mail.last_error = Some(error);
        if state == MailState::Dead && self.given_up().len() > MAX_GIVEN_UP {
            self.remove_given_up(at);
        }
    }

    fn given_up(&self) -> Vec<GivenUp> {
        let dead = self.mails.iter().filter(|mail| mail.state == MailState::Dead);
        dead.map(|mail| GivenUp { id: mail.id, at: mail.next_attempt_at, network: mail.mail.network }).collect()
    }

    fn remove_given_up(&mut self, now: Timestamp) {
        let gone = no_longer_kept(self.given_up(), now);
        self.mails.retain(|mail| !gone.contains(&mail.id));
    }

    pub(super) fn prune_mails(&mut self, now: Timestamp, limit: usize) -> usize {
        self.remove_given_up(now);
        let before = day_of(now).saturating_sub(1);
        let queued: Vec<_> = self.days.queued.keys().filter(|(day, _)| *day < before).take(limit).copied().collect();
        let rest = limit - queued.len();
        let withheld: Vec<_> = self.days.withheld.iter().filter(|(day, _)| *day < before).take(rest).copied().collect();
        for key in &queued {
            self.days.queued.remove(key);
        }
        for key in &withheld {
            self.days.withheld.remove(key);
        }
        queued.len() + withheld.len()
    }
}
