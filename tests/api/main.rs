//! Tests through the front door: each starts the whole application on a port and a data directory of its own.

mod support;
