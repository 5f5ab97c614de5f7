//! The application under test and the people who use it.

mod actors;
mod app;
mod client;
mod documented;
pub(crate) mod leaks;
mod people;
mod raw;
mod tls;

pub(crate) use actors::until;
pub(crate) use app::{SERVICE_TOKEN, TestApp, TestAppBuilder};
pub(crate) use client::{Answer, Person, members};
pub(crate) use people::NEW_PASSWORD;
pub(crate) use raw::within;
pub(crate) use tls::{CertificateFiles, Pair, TlsClient};
