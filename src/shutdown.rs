//! The signals: which ones stop the process, and which one reloads the settings.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code after a second request to stop.
const TOLD_TWICE: i32 = 130;

/// Resolves at the first SIGTERM or SIGINT. A second one ends the process at once: its sender does not want to wait, and all
/// acknowledged changes are already on disk.
///
/// # Errors
/// The operating system refuses to deliver signals.
pub(crate) fn requested() -> std::io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        tracing::info!("stopping: no new connections; requests in flight are finished");
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            tracing::warn!("received a second stop signal: stopping at once");
            crate::telemetry::flush();
            std::process::exit(TOLD_TWICE);
        });
    })
}

/// Returns SIGHUP, which from now on does not end the process but asks for a reload.
///
/// # Errors
/// The operating system refuses to deliver signals.
pub(crate) fn hangups() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
