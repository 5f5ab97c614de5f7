//! The control socket of a running server: commands of the operator that need what the server has open.
//!
//! The socket is in `DATA_DIR/control`, which only the server's user may enter, and takes that user and the superuser. A request is one
//! line of JSON. The answer is one line of JSON. What the command gives follows it in pieces, each after its length in four bytes,
//! big-endian. A length of zero ends them, and a line like the first one says whether they are all.

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use doorward_actors::ports::Clock;
use doorward_actors::store::Engine;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::backup::create::Destination;
use crate::backup::live::{BUSY, Backups, in_background};
use crate::files;
use crate::import;

/// The directory in the data directory, and the socket in it.
const DIRECTORY: &str = "control";
const SOCKET: &str = "socket";
/// How many commands run at a time. Each of them may read the whole store.
const MOST_COMMANDS: usize = 2;
/// How long a client may take to send its request, or to take what it asked for from the socket.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a server may send nothing. Its own patience with a slow store ends before.
const SERVER_PATIENCE: Duration = Duration::from_mins(1);
/// The maximum length of a piece, in bytes.
const MAX_PIECE: usize = 16 * 1024 * 1024;
/// The maximum length of a request or of the first line of an answer, in bytes.
const MAX_LINE: u64 = 4096;

/// A command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Make a backup. It follows the answer, as it is in a file.
    Backup {
        /// Whether it contains the generated secrets and the keys.
        with_secrets: bool,
    },
    /// Import accounts. A conversation follows, see `import::wire`.
    Import {
        /// Whether to write nothing.
        dry_run: bool,
    },
}

/// The first line of an answer.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    /// Why there is no more than this line.
    error: Option<String>,
}

/// What commands act on.
pub(crate) struct Commands {
    pub(crate) backups: Arc<Backups>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The listening socket. Its file is removed when this is dropped.
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Control {
    fn drop(&mut self) {
        // A file that stays is replaced at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

impl Control {
    /// Opens the socket of a data directory, whose lock this process holds. So a socket that is there was left by a crash.
    ///
    /// Returns `None`, with a warning, where the file system can hold no socket: the server works without it.
    pub(crate) fn listen(data_dir: &Path) -> Option<Self> {
        match Self::open(data_dir) {
            Ok(control) => Some(control),
            Err(error) => {
                let path = path_in(data_dir);
                tracing::warn!(%error, path = %path.display(), "there is no control socket, so `doorward backup` and `doorward import` need a stopped server");
                None
            }
        }
    }

    fn open(data_dir: &Path) -> io::Result<Self> {
        let path = path_in(data_dir);
        files::create_private_dir(&data_dir.join(DIRECTORY))?;
        fs::set_permissions(data_dir.join(DIRECTORY), Permissions::from_mode(0o700))?;
        files::remove_if_there(&path)?;
        let listener = UnixListener::bind(&path)?;
        let control = Self { listener, path };
        fs::set_permissions(&control.path, Permissions::from_mode(0o600))?;
        Ok(control)
    }

    /// Runs commands. Does not end by itself.
    pub(crate) async fn serve(self, commands: Commands) {
        let (commands, room) = (Arc::new(commands), Arc::new(Semaphore::new(MOST_COMMANDS)));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the control socket took no connection");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let commands = Arc::clone(&commands);
            let runtime = tokio::runtime::Handle::current();
            // Each command has a thread, because it writes at the pace of its client. It has a lower priority than requests.
            let spawned = in_background("control", move || {
                let _place = place;
                if let Err(error) = commands.run(stream, &runtime) {
                    tracing::warn!(%error, "a command at the control socket failed");
                }
            });
            if let Err(error) = spawned {
                tracing::warn!(%error, "no thread for a command at the control socket");
            }
        }
    }
}

impl Commands {
    /// Runs the command of a connection.
    fn run(&self, stream: UnixStream, runtime: &tokio::runtime::Handle) -> io::Result<()> {
        let user = stream.peer_cred()?.uid();
        if !may_command(user, geteuid().as_raw()) {
            tracing::warn!(user, "a command of another user was refused at the control socket");
            return Ok(());
        }
        let mut stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // A client sends no more than its request.
        let line = line_of(&mut BufReader::new(&mut stream))?;
        let request = match serde_json::from_slice(&line) {
            Ok(request) => request,
            Err(error) => return answer(&mut stream, Some(format!("this server does not know the command: {error}"))),
        };
        match request {
            Request::Backup { with_secrets } => self.backup(&mut stream, with_secrets, runtime),
            Request::Import { dry_run } => {
                answer(&mut stream, None)?;
                let rows = (Arc::clone(&self.engine), Arc::clone(&self.clock));
                import::serve(&stream, rows, dry_run, runtime)
            }
        }
    }

    fn backup(
        &self,
        stream: &mut BlockingStream,
        with_secrets: bool,
        runtime: &tokio::runtime::Handle,
    ) -> io::Result<()> {
        let Some(_place) = self.backups.place() else { return answer(stream, Some(BUSY.to_owned())) };
        let begun = match runtime.block_on(self.backups.begin(with_secrets)) {
            Ok(begun) => begun,
            Err(error) => return answer(stream, Some(error.to_string())),
        };
        answer(stream, None)?;
        let written = runtime.block_on(self.backups.write(begun, &mut Pieces(&mut *stream)));
        let failure = written.as_ref().err().map(ToString::to_string);
        stream.write_all(&[0; 4])?;
        answer(stream, failure)?;
        written.map(drop).map_err(io::Error::other)
    }
}

/// What a command gives, in pieces.
struct Pieces<'a>(&'a mut BlockingStream);

impl Destination for &mut Pieces<'_> {
    async fn take(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        for piece in bytes.chunks(MAX_PIECE) {
            let length = u32::try_from(piece.len()).map_err(io::Error::other)?;
            self.0.write_all(&length.to_be_bytes())?;
            self.0.write_all(piece)?;
        }
        Ok(())
    }
}

