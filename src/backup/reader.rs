//! Reads a backup block by block, each only if its digest is right.

use std::io::{self, Read};

use doorward_actors::store::engine::Row;
use zeroize::Zeroizing;
use zstd::bulk::Decompressor;

use super::format::{
    BLOCK_HEAD, DIGEST, End, Header, Kind, MAGIC, MAX_BLOCK, MAX_HEADER, VERSION, digest_of, is_known_file, sha256,
};

/// Why a file cannot be read as a backup.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The file is something else.
    #[error("it is not a backup of doorward")]
    Foreign,
    /// A newer version of this program made it.
    #[error(
        "it was made by a newer version of doorward (format {0}, this one knows up to {VERSION}); use that version"
    )]
    Newer(u32),
    /// The file was changed or cut off.
    #[error("it is damaged: {place}: {why}")]
    Damaged {
        /// Where.
        place: Place,
        /// What is wrong there.
        why: &'static str,
    },
}

/// A place in a file: the number of the block, from 1 on, with 0 for the head of the file; and where the block begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of the block.
    pub block: u64,
    /// The offset of its first byte in the file.
    pub offset: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.block {
            0 => write!(f, "the head of the file"),
            block => write!(f, "block {block} at byte {}", self.offset),
        }
    }
}

/// The content of a block.
pub enum Block {
    /// A file of the data directory.
    File(String, Zeroizing<Vec<u8>>),
    /// Rows.
    Rows(Vec<Row>),
    /// The end: nothing follows it.
    End(End),
}

/// A backup that is being read.
pub struct Reader<R> {
    input: R,
    decompressor: Decompressor<'static>,
    place: Place,
    /// The offset of the next byte.
    offset: u64,
    digest: [u8; DIGEST],
    header: Header,
}

impl<R: Read> Reader<R> {
    /// Reads the head of a backup.
    pub fn open(mut input: R) -> Result<Self, ReadError> {
        let place = Place { block: 0, offset: 0 };
        let mut magic = [0; MAGIC.len()];
        match input.read_exact(&mut magic) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ReadError::Foreign),
            other => other?,
        }
        if magic != MAGIC {
            return Err(ReadError::Foreign);
        }
        let mut numbers = [0; 8];
        fill(&mut input, &mut numbers, place)?;
        let (version, length) = (u32::try_from(number(&numbers[..4])).unwrap_or(u32::MAX), number(&numbers[4..]));
        match version {
            VERSION => {}
            0 => return Err(damaged(place, "its version is zero")),
            newer => return Err(ReadError::Newer(newer)),
        }
        if length > MAX_HEADER {
            return Err(damaged(place, "it is too long"));
        }
        let mut header = vec![0; length];
        fill(&mut input, &mut header, place)?;
        let mut digest = [0; DIGEST];
        fill(&mut input, &mut digest, place)?;
        if sha256(&[&magic, &numbers, &header]) != digest {
            return Err(damaged(place, "its checksum is wrong"));
        }
        let header = serde_json::from_slice(&header).map_err(|_| damaged(place, "its header cannot be read"))?;
        let offset = (magic.len() + numbers.len() + length + DIGEST) as u64;
        let place = Place { block: 0, offset };
        Ok(Self { input, decompressor: Decompressor::new()?, place, offset, digest, header })
    }

    /// Returns the header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the place of the block that was read last.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// Returns the digest of everything that was read so far. After the end, that of the whole file.
    #[must_use]
    pub fn digest(&self) -> [u8; DIGEST] {
        self.digest
    }

    /// Reads the next block.
    ///
    /// # Errors
    /// Also if a block is missing, or if anything follows the end.
    pub fn next_block(&mut self) -> Result<Block, ReadError> {
        self.place = Place { block: self.place.block + 1, offset: self.offset };
        let place = self.place;
        let mut head = [0; BLOCK_HEAD];
        fill(&mut self.input, &mut head, place)?;
        let kind = Kind::from_number(head[0]).ok_or_else(|| damaged(place, "it is of no known kind"))?;
        let (stored, plain) = (number(&head[1..5]), number(&head[5..]));
        if stored.max(plain) > MAX_BLOCK {
            return Err(damaged(place, "it is too long"));
        }
        let mut content = vec![0; stored];
        fill(&mut self.input, &mut content, place)?;
        let mut digest = [0; DIGEST];
        fill(&mut self.input, &mut digest, place)?;
        self.digest = digest_of(&self.digest, &head, &content);
        if self.digest != digest {
            return Err(damaged(place, "its checksum is wrong"));
        }
        self.offset += (BLOCK_HEAD + stored + DIGEST) as u64;
        let content = Zeroizing::new(
            self.decompressor.decompress(&content, plain).map_err(|_| damaged(place, "it cannot be decompressed"))?,
        );
        if content.len() != plain {
            return Err(damaged(place, "it has another length than it says"));
        }
        let wrong = || damaged(place, "its content is not of its kind");
        match kind {
            Kind::File => file(&content).ok_or_else(wrong),
            Kind::Rows => rows(&content).map(Block::Rows).ok_or_else(wrong),
            Kind::End => {
                let end = serde_json::from_slice(&content).map_err(|_| wrong())?;
                match self.input.read(&mut [0])? {
                    0 => Ok(Block::End(end)),
                    _ => Err(damaged(place, "bytes follow the end")),
                }
            }
        }
    }
}

fn file(content: &[u8]) -> Option<Block> {
    let (length, rest) = content.split_first_chunk()?;
    let (name, content) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    let name = std::str::from_utf8(name).ok().filter(|name| is_known_file(name))?;
    Some(Block::File(name.to_owned(), Zeroizing::new(content.to_owned())))
}

fn rows(mut content: &[u8]) -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    while !content.is_empty() {
        let (key, rest) = content.split_first_chunk()?;
        let (value, rest) = rest.split_first_chunk::<4>()?;
        let (key, rest) = rest.split_at_checked(u16::from_be_bytes(*key).into())?;
        let (value, rest) = rest.split_at_checked(number(value))?;
        rows.push((key.to_owned(), value.to_owned()));
        content = rest;
    }
    Some(rows)
}

/// Reads a big-endian number of four bytes.
fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn damaged(place: Place, why: &'static str) -> ReadError {
    ReadError::Damaged { place, why }
}

fn fill(input: &mut impl Read, buffer: &mut [u8], place: Place) -> Result<(), ReadError> {
    input.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(place, "the file ends in it"),
        _ => error.into(),
    })
}
