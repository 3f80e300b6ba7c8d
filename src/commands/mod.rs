//! What each subcommand does; `main.rs` only chooses.

pub mod dev;
mod dev_schemas;
pub mod generate;
pub mod node;
mod progress;
pub mod publish;
pub mod reload;
mod remote;
pub mod signer;
pub mod verify_export;
pub mod verify_record;

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

/// An error with its causes, outermost first. A cause whose words the error before it quotes already is left out.
pub fn told_once(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

/// How often progress is looked at.
const PROGRESS_PERIOD: Duration = Duration::from_millis(100);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use anyhow::Context;
    use cdr_bus::BusError;

    #[test]
    fn a_cause_that_is_quoted_is_told_once() {
        let source = std::io::Error::from_raw_os_error(2);
        let path = "/nowhere/stream".into();
        let quoting: Result<(), _> = Err(BusError::File { operation: "open", path, source });
        let told = told_once(&quoting.context("the bus can't be opened").unwrap_err());
        assert_eq!(
            told,
            "the bus can't be opened: cannot open /nowhere/stream: No such file or directory (os error 2)"
        );
        let plain: Result<(), _> = Err(std::io::Error::from_raw_os_error(2));
        let told = told_once(&plain.context("cdr.toml").unwrap_err());
        assert_eq!(told, "cdr.toml: No such file or directory (os error 2)");
    }
}
