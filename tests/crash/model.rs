use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::server::Server;

/// A deterministic random number generator, so that a failure can be reproduced.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Returns a number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Counts acknowledgements and notifies when there are enough.
pub(crate) struct Acknowledged {
    wanted: u64,
    count: AtomicU64,
    enough: Notify,
}

impl Acknowledged {
    pub(crate) fn after(count: u64) -> Self {
        Self { wanted: count, count: AtomicU64::new(0), enough: Notify::new() }
    }

    fn one(&self) {
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 == self.wanted {
            self.enough.notify_one();
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) async fn enough(&self) {
        self.enough.notified().await;
    }
}

/// The known state of a session or a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Yes,
    No,
    /// A request about it had no answer, so the state is unknown.
    Open,
}

/// The expected state of an account after all acknowledgements. Only one worker at a time changes the account.
#[derive(Debug)]
pub(crate) struct Account {
    /// 0 while it is unknown whether the account was created.
    pub(crate) id: u64,
    email: String,
    /// The possible passwords: one, or two when a change had no answer.
    passwords: Vec<String>,
    locked: Known,
    deleted: Known,
    sessions: BTreeMap<String, Known>,
    changes: u64,
}

impl Account {
    fn named(name: &str) -> Self {
        Self {
            id: 0,
            email: format!("{name}@example.com"),
            passwords: vec!["Quiet-lamp-7-tree-0".to_owned()],
            locked: Known::No,
            deleted: Known::No,
            sessions: BTreeMap::new(),
            changes: 0,
        }
    }

    fn path(&self) -> String {
        format!("/accounts_management/{}", self.id)
    }

    fn end_sessions(&mut self, as_known: Known, spared: Option<&str>) {
        for (token, alive) in &mut self.sessions {
            if Some(token.as_str()) != spared && *alive != Known::No {
                *alive = as_known;
            }
        }
    }

    /// Registers the account. Returns `false` if there was no answer.
    pub(crate) async fn register(server: &Server, name: &str) -> (Self, bool) {
        let mut account = Self::named(name);
        let body = json!({"email": account.email, "nickname": name, "password": account.passwords[0],
            "passphrase": "blue heron over water"});
        let answer = server.call(Method::POST, "/register", None, Some(body)).await;
        if let Some((status, body)) = &answer {
            assert_eq!(*status, StatusCode::CREATED, "{body}");
            account.id = body["id"].as_u64().unwrap();
        }
        (account, answer.is_some())
    }

    /// Logs in with the first possible password, which must be correct. Returns `None` if there was no answer.
    pub(crate) async fn login(&mut self, server: &Server) -> Option<String> {
        let (status, body) = server.login(&self.email, &self.passwords[0]).await?;
        assert_eq!(status, StatusCode::OK, "{body} {self:?}");
        let token = body["access_token"].as_str().unwrap().to_owned();
        assert_eq!(body["user"]["id"], self.id);
        self.sessions.insert(token.clone(), Known::Yes);
        Some(token)
    }

    fn some_session(&self, dice: &mut Dice) -> Option<String> {
        let live: Vec<_> = self.sessions.iter().filter(|(_, alive)| **alive == Known::Yes).collect();
        let count = u64::try_from(live.len()).unwrap();
        (count > 0).then(|| live[usize::try_from(dice.roll(count)).unwrap()].0.clone())
    }

    async fn logout(&mut self, server: &Server, token: String) -> Option<()> {
        let answer = server.call(Method::POST, "/logout", Some(&token), None).await;
        self.sessions.insert(token, if answer.is_some() { Known::No } else { Known::Open });
        let (status, body) = answer?;
        assert_eq!(status, StatusCode::OK, "{body}");
        Some(())
    }

    async fn change_password(&mut self, server: &Server, token: &str) -> Option<()> {
        self.changes += 1;
        let new = format!("Quiet-lamp-7-tree-{}", self.changes);
        let change = json!({"password": new, "current_password": self.passwords[0]});
        let answer = server.call(Method::PUT, "/my_account/", Some(token), Some(change)).await;
        if answer.is_none() {
            self.passwords.push(new);
            self.end_sessions(Known::Open, Some(token));
            return None;
        }
        let (status, body) = answer?;
        assert_eq!(status, StatusCode::OK, "{body}");
        self.passwords = vec![new];
        self.end_sessions(Known::No, Some(token));
        Some(())
    }

    async fn set_lock(&mut self, server: &Server, admin: &str, lock: bool) -> Option<()> {
        let answer = server.call(Method::PUT, &self.path(), Some(admin), Some(json!({"lock": lock}))).await;
        self.locked = match (&answer, lock) {
            (None, _) => Known::Open,
            (Some(_), true) => Known::Yes,
            (Some(_), false) => Known::No,
        };
        if lock {
            self.end_sessions(if answer.is_some() { Known::No } else { Known::Open }, None);
        }
        let (status, body) = answer?;
        assert_eq!(status, StatusCode::OK, "{body}");
        Some(())
    }

