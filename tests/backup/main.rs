//! Backups: made, checked and restored by the built program.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test may panic like the test itself")]

mod damage;
mod fixture;
mod http;
mod invariants;
mod live;
mod moves;
mod owner;
mod refusals;
mod round_trip;
#[expect(dead_code, reason = "the tests of kills need more of it")]
#[path = "../crash/server.rs"]
mod server;
