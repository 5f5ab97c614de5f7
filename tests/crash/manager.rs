//! What the service manager is told, over a socket like that of systemd.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use reqwest::Method;
use tempfile::TempDir;

use crate::server::{PATIENCE, Server, doorward};

/// The side of the service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn on(address: &SocketAddr) -> Self {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// The next message that has a line which begins like this, with those before it left out.
    fn told(&self, line: &str) -> String {
        let mut bytes = [0; 4096];
        loop {
            let length = self.0.recv(&mut bytes).unwrap();
            let message = String::from_utf8(bytes[..length].to_vec()).unwrap();
            if message.lines().any(|told| told.starts_with(line)) {
                return message;
            }
        }
    }
}

#[tokio::test]
async fn the_service_manager_is_told_of_readiness_and_of_the_stop_and_its_watchdog_is_fed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let manager = Manager::on(&SocketAddr::from_pathname(&path).unwrap());
    let mut command = doorward(&directory.path().join("data"));
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "20000");
    let server = Server::start_with(command);
    assert_eq!(manager.told("READY=1"), "READY=1\nSTATUS=Serving requests");
    let (status, _) = server.call(Method::GET, "/health/ready", None, None).await.unwrap();
    assert_eq!(status, 200);
    assert_eq!(manager.told("WATCHDOG=1"), "WATCHDOG=1");
    assert_eq!(manager.told("WATCHDOG=1"), "WATCHDOG=1");
    server.terminate();
    assert!(manager.told("STOPPING=1").contains("\nSTATUS=Stopping"));
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn the_service_manager_may_listen_in_the_abstract_namespace_and_need_no_watchdog() {
    let directory = TempDir::new().unwrap();
    // The path is unique, and no other process listens under it.
    let name = directory.path().to_str().unwrap();
    let manager = Manager::on(&SocketAddr::from_abstract_name(name).unwrap());
    let mut command = doorward(&directory.path().join("data"));
    // The watchdog is that of another process.
    command.env("NOTIFY_SOCKET", format!("@{name}")).env("WATCHDOG_USEC", "20000").env("WATCHDOG_PID", "1");
    let server = Server::start_with(command);
    manager.told("READY=1");
    server.terminate();
    let mut bytes = [0; 64];
    let length = manager.0.recv(&mut bytes).unwrap();
    assert!(bytes[..length].starts_with(b"STOPPING=1"), "nothing fed a watchdog that is not ours");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn a_service_manager_that_is_away_is_no_reason_not_to_serve() {
    let directory = TempDir::new().unwrap();
    let mut command = doorward(&directory.path().join("data"));
    command.env("NOTIFY_SOCKET", directory.path().join("nobody")).env("WATCHDOG_USEC", "20000");
    let server = Server::start_with(command);
    server.says("NOTIFY_SOCKET").await;
    let (status, _) = server.call(Method::GET, "/health/ready", None, None).await.unwrap();
    assert_eq!(status, 200);
}
