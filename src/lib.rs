//! Doorward, a self-hosted authentication and user-management service.

pub mod cli;
pub mod run;
pub mod settings;
#[doc(hidden)]
pub mod store;
pub mod telemetry;
