//! Backups: one file with all rows of a store at one point, and the generated secrets and keys if wanted.
//!
//! - `format`: the bytes of the file.
//! - `writer` and `reader`: the file as a stream. They know no engine.
//! - `check`: reads a whole file and checks everything in it.
//! - `create`: writes a file from an export of a store.
//! - `source`: a store with the secrets beside it, offline or in a running server.
//! - `live`: the backups of a running server, however they are asked for.
//! - `shelf`: the backups that a server makes on a schedule.
//! - `restore`: fills an empty data directory from a file.

pub mod check;
pub(crate) mod create;
pub mod format;
pub(crate) mod live;
pub mod reader;
pub(crate) mod restore;
pub(crate) mod shelf;
pub(crate) mod source;
pub mod writer;
