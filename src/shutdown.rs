//! When to stop: at a signal.

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
            std::process::exit(TOLD_TWICE);
        });
    })
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
