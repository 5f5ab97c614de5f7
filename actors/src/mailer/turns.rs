//! The order in which mails are sent (S75).
//!
//! Urgent mails go before the others. Among mails of one class, clients take turns, and the accounts of one client take turns.
//! So even if a client or an account has many mails waiting, others wait for only one of them at a time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;

use crate::domain::account::AccountId;
use crate::domain::outbox::{MailId, QueuedMail};

/// The client whose turn a mail takes. `None` stands for all clients that are not counted.
pub(super) type Client = Option<IpAddr>;

/// The due mails in the order of sending, each once. It holds their numbers, about 100 bytes for each.
/// The store tells whether a mail still exists when its turn comes.
#[derive(Default)]
pub(super) struct Turns {
    waiting: HashSet<MailId>,
    urgent: Clients,
    others: Clients,
}

type Clients = Rotation<Client, Rotation<Option<AccountId>, VecDeque<MailId>>>;

impl Turns {
    /// Returns the number of mails that wait for their turn.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Queues a mail for its turn, unless it is queued already.
    pub(super) fn add(&mut self, due: &QueuedMail) {
        if !self.waiting.insert(due.id) {
            return;
        }
        let class = if due.mail.kind.is_urgent() { &mut self.urgent } else { &mut self.others };
        class.queue_of(due.mail.network).queue_of(due.account).push_back(due.id);
    }

    /// Removes and returns the next mail of a client for which `may` allows one more mail under way.
    pub(super) fn next(&mut self, may: impl Fn(&Client) -> bool) -> Option<(MailId, Client)> {
        for class in [&mut self.urgent, &mut self.others] {
            let next = class.next(&may, |accounts| accounts.next(|_| true, VecDeque::pop_front).map(|(_, id)| id));
            if let Some((client, id)) = next {
                self.waiting.remove(&id);
                return Some((id, client));
            }
        }
        None
    }
}

/// Queues that take turns. An empty queue is removed.
struct Rotation<K, Q> {
    order: VecDeque<K>,
    queues: HashMap<K, Q>,
}

impl<K, Q> Default for Rotation<K, Q> {
    fn default() -> Self {
        Self { order: VecDeque::new(), queues: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash, Q: Default + IsEmpty> Rotation<K, Q> {
    fn queue_of(&mut self, key: K) -> &mut Q {
        self.queues.entry(key).or_insert_with(|| {
            self.order.push_back(key);
            Q::default()
        })
    }

    /// Takes an item from the first queue that `may` accepts. That queue then moves to the end.
    fn next<T>(&mut self, may: impl Fn(&K) -> bool, take: impl FnOnce(&mut Q) -> Option<T>) -> Option<(K, T)> {
        let turn = self.order.iter().position(may)?;
        let key = self.order.remove(turn)?;
        let queue = self.queues.get_mut(&key)?;
        let taken = take(queue);
        if queue.is_empty() {
            self.queues.remove(&key);
        } else {
            self.order.push_back(key);
        }
        Some((key, taken?))
    }
}

trait IsEmpty {
    fn is_empty(&self) -> bool;
}

impl<T> IsEmpty for VecDeque<T> {
    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }
}

impl<K, Q> IsEmpty for Rotation<K, Q> {
    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::mail;
    use super::*;
    use crate::domain::mail::MailKind;

    fn order(turns: &mut Turns) -> Vec<u64> {
        std::iter::from_fn(|| turns.next(|_| true)).map(|(id, _)| id.get()).collect()
    }

    #[test]
    fn d12_clients_take_turns_and_so_do_the_accounts_of_one() {
        let mut turns = Turns::default();
        let mails = [(1, 1, 1), (2, 1, 1), (3, 1, 1), (4, 1, 2), (5, 1, 2), (6, 2, 3), (7, 0, 4), (8, 2, 3)];
        for (id, client, account) in mails {
            turns.add(&mail(id, MailKind::ResetPassword, client, account));
        }
        // The first client's accounts 1 and 2 alternate with the second client and with the uncounted clients.
        assert_eq!(order(&mut turns), [1, 6, 7, 4, 8, 2, 5, 3]);
        assert_eq!((turns.len(), turns.urgent.queues.len(), turns.urgent.order.len()), (0, 0, 0));
    }

    #[test]
    fn d12_recovery_and_notices_go_before_confirmations() {
        let mut turns = Turns::default();
        for (id, kind) in [
            (1, MailKind::VerifyAddress),
            (2, MailKind::ConfirmNewAddress),
            (3, MailKind::AddressInUse),
            (4, MailKind::ResetPassword),
            (5, MailKind::PasswordChanged),
            (6, MailKind::AddressChangePending),
        ] {
            turns.add(&mail(id, kind, 1, 1));
        }
        assert_eq!(order(&mut turns), [4, 5, 6, 1, 2, 3]);
    }

    #[test]
    fn d12_who_comes_late_waits_for_one_mail_of_each_before() {
        let mut turns = Turns::default();
        for id in 1..=100 {
            turns.add(&mail(id, MailKind::ResetPassword, 1 + u8::try_from(id % 2).unwrap(), id));
        }
        assert_eq!(turns.next(|_| true).unwrap().0.get(), 1);
        turns.add(&mail(101, MailKind::ResetPassword, 3, 101));
        turns.add(&mail(101, MailKind::ResetPassword, 3, 101));
        assert_eq!(order(&mut turns)[..4], [2, 3, 101, 4]);
    }

    #[test]
    fn a_client_that_has_enough_under_way_is_passed_over() {
        let mut turns = Turns::default();
        for (id, client) in [(1, 1), (2, 2)] {
            turns.add(&mail(id, MailKind::ResetPassword, client, 1));
        }
        let first = mail(1, MailKind::ResetPassword, 1, 1).mail.network;
        assert_eq!(turns.next(|client| *client != first).unwrap().0.get(), 2);
        assert_eq!(turns.next(|client| *client != first), None);
        assert_eq!((turns.len(), order(&mut turns)), (1, vec![1]));
    }
}