/// Returns whether a user may command the server: the server's own user, who could do it all anyway, and the superuser.
fn may_command(user: u32, own: u32) -> bool {
    user == own || user == 0
}

fn answer(stream: &mut BlockingStream, error: Option<String>) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Answer { error })?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn line_of(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    stream.take(MAX_LINE).read_until(b'\n', &mut line)?;
    Ok(line)
}

fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join(DIRECTORY).join(SOCKET)
}

/// Why a server could not be commanded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// It cannot be reached.
    #[error("a server uses the data directory, and its control socket {} cannot be used: {source}", .path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Somebody else answers.
    #[error("the control socket {} belongs to a process of user {user}, and the data directory to user {owner}", .path.display())]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// The user of the process that answers.
        user: u32,
        /// The owner of the data directory.
        owner: u32,
    },
    /// It refused.
    #[error("the server did not do it: {0}")]
    Refused(String),
}

/// What a command gives, as its client reads it.
pub(crate) struct Given {
    stream: BufReader<BlockingStream>,
    /// How much of the present piece is to come.
    left: usize,
    /// `None` until the end.
    end: Option<Answer>,
}

impl Given {
    /// Returns why the server gave up, if it said so.
    pub(crate) fn failure(&self) -> Option<String> {
        self.end.as_ref().and_then(|answer| answer.error.clone())
    }
}

impl Read for Given {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.end.is_none() && self.left == 0 {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length).map_err(told)?;
            self.left = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
            if self.left == 0 {
                self.end = Some(serde_json::from_slice(&line_of(&mut self.stream).map_err(told)?)?);
            }
        }
        match &self.end {
            Some(Answer { error: None }) => Ok(0),
            Some(Answer { error: Some(why) }) => Err(io::Error::other(why.clone())),
            None => {
                let wanted = buffer.len().min(self.left);
                let read = self.stream.read(&mut buffer[..wanted]).map_err(told)?;
                self.left -= read;
                if read == 0 && wanted > 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(read) }
            }
        }
    }
}

