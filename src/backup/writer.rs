//! Writes a backup.

use std::io::{self, Write};

use doorward_actors::store::engine::Row;
use zeroize::Zeroizing;
use zstd::bulk::Compressor;

use super::format::{
    BLOCK_HEAD, DIGEST, End, FULL_BLOCK, Header, Kind, LEVEL, MAGIC, MAX_BLOCK, VERSION, digest_of, sha256,
};

/// A backup that is being written. Without [`finish`](Self::finish), no reader accepts it.
pub struct Writer<W> {
    out: W,
    compressor: Compressor<'static>,
    /// The rows of the block that is not full yet.
    rows: Vec<u8>,
    digest: [u8; DIGEST],
}

impl<W: Write> Writer<W> {
    /// Writes the head of a backup.
    pub fn begin(mut out: W, header: &Header) -> io::Result<Self> {
        let header = serde_json::to_vec(header)?;
        let mut head = MAGIC.to_vec();
        head.extend(VERSION.to_be_bytes());
        head.extend(length(header.len())?);
        head.extend(header);
        let digest = sha256(&[&head]);
        out.write_all(&head)?;
        out.write_all(&digest)?;
        Ok(Self { out, compressor: Compressor::new(LEVEL)?, rows: Vec::with_capacity(FULL_BLOCK), digest })
    }

    /// Writes a file of the data directory. Files come before all rows.
    pub fn file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut block = Zeroizing::new(Vec::with_capacity(2 + name.len() + content.len()));
        block.extend(u16::try_from(name.len()).map_err(|_| too_long())?.to_be_bytes());
        block.extend(name.as_bytes());
        block.extend(content);
        self.block(Kind::File, &block)
    }

    /// Writes rows, which come after all rows before them.
    pub fn rows(&mut self, rows: &[Row]) -> io::Result<()> {
        for (key, value) in rows {
            self.rows.extend(u16::try_from(key.len()).map_err(|_| too_long())?.to_be_bytes());
            self.rows.extend(length(value.len())?);
            self.rows.extend(key);
            self.rows.extend(value);
            if self.rows.len() >= FULL_BLOCK {
                self.write_rows()?;
            }
        }
        Ok(())
    }

    /// Writes the end. Returns the digest of the whole file.
    pub fn finish(mut self, end: &End) -> io::Result<(W, [u8; DIGEST])> {
        self.write_rows()?;
        self.block(Kind::End, &serde_json::to_vec(end)?)?;
        self.out.flush()?;
        Ok((self.out, self.digest))
    }

    /// Returns what the backup is written to.
    pub fn out(&mut self) -> &mut W {
        &mut self.out
    }

    fn write_rows(&mut self) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        let written = self.block(Kind::Rows, &rows);
        self.rows = rows;
        self.rows.clear();
        written
    }

    fn block(&mut self, kind: Kind, content: &[u8]) -> io::Result<()> {
        let stored = self.compressor.compress(content)?;
        if content.len().max(stored.len()) > MAX_BLOCK {
            return Err(too_long());
        }
        let mut head = [kind as u8; BLOCK_HEAD];
        head[1..5].copy_from_slice(&length(stored.len())?);
        head[5..].copy_from_slice(&length(content.len())?);
        self.digest = digest_of(&self.digest, &head, &stored);
        self.out.write_all(&head)?;
        self.out.write_all(&stored)?;
        self.out.write_all(&self.digest)
    }
}

fn length(bytes: usize) -> io::Result<[u8; 4]> {
    Ok(u32::try_from(bytes).map_err(|_| too_long())?.to_be_bytes())
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a row or a file is too long for a backup")
}
