//! Doorward, a self-hosted authentication and user-management service.
//!
//! The library is what the program and its tests are made of; it promises no stable interface. The promises are in
//! `docs/api.md` and `docs/settings.md`.

pub mod cli;
mod http;
mod run;
pub mod settings;
#[doc(hidden)]
pub mod store;
mod telemetry;

#[doc(hidden)]
pub use http::{Access, Class, Documented, RouteInfo, route_table};