    async fn delete(&mut self, server: &Server, admin: &str) -> Option<()> {
        let answer = server.call(Method::DELETE, &self.path(), Some(admin), None).await;
        let outcome = if answer.is_some() { Known::No } else { Known::Open };
        self.end_sessions(outcome, None);
        self.deleted = if answer.is_some() { Known::Yes } else { Known::Open };
        let (status, body) = answer?;
        assert_eq!(status, StatusCode::OK, "{body}");
        Some(())
    }

    /// Changes something repeatedly until there is no answer. Adds the accounts that it creates to `made`.
    pub(crate) async fn live(
        &mut self,
        server: &Server,
        admin: &str,
        mut dice: Dice,
        acknowledged: &Acknowledged,
        made: &mut Vec<Self>,
    ) {
        loop {
            let session = self.some_session(&mut dice);
            let done = match (dice.roll(8), session) {
                (0, _) => {
                    let (mut account, answered) =
                        Self::register(server, &format!("{}-{}", self.id, dice.roll(u64::MAX))).await;
                    let deleted =
                        if answered && dice.roll(3) == 0 { account.delete(server, admin).await } else { Some(()) };
                    made.push(account);
                    if answered { deleted } else { None }
                }
                (1, Some(token)) => self.change_password(server, &token).await,
                (2, Some(_)) => {
                    let locked = self.set_lock(server, admin, true).await;
                    // In half of the cases it stays locked until the next round.
                    if locked.is_some() && dice.roll(2) == 0 {
                        self.set_lock(server, admin, false).await
                    } else {
                        locked
                    }
                }
                (3..=5, Some(token)) => self.logout(server, token).await,
                _ if self.locked == Known::Yes => self.set_lock(server, admin, false).await,
                _ => self.login(server).await.map(drop),
            };
            if done.is_none() {
                return;
            }
            acknowledged.one();
        }
    }

    /// Compares the expected state with the actual one and resolves the unknown parts. Returns `false` if the account
    /// does not exist and need not exist.
    pub(crate) async fn check(&mut self, server: &Server, admin: &str) -> bool {
        if self.id == 0 {
            // From outside, only a login shows whether the account was created.
            let (status, body) = server.login(&self.email, &self.passwords[0]).await.unwrap();
            if status == StatusCode::UNAUTHORIZED {
                return false;
            }
            assert_eq!(status, StatusCode::OK, "{body}");
            self.id = body["user"]["id"].as_u64().unwrap();
        }
        let (status, seen) = server.call(Method::GET, &self.path(), Some(admin), None).await.unwrap();
        match self.deleted {
            Known::Yes => assert_eq!(status, StatusCode::NOT_FOUND, "a deleted account is back: {self:?}"),
            Known::No => assert_eq!(status, StatusCode::OK, "an account is lost: {self:?}"),
            Known::Open => {}
        }
        self.check_sessions(server).await;
        if status == StatusCode::NOT_FOUND {
            return false;
        }
        self.deleted = Known::No;
        assert_eq!((&seen["id"], &seen["email"]), (&json!(self.id), &json!(self.email)));
        self.check_lock(server, admin, &seen).await;
        self.check_password(server).await;
        true
    }

    async fn check_sessions(&mut self, server: &Server) {
        for (token, alive) in &mut self.sessions {
            let seen = if server.is_live(token).await { Known::Yes } else { Known::No };
            assert!(
                *alive == Known::Open || *alive == seen,
                "a session was {alive:?} and is {seen:?} of {}",
                self.email
            );
            *alive = seen;
        }
        // Ended sessions were checked. A few are kept, because they must stay ended.
        let mut dead_ones = 0;
        self.sessions.retain(|_, alive| {
            dead_ones += u32::from(*alive == Known::No);
            *alive == Known::Yes || dead_ones <= 5
        });
    }

    async fn check_lock(&mut self, server: &Server, admin: &str, seen: &Value) {
        let locked = if seen["lock"] == true { Known::Yes } else { Known::No };
        assert!(self.locked == Known::Open || self.locked == locked, "the lock was {:?}: {seen}", self.locked);
        self.locked = locked;
        if locked == Known::Yes {
            for password in &self.passwords {
                let (status, body) = server.login(&self.email, password).await.unwrap();
                assert_eq!(status, StatusCode::UNAUTHORIZED, "locked, and yet: {body}");
            }
            self.set_lock(server, admin, false).await.unwrap();
        }
    }

    async fn check_password(&mut self, server: &Server) {
        let mut right = Vec::new();
        for password in std::mem::take(&mut self.passwords) {
            let (status, body) = server.login(&self.email, &password).await.unwrap();
            if status == StatusCode::OK {
                right.push(password);
            } else {
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
            }
        }
        assert_eq!(right.len(), 1, "no password, or two, of {}", self.email);
        self.passwords = right;
    }
}
