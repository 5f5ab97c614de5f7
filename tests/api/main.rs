//! End-to-end tests. Each starts the whole application on its own port and data directory.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of a test may panic like the test itself"
)]

mod access_matrix;
mod accounts_management;
mod admin_proof;
mod attempts;
mod audit;
mod audit_export;
mod audit_fairness;
mod audit_records;
mod audit_stream;
mod backup;
mod claims;
mod client_address;
mod clients;
mod cors;
mod docs;
mod edge;
mod fair_mail;
mod forward_auth;
mod guessing;
mod health;
mod http2;
mod keys;
mod late_body;
mod life_cycle;
mod limits;
mod login;
mod mail;
mod metrics;
mod my_account;
mod my_account_export;
mod oauth2;
mod overload;
mod passwords;
mod races;
mod raw_sockets;
mod recovery;
mod refresh;
mod register;
mod revocations;
mod root_and_docs;
mod schedule;
mod service_tokens;
mod sessions;
mod supervision;
mod support;
mod tls;
mod token_faults;
mod top;
mod undo;
mod upgrade;
mod upgrade_in_use;
mod used_links;
mod verify;
mod watching;
