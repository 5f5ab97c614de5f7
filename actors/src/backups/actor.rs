use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::keeper::BackupKeeper;
use crate::process::{OwnMailbox, Process, Reply, Timer, every};

/// How often the keeper looks whether a backup is due.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

pub(crate) enum Message {
    /// Make a backup if one is due. Sent by a timer, and by tests, which get an answer when it is done.
    Look(Option<Reply<()>>),
}

/// Makes backups on schedule.
pub(crate) struct BackupActor {
    keeper: Arc<BackupKeeper>,
    /// The look under way. It runs outside the mailbox, because a backup may take hours. It outlives a crash.
    work: TaskTracker,
}

impl BackupActor {
    pub(crate) fn new(keeper: Arc<BackupKeeper>) -> Self {
        Self { keeper, work: TaskTracker::new() }
    }
}

impl Process for BackupActor {
    type Message = Message;
    type State = Timer;

    async fn start(&self, mailbox: &OwnMailbox<Message>) -> Result<Timer, String> {
        Ok(every(LOOK_PERIOD, mailbox, || Message::Look(None)))
    }

    async fn handle(&self, _: &mut Timer, Message::Look(reply): Message) -> Result<(), String> {
        if reply.is_none() && !self.work.is_empty() {
            return Ok(());
        }
        let keeper = Arc::clone(&self.keeper);
        self.work.spawn(async move {
            keeper.look().await;
            reply.map(|reply| reply.send(()));
        });
        Ok(())
    }

    async fn stop(&self, _: &mut Timer) {
        // The next start makes it anew.
        self.keeper.stop();
        self.work.close();
        self.work.wait().await;
    }
}
