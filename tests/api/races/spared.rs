//! The session that sets a new password continues, whatever else happens to the account at the same moment.

use std::sync::Arc;

use serde_json::json;

use super::people::{Asker, Held, log_in, patient, restarted};
use super::witness::{Chance, Race, never_revived};
use crate::support::{NEW_PASSWORD, Person, TestApp};

/// The password at registration.
const OLD_PASSWORD: &str = "Quiet-lamp-7-tree";
const SIDE_BY_SIDE: usize = 8;
const ROUNDS: usize = 15;
/// The number of changes that each of two tabs makes.
const CHANGES: usize = 3;

/// Changes passwords and nicknames from one tab of a session, one after the other. A change that states a password
/// which was just replaced is answered 403.
async fn change_again_and_again(app: &TestApp, held: &Held, person: &Person, tab: usize, mut luck: Chance) {
    for n in 0..CHANGES {
        let changes_name = luck.below(4) == 0;
        let change = if changes_name {
            json!({"nickname": format!("{}{tab}{n}", person.nickname)})
        } else {
            let (new, current) = if n % 2 == tab { (NEW_PASSWORD, OLD_PASSWORD) } else { (OLD_PASSWORD, NEW_PASSWORD) };
            // Only the first change needs no current password, because the session is fresh.
            json!({"password": new, "current_password": current})
        };
        let answer = app.change_own(&held.access, &change).await;
        let expected: &[u16] = if changes_name { &[200] } else { &[200, 403] };
        assert!(expected.contains(&answer.status), "{answer:?}");
        luck.dawdle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s38_the_session_that_sets_a_password_is_never_dead_and_all_others_are() {
    let mut luck = Chance::of_the_test();
    let app = Arc::new(patient().spawn().await);
    app.register("admin").await;
    let mut people = Vec::new();
    for n in 0..SIDE_BY_SIDE {
        let name = format!("person{n}");
        let person = app.register(&name).await;
        let held = log_in(&app, &person).await;
        people.push((person, held));
    }
    for _ in 0..ROUNDS {
        let races = people.iter().map(|(person, held)| {
            let (app, mut luck) = (Arc::clone(&app), luck.fork());
            async move {
                let race = Arc::new(Race::default());
                let asker = || Asker { app: Arc::clone(&app), token: held.access.clone(), uses: true };
                let askers = [race.watch(luck.fork(), asker()), race.watch(luck.fork(), asker())];
                let [first, second] = [0, 1].map(|tab| change_again_and_again(&app, held, person, tab, luck.fork()));
                race.change(2, &mut luck, Box::pin(async { tokio::join!(first, second) })).await;
                let mut seen = Vec::new();
                for asker in askers {
                    seen.extend(asker.await.unwrap().0);
                }
                for seen in &seen {
                    assert!(seen.alive, "{} said dead of the session that was spared", seen.by);
                }
                never_revived(&seen, "spared");
                Held { access: asker().token, refresh: held.refresh.clone() }
            }
        });
        let held = futures_util::future::join_all(races).await;
        for ((_, before), after) in people.iter_mut().zip(held) {
            *before = after;
        }
    }
    let app = restarted(app).await;
    for (_, held) in &people {
        assert!(app.is_live(&held.access).await, "a restart ended the session that was spared");
    }
}
