//! What a mailbox keeps when an incarnation ends.

use super::*;
use crate::testing::ManualClock;

/// Takes the next letter of the running incarnation.
fn next(mailbox: &Mailbox<u8>) -> Option<u8> {
    match mailbox.take(mailbox.incarnation())? {
        Letter::Work(message) => Some(message),
        Letter::Ping(_) | Letter::Fault(_) => None,
    }
}

fn own(mailbox: &Arc<Mailbox<u8>>) -> OwnMailbox<u8> {
    OwnMailbox { mailbox: Arc::clone(mailbox), incarnation: mailbox.incarnation() }
}

#[test]
fn the_queue_outlives_an_incarnation_without_what_that_one_told_itself() {
    let mailbox = Mailbox::<u8>::new(Vitals::new("x"));
    let first = own(&mailbox);
    mailbox.tell(1).unwrap();
    first.tell(2).unwrap();
    mailbox.tell(3).unwrap();
    mailbox.end_incarnation();
    assert_eq!(first.tell(4), Err(AskError::NotRunning), "a task of the first incarnation tells the second nothing");
    assert!(mailbox.take(first.incarnation).is_none(), "the first incarnation takes no letter of the second");
    own(&mailbox).tell(5).unwrap();
    assert_eq!(mailbox.report(&ManualClock::new()).mailbox, 3);
    assert_eq!([next(&mailbox), next(&mailbox), next(&mailbox), next(&mailbox)], [Some(1), Some(3), Some(5), None]);
    mailbox.close();
    assert_eq!(mailbox.tell(6), Err(AskError::NotRunning));
}

#[test]
fn letters_that_are_dropped_do_not_wait() {
    let mailbox = Mailbox::<u8>::new(Vitals::new("x"));
    let (reply, answer) = oneshot::channel();
    mailbox.post(None, Letter::Ping(reply)).unwrap();
    mailbox.drop_letters();
    assert_eq!(mailbox.report(&ManualClock::new()).mailbox, 0);
    assert!(answer.blocking_recv().is_err());
}

#[test]
fn the_memory_of_a_long_queue_is_given_back() {
    let mailbox = Mailbox::<u8>::new(Vitals::new("x"));
    (0..=KEPT_CAPACITY).for_each(|_| mailbox.tell(0).unwrap());
    while next(&mailbox).is_some() {}
    assert_eq!(mailbox.lock().letters.capacity(), 0);
}
