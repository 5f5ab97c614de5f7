//! Scheduled backups of two nodes, each with its own directory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use doorward_actors::ports::{BackupFailure, BackupVault, Clock as _};
use doorward_actors::testing::ManualClock;
use doorward_actors::{BackupPlan, Timestamp};

use crate::node::{Node, Shared};

const HOUR: Duration = Duration::from_hours(1);

/// Remembers when backups were made.
struct Vault {
    clock: Arc<ManualClock>,
    made: Mutex<Vec<Timestamp>>,
}

#[async_trait]
impl BackupVault for Vault {
    async fn newest(&self, now: Timestamp) -> Result<Option<Timestamp>, BackupFailure> {
        Ok(self.made.lock().unwrap().iter().copied().filter(|at| *at <= now).max())
    }

    async fn make(&self) -> Result<Timestamp, BackupFailure> {
        let now = self.clock.now();
        self.made.lock().unwrap().push(now);
        Ok(now)
    }

    fn stop(&self) {}
}

async fn node(shared: &Shared, seed: u64) -> (Node, Arc<Vault>) {
    let mut made = None;
    let node = Node::start_with(
        shared,
        seed,
        |_| {},
        |clock| {
            let vault = Arc::new(Vault { clock: Arc::clone(clock), made: Mutex::default() });
            made = Some(Arc::clone(&vault));
            Some(BackupPlan { every: HOUR, vault })
        },
    );
    let node = node.await;
    (node, made.unwrap())
}

#[tokio::test]
async fn a_scheduled_backup_is_made_by_one_node_and_by_the_other_once_that_one_is_gone() {
    let shared = Shared::new();
    let ((a, of_a), (b, of_b)) = (node(&shared, 1).await, node(&shared, 2).await);
    let made = || (of_a.made.lock().unwrap().len(), of_b.made.lock().unwrap().len());
    let tend = async || {
        a.handles().tend_backups().await.unwrap();
        b.handles().tend_backups().await.unwrap();
    };
    let both_pass = |time| {
        a.clock.advance(time);
        b.clock.advance(time);
    };
    tend().await;
    assert_eq!(made(), (1, 0));
    for _ in 0..6 {
        both_pass(Duration::from_mins(10));
        tend().await;
    }
    assert_eq!(made(), (2, 0));
    // B tells nothing of backups that it does not make.
    assert_eq!(b.handles().health.figures().await.backups.unwrap().last_success, None);
    a.stop().await;
    both_pass(Duration::from_mins(10));
    b.handles().tend_backups().await.unwrap();
    assert_eq!(made(), (2, 1), "its own directory had none");
    both_pass(HOUR);
    b.handles().tend_backups().await.unwrap();
    assert_eq!(made(), (2, 2));
}
