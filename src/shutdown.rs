//! When to stop: at a signal. And when not to.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code of a process that was told twice to stop.
const TOLD_TWICE: i32 = 130;

/// Resolves at the first SIGTERM or SIGINT. From then on another one ends the process at once: whoever asks twice does not
/// want to wait, and all that was acknowledged is on the disk.
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
            tracing::warn!("told to stop again: stopping at once");
            crate::telemetry::flush();
            std::process::exit(TOLD_TWICE);
        });
    })
}

/// Goes on at SIGHUP, which would end the process: it is what asks other programs, and this one where it has a certificate, to
/// look at their files again.
///
/// # Errors
/// The operating system refuses to deliver signals.
pub(crate) fn outlive_hangups() -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP: there is no certificate to look at; settings are read at a start alone");
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
