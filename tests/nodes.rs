//! Tests of two actor systems over one store: what one of them acknowledged holds at the next answer of the other.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test helper fails its test by panicking")]

#[path = "nodes/backups.rs"]
mod backups;
#[path = "nodes/checks.rs"]
mod checks;
#[path = "nodes/node.rs"]
mod node;
