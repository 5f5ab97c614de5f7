//! Reads a whole backup and checks everything in it, with bounded memory.

use std::io::Read;

use doorward_actors::store::engine::Row;
use doorward_actors::store::integrity::{Contents, Integrity, Violation};

use super::format::{DIGEST, End, Header};
use super::reader::{Block, Place, ReadError, Reader};

/// The maximum number of secrets and keys in a backup. A ring has at most 32 keys.
const MAX_FILES: usize = 64;
/// The maximum size of one of them, in bytes.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// Why a backup is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is damaged, or no backup.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its checksums are right, and a row cannot be.
    #[error("it was not made by doorward as it is: row {row} of {place}: {violation}")]
    Row {
        /// The block.
        place: Place,
        /// The number of the row in its block, from 1 on.
        row: usize,
        /// What is wrong.
        violation: Violation,
    },
    /// Its checksums are right, and its rows do not fit each other.
    #[error("it was not made by doorward as it is: {0}")]
    Rows(Violation),
    /// Its end says something else than what is in it.
    #[error("it was not made by doorward as it is: {place}: {what}")]
    Misfit {
        /// The block.
        place: Place,
        /// What does not fit.
        what: &'static str,
    },
    /// Nobody can administer its accounts.
    #[error(
        "none of its accounts is an administrator who is not locked, though there was one; \
         if the source was like that, say --without-administrator and then use `doorward admin create`"
    )]
    NoAdministrator,
}

/// Takes what a backup contains, in its order.
pub trait Sink {
    /// Why it cannot take more.
    type Error;

    /// Takes a file of the data directory.
    fn file(&mut self, name: &str, content: &[u8]) -> Result<(), Self::Error>;

    /// Takes rows. They were checked as far as they can be checked alone.
    fn rows(&mut self, rows: &[Row]) -> Result<(), Self::Error>;
}

/// A sink that takes everything and keeps nothing.
#[derive(Debug, Default)]
pub struct Nowhere;

impl Sink for Nowhere {
    type Error = std::convert::Infallible;

    fn file(&mut self, _: &str, _: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }

    fn rows(&mut self, _: &[Row]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Why a backup was not passed on as a whole.
#[derive(Debug, thiserror::Error)]
pub enum PassError<E> {
    /// The backup is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The sink failed.
    #[error("{0}")]
    Sink(E),
}

/// What a good backup contains.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Its header.
    pub header: Header,
    /// Its rows.
    pub contents: Contents,
    /// The number of files of the data directory.
    pub files: usize,
    /// The digest of the whole file.
    pub digest: [u8; DIGEST],
}

/// Checks a backup and passes its content on. Only a return of `Ok` says that it is good, so the sink must be able to forget what it took.
///
/// The salt is random, so that nobody can choose rows that deceive the check.
pub fn pass<S: Sink>(input: impl Read, salt: [u8; 32], sink: &mut S) -> Result<Checked, PassError<S::Error>> {
    let mut reader = Reader::open(input).map_err(Refusal::from)?;
    let mut integrity = Integrity::new(salt);
    let (mut files, mut rows_began) = (0, false);
    let mut names = Vec::new();
    loop {
        match reader.next_block().map_err(Refusal::from)? {
            Block::File(name, content) => {
                let place = reader.place();
                if rows_began {
                    return Err(Refusal::Misfit { place, what: "a file comes after rows" }.into());
                }
                if !reader.header().with_secrets {
                    return Err(Refusal::Misfit {
                        place,
                        what: "there is a secret, and the header says there is none",
                    }
                    .into());
                }
                if files == MAX_FILES || content.len() > MAX_FILE_BYTES || names.contains(&name) {
                    return Err(
                        Refusal::Misfit { place, what: "there are too many, too large or repeated secrets" }.into()
                    );
                }
                files += 1;
                names.push(name.clone());
                sink.file(&name, &content).map_err(PassError::Sink)?;
            }
            Block::Rows(rows) => {
                rows_began = true;
                for (row, (key, value)) in (1..).zip(&rows) {
                    let place = reader.place();
                    let checked = integrity.row(key, value);
                    checked.map_err(|violation| Refusal::Row { place, row, violation })?;
                }
                sink.rows(&rows).map_err(PassError::Sink)?;
            }
            Block::End(end) => {
                let contents = integrity.finish().map_err(Refusal::Rows)?;
                if end != End::new(contents.rows, contents.commits, contents.audit_head) {
                    let what = "the counts or the audit head differ from what the file contains";
                    return Err(Refusal::Misfit { place: reader.place(), what }.into());
                }
                return Ok(Checked { header: reader.header().clone(), contents, files, digest: reader.digest() });
            }
        }
    }
}
