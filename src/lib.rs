//! Doorward, a self-hosted authentication and user-management service.
//!
//! The library exists for the program and its tests and promises no stable interface.
//! `docs/api.md` and `docs/settings.md` say what is stable.

mod ambient;
mod app;
#[doc(hidden)]
pub mod backup;
#[doc(hidden)]
pub mod breached;
pub mod cli;
mod control;
#[doc(hidden)]
pub mod data_dir;
#[doc(hidden)]
pub mod engine;
mod export;
mod files;
mod http;
mod import;
mod line_end;
#[doc(hidden)]
pub mod mail;
mod memory;
mod offline;
mod reload;
mod run;
mod service_manager;
pub mod settings;
mod shutdown;
mod telemetry;
mod terminal;

pub use app::{Ambient, App, BuildError, Ended};
#[doc(hidden)]
pub use http::{Access, Class, Documented, RouteInfo, openapi_document, route_table, serve_bare};
