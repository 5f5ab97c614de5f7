//! Connections that carry one request after another.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::answer::Answer;

/// The time after which a missing answer counts as an error: longer than the server's own limit for any request.
const PATIENCE: Duration = Duration::from_secs(40);

fn ended() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

/// A connection for a blocking thread.
pub(crate) struct Wire {
    stream: TcpStream,
}

impl Wire {
    pub(crate) fn connect(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// Sends a request and reads the whole answer.
    pub(crate) fn send(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request)?;
        let (mut received, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let read = self.stream.read(&mut piece)?;
            received.extend_from_slice(&piece[..read]);
            match Answer::parse(&received) {
                Some((answer, _)) => return Ok(answer),
                None if read == 0 => return Err(ended()),
                None => {}
            }
        }
    }
}

/// A connection for one of many tasks.
pub(crate) struct TaskWire {
    stream: tokio::net::TcpStream,
}

impl TaskWire {
    /// Connects from this local address, or from any.
    pub(crate) async fn connect(server: SocketAddr, from: Option<IpAddr>) -> io::Result<Self> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<Answer> {
        tokio::time::timeout(PATIENCE, self.exchange(request)).await?
    }

    async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        let mut received = Vec::with_capacity(1024);
        loop {
            let read = self.stream.read_buf(&mut received).await?;
            match Answer::parse(&received) {
                Some((answer, _)) => return Ok(answer),
                None if read == 0 => return Err(ended()),
                None => {}
            }
        }
    }

    /// Sends bytes that need not be a whole request.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads until the server closes the connection.
    pub(crate) async fn ended(&mut self) {
        let mut piece = [0; 1024];
        while self.stream.read(&mut piece).await.is_ok_and(|read| read > 0) {}
    }
}
