//! SIGKILL in the middle of work and during a start.

use std::collections::BTreeSet;
use std::time::Instant;

use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::store::chain::verify::AuditFinding;
use futures_util::future::join_all;
use reqwest::Method;
use tempfile::TempDir;

use crate::model::{Account, Acknowledged, Dice};
use crate::server::{Server, doorward};

/// How many kills there are, unless `DOORWARD_KILLS` says another number.
const KILLS: u64 = 25;
const WORKERS: usize = 4;

#[tokio::test]
#[expect(clippy::print_stdout, reason = "a long run tells its figures")]
async fn r01_a_kill_loses_nothing_that_was_acknowledged_and_revives_nothing() {
    let directory = TempDir::new().unwrap();
    let mut server = Server::start(directory.path());
    let (mut root, answered) = Account::register(&server, "root").await;
    assert!(answered);
    let admin = root.login(&server).await.unwrap();
    let mut workers = Vec::new();
    for n in 0..WORKERS {
        workers.push(Account::register(&server, &format!("worker{n}")).await.0);
    }
    let mut others: Vec<Account> = Vec::new();
    let (mut highest_id, mut answers) = (0, 0);
    let kills = std::env::var("DOORWARD_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    for kill in 0..kills {
        let mut dice = Dice::new(kill + 1);
        let acknowledged = Acknowledged::after(3 + dice.roll(30));
        let mut made: Vec<Vec<Account>> = (0..WORKERS).map(|_| Vec::new()).collect();
        {
            let (server, admin, acknowledged) = (&server, admin.as_str(), &acknowledged);
            let load = join_all(workers.iter_mut().zip(&mut made).zip(0_u64..).map(|((account, made), n)| {
                account.live(server, admin, Dice::new(1000 + 10 * kill + n), acknowledged, made)
            }));
            // The signal is sent between two answers, while other requests are in flight.
            let killer = async {
                acknowledged.enough().await;
                server.send_kill();
            };
            tokio::join!(load, killer);
        }
        answers += acknowledged.count();
        server.kill();
        server = Server::start(directory.path());

        assert!(server.is_live(&admin).await, "the session of the administrator was lost");
        others.extend(made.into_iter().flatten());
        let here = join_all(workers.iter_mut().map(|account| account.check(&server, &admin))).await;
        assert!(here.iter().all(|here| *here));
        let here = join_all(others.iter_mut().map(|account| account.check(&server, &admin))).await;
        let mut here = here.into_iter();
        others.retain(|_| here.next().unwrap());

        let list = server.call(Method::GET, "/accounts_management/?limit=1000", Some(&admin), None).await.unwrap().1;
        let listed: Vec<u64> = list.as_array().unwrap().iter().map(|account| account["id"].as_u64().unwrap()).collect();
        assert!(listed.is_sorted_by(|one, next| one < next), "two accounts have one number: {listed:?}");
        let known: BTreeSet<u64> = workers.iter().chain(&others).chain([&root]).map(|account| account.id).collect();
        assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), known, "accounts that nobody asked for");
        let (account, _) = Account::register(&server, &format!("after{kill}")).await;
        assert!(account.id > highest_id, "the number {} was given twice", account.id);
        highest_id = account.id;
        others.push(account);
        // So few accounts remain that checking all of them is quick.
        let surplus = others.len().saturating_sub(12);
        for account in others.drain(..surplus) {
            server
                .call(Method::DELETE, &format!("/accounts_management/{}", account.id), Some(&admin), None)
                .await
                .unwrap();
        }
    }
    server.kill();
    let report = SledEngine::verify_audit(directory.path(), SledOptions::default(), None).unwrap();
    assert!(matches!(report.finding, AuditFinding::Whole(_)), "the chain of the audit log: {report:?}");
    println!("{kills} kills, {answers} acknowledged changes, 0 lost");
}

#[tokio::test]
async fn r02_a_kill_at_any_moment_of_a_start_leaves_a_directory_that_starts() {
    let directory = TempDir::new().unwrap();
    let began = Instant::now();
    Server::start(directory.path()).kill();
    let start = began.elapsed();
    for round in 0..3 {
        let fresh = TempDir::new().unwrap();
        let mut known = None;
        for step in 0..8_u32 {
            // The kill waits for no event: its moments are spread over the duration of a start.
            let mut child = doorward(fresh.path()).spawn().unwrap();
            std::thread::sleep(start * (3 * step + round) / 24);
            child.kill().unwrap();
            child.wait().unwrap();
            if step == 5 {
                let server = Server::start(fresh.path());
                let (mut account, answered) = Account::register(&server, "root").await;
                assert!(answered);
                let admin = account.login(&server).await.unwrap();
                server.kill();
                known = Some((account, admin));
            }
        }
        let server = Server::start(fresh.path());
        let (mut account, admin) = known.unwrap();
        assert!(account.check(&server, &admin).await);
    }
}
