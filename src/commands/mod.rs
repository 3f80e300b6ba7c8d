//! What each subcommand does; `main.rs` only chooses.

pub mod dev;
mod dev_schemas;
pub mod generate;
pub mod node;
mod progress;
pub mod publish;
pub mod reload;
pub mod signer;

use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGTERM or SIGINT.
async fn stop_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
    Ok(())
}

/// How often progress is shown.
const PROGRESS_PERIOD: Duration = Duration::from_millis(100);
