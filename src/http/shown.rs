//! Objects of answers that more than one family shows.

pub(in crate::http) mod event;
pub(in crate::http) mod mail;
pub(in crate::http) mod session;
