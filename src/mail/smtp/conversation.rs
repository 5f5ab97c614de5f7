//! One SMTP connection, command by command.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::capabilities::Capabilities;
use super::reply::{Kind, NoReply, Reader, Reply};

/// The maximum number of bytes of one read.
const PIECE: usize = 2048;

/// The transport of a conversation: a TCP connection, or TLS over one.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Why a conversation cannot continue.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server closed the connection instead of sending a reply.
    #[error("the server closed the connection")]
    Closed,
    /// The received bytes are not a reply.
    #[error("its answer does not begin with a reply code")]
    NoReply,
    /// The server sent something before it was asked. From then on, replies can no longer be matched to commands.
    #[error("it answers more than it was asked")]
    OutOfStep,
}

impl From<NoReply> for Broken {
    fn from(NoReply: NoReply) -> Self {
        Self::NoReply
    }
}

/// A connection on which commands and replies alternate.
pub(super) struct Conversation {
    stream: Box<dyn Stream>,
    /// Bytes that were read but belong to no reply yet.
    ahead: Vec<u8>,
}

impl Conversation {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    /// Reads the next reply of the server.
    pub(super) async fn reply(&mut self) -> Result<Reply, Broken> {
        let mut reader = Reader::default();
        loop {
            let (taken, reply) = reader.take(&self.ahead)?;
            self.ahead.drain(..taken);
            if let Some(reply) = reply {
                return Ok(reply);
            }
            let mut piece = [0; PIECE];
            match self.stream.read(&mut piece).await {
                // A server may close the connection right after its last reply, with or without a proper close.
                Ok(0) => return reader.close()?.ok_or(Broken::Closed),
                Err(error) => return reader.close().ok().flatten().ok_or(Broken::Io(error)),
                Ok(read) => self.ahead.extend_from_slice(piece.get(..read).unwrap_or_default()),
            }
        }
    }

    /// Sends a command line and waits for the reply.
    pub(super) async fn command(&mut self, line: &str) -> Result<Reply, Broken> {
        if !self.ahead.is_empty() {
            return Err(Broken::OutOfStep);
        }
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        self.stream.flush().await?;
        self.reply().await
    }

    /// Introduces this host by `EHLO`. Falls back to `HELO` if the server refuses the command itself and not the client (RFC 5321,
    /// sections 3.2 and 4.2.4).
    pub(super) async fn hello(&mut self, name: &str) -> Result<(Reply, Capabilities), Broken> {
        let reply = self.command(&format!("EHLO {name}")).await?;
        if matches!(reply.code, 500..=504 | 550) {
            return Ok((self.command(&format!("HELO {name}")).await?, Capabilities::default()));
        }
        let capabilities = Capabilities::of(&reply);
        Ok((reply, capabilities))
    }

    /// Sends a mail after the server's 3yz reply to `DATA`, and waits for the final reply.
    pub(super) async fn mail(&mut self, bytes: &[u8]) -> Result<Reply, Broken> {
        if !self.ahead.is_empty() {
            return Err(Broken::OutOfStep);
        }
        let sent = async {
            self.stream.write_all(&stuffed(bytes)).await?;
            self.stream.flush().await
        };
        let Err(error) = sent.await else { return self.reply().await };
        // A server that does not want the rest of the mail may say so and close.
        // Only a refusal counts, because the server has not seen the whole mail.
        match self.reply().await {
            Ok(reply) if matches!(reply.kind(), Kind::Transient | Kind::Permanent) => Ok(reply),
            _ => Err(Broken::Io(error)),
        }
    }

    /// Returns the stream for encryption. Fails if the server sent anything after its last reply: that came before TLS and must not count
    /// (RFC 3207, section 4.2).
    pub(super) fn into_stream(self) -> Result<Box<dyn Stream>, Broken> {
        if self.ahead.is_empty() { Ok(self.stream) } else { Err(Broken::OutOfStep) }
    }

    /// Sends `QUIT`. The reply does not matter.
    pub(super) async fn quit(&mut self) {
        let _ = self.command("QUIT").await;
    }
}

/// Encodes a mail for `DATA`: doubles dots at the start of lines and ends with a single dot (RFC 5321, section 4.5.2).
fn stuffed(bytes: &[u8]) -> Vec<u8> {
    let mut sent = Vec::with_capacity(bytes.len() + 64);
    let mut at_line_start = true;
    for &byte in bytes {
        if at_line_start && byte == b'.' {
            sent.push(b'.');
        }
        sent.push(byte);
        at_line_start = byte == b'\n';
    }
    if !at_line_start {
        sent.extend_from_slice(b"\r\n");
    }
    sent.extend_from_slice(b".\r\n");
    sent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_ends_a_mail_only_at_its_end() {
        for (mail, sent) in [
            ("", ".\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            (".\r\n.a\r\na.\r\n..\r\n", "..\r\n..a\r\na.\r\n...\r\n.\r\n"),
        ] {
            assert_eq!(stuffed(mail.as_bytes()), sent.as_bytes());
        }
    }
}
