//! Tells the service manager how the process is doing, in the protocol of systemd (`sd_notify(3)`). Without `NOTIFY_SOCKET` in the
//! environment it does nothing.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use doorward_actors::HealthHandle;

/// The variable that names the socket. A name that begins with `@` is in the abstract namespace of Linux.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// The variable with the time after which the manager restarts a silent service, in microseconds.
const WATCHDOG_VARIABLE: &str = "WATCHDOG_USEC";
/// The variable with the process that has to feed the watchdog.
const WATCHDOG_PID_VARIABLE: &str = "WATCHDOG_PID";
/// How soon a watchdog that was not fed is looked at again. Actors are looked at once a second.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The service manager of this process.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceManager {
    socket: Option<Arc<UnixDatagram>>,
    /// How often the watchdog is fed: twice in its time.
    feed_every: Option<Duration>,
}

impl ServiceManager {
    /// Finds the service manager by the environment. A socket that cannot be used is logged: the service works without it.
    pub(crate) fn of_process() -> Self {
        let Some(name) = std::env::var_os(SOCKET_VARIABLE).filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        match connect(&name) {
            Ok(socket) => {
                let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
                let ours = number(WATCHDOG_PID_VARIABLE).is_none_or(|pid| pid == u64::from(std::process::id()));
                let period = number(WATCHDOG_VARIABLE).filter(|usec| ours && *usec > 0).map(Duration::from_micros);
                Self { socket: Some(Arc::new(socket)), feed_every: period.map(|period| period / 2) }
            }
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be told anything: {SOCKET_VARIABLE} is not usable");
                Self::default()
            }
        }
    }

    /// Says that requests are served.
    pub(crate) fn ready(&self) {
        self.tell("READY=1\nSTATUS=Serving requests");
    }

    /// Says that the settings are read again. [`ServiceManager::ready`] ends that.
    pub(crate) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS=Reading the settings again"));
    }

    /// Says that the process stops.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=Stopping: requests in flight are finished");
    }

    /// Feeds the watchdog until the process ends, whatever readiness says, but only while every actor makes progress.
    /// Does nothing if the service manager has no watchdog for this process.
    pub(crate) fn keep_fed(&self, health: HealthHandle) {
        let Some(period) = self.feed_every else { return };
        let manager = self.clone();
        tokio::spawn(async move {
            let mut hungry = false;
            loop {
                let stuck = health.stuck_actors();
                if stuck.is_empty() {
                    manager.tell(if hungry { "WATCHDOG=1\nSTATUS=Serving requests" } else { "WATCHDOG=1" });
                } else {
                    let names = stuck.join(", ");
                    if !hungry {
                        tracing::error!(actors = names, "the watchdog is not fed while an actor is stuck");
                    }
                    // Each time, because a reload replaces the status.
                    manager.tell(&format!("STATUS=Not feeding the watchdog: stuck: {names}"));
                }
                hungry = !stuck.is_empty();
                tokio::time::sleep(if hungry { period.min(LOOK_AGAIN) } else { period }).await;
            }
        });
    }

    /// A lost message is no failure of the service: the manager decides what follows from silence.
    fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(state.as_bytes())
        {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

/// Connects to the socket of this name. Sending never blocks: a manager that does not read must not stop the service.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Says that the process is ready when it is created, and that it stops when it is dropped, whatever made it stop.
pub(crate) struct Serving(ServiceManager);

impl Serving {
    pub(crate) fn begin(manager: ServiceManager) -> Self {
        manager.ready();
        Self(manager)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.stopping();
    }
}
