//! Doorward, a self-hosted authentication and user-management service.

pub mod cli;
pub mod run;
pub mod settings;
pub mod telemetry;
