//! The signals: which ones stop the process, and which one does not.

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

/// Ignores SIGHUP, which would otherwise end the process. At SIGHUP other programs read their files again, and so does this one if it
/// has a certificate.
///
/// # Errors
/// The operating system refuses to deliver signals.
pub(crate) fn outlive_hangups() -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!(
                "SIGHUP has no effect: there is no certificate to reload, and settings are read only at the start"
            );
        }
    });
    Ok(())
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
