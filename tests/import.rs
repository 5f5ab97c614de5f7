//! `doorward import` and what becomes of the accounts that it brings along, with the built program and real `SQLite` files.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test may panic like the test itself")]

#[path = "import/auth_service.rs"]
mod auth_service;
#[path = "import/bad_files.rs"]
mod bad_files;
#[path = "import/ndjson.rs"]
mod ndjson;
#[path = "import/old.rs"]
mod old;
#[path = "import/program.rs"]
mod program;
#[path = "import/running.rs"]
mod running;
