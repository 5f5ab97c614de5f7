//! Doorward, a self-hosted authentication and user-management service.

#[doc(hidden)]
pub mod store;
