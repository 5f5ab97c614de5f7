use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::keeper::KeyKeeper;
use super::{KeyView, RotateError};
use crate::domain::session::Acting;
use crate::domain::session::Origin;
use crate::process::{OwnMailbox, Process, Reply, Timer, every};

/// How often the ring is read. A change by a command line while the server runs takes at most this long to be noticed.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

pub(crate) enum Message {
    /// Do what is due. Sent by a timer, and by tests, which get an answer when it is done.
    Look(Option<Reply<()>>),
    /// Create a key.
    Rotate { compromised: bool, by: Acting, origin: Origin, reply: Reply<Result<KeyView, RotateError>> },
}

/// Rotates keys on schedule and removes old ones.
pub(crate) struct KeyActor {
    keeper: Arc<KeyKeeper>,
    /// The work under way. It runs outside the mailbox, because the disk and the creation of a key are slow. It outlives a crash.
    /// The keeper does one task at a time.
    work: TaskTracker,
}

impl KeyActor {
    pub(crate) fn new(keeper: Arc<KeyKeeper>) -> Self {
        Self { keeper, work: TaskTracker::new() }
    }
}

impl Process for KeyActor {
    type Message = Message;
    type State = Timer;

    async fn start(&self, mailbox: &OwnMailbox<Message>) -> Result<Timer, String> {
        Ok(every(LOOK_PERIOD, mailbox, || Message::Look(None)))
    }

    async fn handle(&self, _: &mut Timer, message: Message) -> Result<(), String> {
        let keeper = Arc::clone(&self.keeper);
        match message {
            // The work under way already does it.
            Message::Look(None) if !self.work.is_empty() => {}
            Message::Look(reply) => {
                self.work.spawn(async move {
                    keeper.look().await;
                    reply.map(|reply| reply.send(()));
                });
            }
            Message::Rotate { compromised, by, origin, reply } => {
                self.work.spawn(async move {
                    let _ = reply.send(keeper.rotate(compromised, by, origin).await);
                });
            }
        }
        Ok(())
    }

    async fn stop(&self, _: &mut Timer) {
        self.work.close();
        self.work.wait().await;
    }
}
