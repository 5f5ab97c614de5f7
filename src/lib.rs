//! Doorward, a self-hosted authentication and user-management service.

mod http;

#[doc(hidden)]
pub use http::{Access, Class, Documented, RouteInfo, route_table};
