//! Seals every hour the moment it ends, empty hours included (US-CDR-003).
//!
//! The first proposal past an hour's end seals it anyway; this timer sees to hours in which nothing comes.

use crate::proposer::{ProposalError, Proposer};
use cdr_core::Hour;
use cdr_core::command::{Command, Reply};
use std::time::Duration;

/// A replay clock jumps: look at it this often at least.
const LONGEST_SLEEP: Duration = Duration::from_millis(200);

/// Pause after a refusal, which only a person can mend.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// Proposes a seal whenever the open hour is over.
///
/// # Errors
/// [`ProposalError`]; the caller tries again.
pub async fn run(proposer: &Proposer) -> Result<(), ProposalError> {
    let mut told = proposer.state().head.open_hour;
    loop {
        let open = proposer.state().head.open_hour;
        if let Some((from, to)) = closed(told, open) {
            tracing::info!(%from, %to, hours = to.0 - from.0 + 1, "hours sealed");
        }
        told = open;
        let end = open.end();
        let now = proposer.clock().now();
        // While events move the clock, they also seal: a timer would race them.
        if now >= end && !proposer.clock().follows_events() {
            match proposer.propose(Command::Seal).await? {
                Reply::Sealed { .. } => {}
                reply => {
                    tracing::error!(severity = "SEV1", ?reply, "the log refuses to seal");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
            continue;
        }
        let left = Duration::from_millis((end.0 - now.0).max(1) as u64);
        tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
    }
}

/// First and last hour that were sealed since `before` was the open one, whoever's proposal sealed them.
fn closed(before: Hour, open: Hour) -> Option<(Hour, Hour)> {
    (before < open).then(|| (before, Hour(open.0 - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hours_that_were_sealed_are_named() {
        assert_eq!(closed(Hour(5), Hour(5)), None);
        assert_eq!(closed(Hour(5), Hour(6)), Some((Hour(5), Hour(5))));
        assert_eq!(closed(Hour(5), Hour(9)), Some((Hour(5), Hour(8))));
        assert_eq!(closed(Hour(0), Hour(0)), None);
    }
}
