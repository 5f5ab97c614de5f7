//! The HTTP front: the accept loop, what every request goes through, and the route families.

mod admission;
mod body;
mod edge;
mod error;
mod extract;
mod framing;
mod json;
mod linger;
mod request_id;
mod routes;
mod server;

pub use routes::{Access, Class, Documented, RouteInfo, route_table};
pub(crate) use server::{ServerSettings, serve};

#[cfg(test)]
mod tests;
