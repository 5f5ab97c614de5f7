//! What is in a data directory beside the database: secrets, signing keys, and who may read them.

pub mod key_files;
pub(crate) mod permissions;
pub mod secrets;
