//! The application under test and the people who use it.

mod app;
mod client;

pub use app::{SERVICE_TOKEN, TestApp, TestAppBuilder};
pub use client::{Answer, Person};