/// Says what a read that took too long means. The system calls it a temporary lack of resources.
fn told(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, "the server sends nothing")
        }
        _ => error,
    }
}

/// Sends a command to the server of a data directory. Returns what it gives.
pub(crate) async fn command(data_dir: &Path, request: &Request) -> Result<Given, CommandError> {
    command_within(data_dir, request, SERVER_PATIENCE).await
}

/// Begins an import through the server of a data directory. Returns the connection for the conversation.
pub(crate) async fn import(data_dir: &Path, dry_run: bool) -> Result<BufReader<BlockingStream>, CommandError> {
    let given = command_within(data_dir, &Request::Import { dry_run }, SERVER_PATIENCE).await?;
    Ok(given.stream)
}

async fn command_within(data_dir: &Path, request: &Request, patience: Duration) -> Result<Given, CommandError> {
    let path = path_in(data_dir);
    let unreachable = |source| CommandError::Unreachable { path: path.clone(), source };
    let stream = UnixStream::connect(&path).await.map_err(unreachable)?;
    let user = stream.peer_cred().map_err(unreachable)?.uid();
    let owner = fs::metadata(data_dir).map_err(unreachable)?.uid();
    if !may_command(user, owner) {
        return Err(CommandError::Foreign { path, user, owner });
    }
    let sent = || {
        let mut stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut stream = BufReader::new(stream);
        let answer: Answer = serde_json::from_slice(&line_of(&mut stream)?)?;
        Ok((stream, answer))
    };
    let (stream, answer) = sent().map_err(|error| unreachable(told(error)))?;
    match answer.error {
        Some(error) => Err(CommandError::Refused(error)),
        None => Ok(Given { stream, left: 0, end: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_user_and_the_superuser_may_command_and_nobody_else() {
        assert!(may_command(10001, 10001) && may_command(0, 10001));
        assert!(!may_command(10001, 0) && !may_command(1000, 10001));
    }

    #[tokio::test]
    async fn a_socket_that_a_crash_left_is_replaced_and_others_cannot_use_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = Control::listen(dir.path()).unwrap();
        let path = first.path.clone();
        std::mem::forget(first);
        let second = Control::listen(dir.path()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&dir.path().join(DIRECTORY))), (0o600, 0o700));
        drop(second);
        assert!(!path.exists());
        // A path that is too long for a socket.
        let long = dir.path().join("x".repeat(120));
        fs::create_dir(&long).unwrap();
        assert!(Control::listen(&long).is_none());
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_not_waited_for_forever() {
        let dir = tempfile::tempdir().unwrap();
        let control = Control::listen(dir.path()).unwrap();
        let (request, patience) = (Request::Backup { with_secrets: false }, Duration::from_millis(20));
        // Nobody takes the connection from the listener.
        let refused = command_within(dir.path(), &request, patience).await.err().unwrap().to_string();
        assert!(refused.ends_with("the server sends nothing"), "{refused}");
        drop(control);
    }

    #[test]
    fn what_is_given_ends_with_all_of_it_or_with_the_reason() {
        let given = |bytes: &[u8]| {
            let (mut server, client) = BlockingStream::pair().unwrap();
            server.write_all(bytes).unwrap();
            drop(server);
            let mut given = Given { stream: BufReader::new(client), left: 0, end: None };
            let mut read = Vec::new();
            let ended = given.read_to_end(&mut read).is_ok();
            (read, ended, given.failure())
        };
        let whole = [&[0, 0, 0, 2][..], b"ab", &[0, 0, 0, 1], b"c", &[0; 4], b"{\"error\":null}\n"].concat();
        assert_eq!(given(&whole), (b"abc".to_vec(), true, None));
        let broken = [&[0, 0, 0, 2][..], b"ab", &[0; 4], b"{\"error\":\"why\"}\n"].concat();
        assert_eq!(given(&broken), (b"ab".to_vec(), false, Some("why".to_owned())));
        assert_eq!(given(&whole[..9]), (b"ab".to_vec(), false, None));
        assert_eq!(given(&whole[..15]), (b"abc".to_vec(), false, None));
    }
}
