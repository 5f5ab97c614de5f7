//! The built program, killed and stopped at critical moments.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test may panic like the test itself")]

mod keys;
mod kills;
mod log;
mod mail;
mod manager;
mod model;
mod operators;
mod power;
mod reloads;
mod server;
mod side;
mod starts;
