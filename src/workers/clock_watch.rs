//! Compares this node's clock with the other replicas': a wrong clock must not seal future hours.
//!
//! A leader whose clock is further off the median of the replicas than `cluster.max_clock_offset_ms` (at most a
//! second: ledger format 2, "Buckets and time") does not propose, and gives up leadership.

use crate::metrics::Metrics;
use crate::proposer::Proposer;
use cdr_core::command::ClockKind;
use std::time::Duration;

/// How often clocks are compared.
const PERIOD: Duration = Duration::from_millis(500);

/// True if this node's clock may stamp records. A replay clock is one for all replicas.
///
/// # Errors
/// What kept the clocks from being compared: without a majority's clocks the offset is unknown.
pub async fn is_right(proposer: &Proposer, metrics: &Metrics) -> Result<bool, String> {
    if proposer.clock().kind() == ClockKind::Replay {
        return Ok(true);
    }
    let offset_ms = proposer.node().clock_offset_ms().await.map_err(|e| e.to_string())?;
    metrics.clock_offset(offset_ms);
    if offset_ms.abs() > proposer.max_clock_offset_ms() {
        tracing::error!(
            severity = "SEV1",
            offset_ms,
            "this node's clock is off the median of the replicas: correct it"
        );
        return Ok(false);
    }
    Ok(true)
}

/// Runs until the clock is found wrong; proposing is then switched off.
pub async fn until_wrong(proposer: &Proposer, metrics: &Metrics) {
    loop {
        match is_right(proposer, metrics).await {
            Ok(true) => proposer.set_clock_is_right(true),
            Ok(false) => return proposer.set_clock_is_right(false),
            Err(error) => tracing::warn!(error, "clocks can't be compared"),
        }
        tokio::time::sleep(PERIOD).await;
    }
}
