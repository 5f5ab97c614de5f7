//! Decides which mail is tried when. The state takes events and returns effects, and does no input or output.

use std::collections::{HashMap, HashSet};

use super::turns::{Client, Turns};
use crate::domain::outbox::{MailId, QueuedMail};
use crate::domain::time::Timestamp;

/// The maximum number of mails that are read at once.
pub(super) const READ_AT_ONCE: usize = 512;

/// An event that the state handles.
#[derive(Debug)]
pub(super) enum Event {
    /// A mail was queued.
    Queued,
    /// A mail may be due again.
    Look,
    /// The answer to [`Effect::ReadNew`].
    New(Vec<QueuedMail>),
    /// The answer to [`Effect::ReadDue`].
    Due(Vec<QueuedMail>),
    /// The transport has finished with a mail, and its outcome is being stored.
    Sent(MailId),
    /// The outcome of an attempt is stored.
    Noted(MailId),
}

/// An effect that the process carries out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Read at most [`READ_AT_ONCE`] mails with numbers after this one.
    ReadNew(Option<MailId>),
    /// Read at most this many due mails.
    ReadDue(usize),
    /// Try to send a mail.
    Begin(MailId),
}

/// The state of the mailer. It is a cache: the store tells whether a mail still exists and is due when its turn comes.
pub(super) struct State {
    /// The maximum number of mails under way.
    concurrency: usize,
    /// The mails under way, each with the client whose turn it used.
    under_way: HashMap<MailId, Client>,
    /// The mails whose outcome is being noted, or could not be noted: they may still look due, and must not be tried again.
    noting: HashSet<MailId>,
    /// The due mails. Mails that were deleted or postponed are skipped when their turn comes.
    turns: Turns,
    /// The newest mail that was read.
    seen: Option<MailId>,
}

impl State {
    pub(super) fn new(concurrency: usize) -> Self {
        Self { concurrency, under_way: HashMap::new(), noting: HashSet::new(), turns: Turns::default(), seen: None }
    }

    /// Whether nothing is under way.
    #[cfg(feature = "testing")]
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.noting.is_empty()
    }

    pub(super) fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Queued => effects.push(Effect::ReadNew(self.seen)),
            Event::Look => {
                effects.push(Effect::ReadNew(self.seen));
                // Mails that wait for their turn are still due, so they are read again.
                effects.push(Effect::ReadDue(self.turns.len() + READ_AT_ONCE));
            }
            Event::New(mails) => {
                self.seen = mails.last().map(|mail| mail.id).or(self.seen);
                self.line_up(&mails, now);
                if mails.len() == READ_AT_ONCE {
                    effects.push(Effect::ReadNew(self.seen));
                }
            }
            Event::Due(mails) => self.line_up(&mails, now),
            Event::Sent(mail) => {
                if self.under_way.remove(&mail).is_some() {
                    self.noting.insert(mail);
                }
            }
            Event::Noted(mail) => {
                self.noting.remove(&mail);
            }
        }
        self.begin(&mut effects);
        effects
    }

    fn line_up(&mut self, mails: &[QueuedMail], now: Timestamp) {
        let due = mails.iter().filter(|mail| {
            mail.is_due(now) && !self.under_way.contains_key(&mail.id) && !self.noting.contains(&mail.id)
        });
        due.for_each(|mail| self.turns.add(mail));
    }

    fn begin(&mut self, effects: &mut Vec<Effect>) {
        // One client gets at most half of the places, rounded up, so that a slow mail server for its recipients does not delay
        // others.
        let most_of_one = self.concurrency.div_ceil(2);
        while self.under_way.len() < self.concurrency {
            let under_way = &self.under_way;
            let may = |client: &Client| under_way.values().filter(|other| *other == client).count() < most_of_one;
            let Some((id, client)) = self.turns.next(may) else { return };
            self.under_way.insert(id, client);
            effects.push(Effect::Begin(id));
        }
    }
}
