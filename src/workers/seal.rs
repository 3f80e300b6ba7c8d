//! Seals every hour the moment it ends, empty hours included (US-CDR-003).
//!
//! The first proposal past an hour's end seals it anyway; this timer sees to hours in which nothing comes.

use crate::proposer::{ProposalError, Proposer};
use cdr_core::Hour;
use cdr_core::command::{Command, Reply};
use cdr_core::history::Mark;
use cdr_raft::ProposeError;
use std::time::{Duration, Instant};

/// A replay clock jumps: look at it this often at least.
const LONGEST_SLEEP: Duration = Duration::from_millis(200);

/// Pause after a refusal, which only a person can correct.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// Once nothing was applied for this long, the last acknowledgements get into the ledger by a command of their own.
const QUIET: Duration = Duration::from_secs(1);

/// Which command was applied last, and whether it is time for one more that carries what voters acknowledged of it. Each
/// command carries what was acknowledged of those before it, so behind the last one another command is needed; otherwise an
/// older copy of a replica that lacks only the last entries would not be noticed.
struct Acknowledgements {
    seen: Mark,
    since: Instant,
    carried: Mark,
}

impl Acknowledgements {
    fn new(applied: Mark) -> Self {
        Self { seen: applied, since: Instant::now(), carried: Mark::default() }
    }

    /// One command was applied behind `before`. If the last one now is another one still, that one is due later.
    fn carried(&mut self, before: Mark, after: Mark) {
        if after.index == before.index + 1 {
            (self.seen, self.carried) = (after, after);
        }
    }

    fn are_due(&mut self, applied: Mark) -> bool {
        if applied != self.seen {
            (self.seen, self.since) = (applied, Instant::now());
        }
        applied != self.carried && self.since.elapsed() >= QUIET
    }
}

/// Proposes a seal whenever the open hour is over, and when acknowledgements are due: it is the one command that changes
/// nothing where nothing is to be sealed.
///
/// # Errors
/// [`ProposalError`]; the caller tries again.
pub async fn run(proposer: &Proposer) -> Result<(), ProposalError> {
    let mut told = proposer.state().head.open_hour;
    let mut acknowledgements = Acknowledgements::new(proposer.state().head.applied);
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
        if acknowledgements.are_due(proposer.state().head.applied) {
            carry(proposer, &mut acknowledgements).await?;
        }
        let left = Duration::from_millis((end.0 - now.0).max(1) as u64);
        tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
    }
}

/// Proposes a command that carries acknowledgements. That a leader takes no commands is reported elsewhere.
async fn carry(proposer: &Proposer, acknowledgements: &mut Acknowledgements) -> Result<(), ProposalError> {
    let before = proposer.state().head.applied;
    match proposer.propose(Command::Seal).await {
        Ok(Reply::Sealed { .. }) => acknowledgements.carried(before, proposer.state().head.applied),
        Ok(reply) => tracing::warn!(?reply, "acknowledgements could not be recorded"),
        Err(ProposalError::Raft(ProposeError::Restricted { .. })) => {}
        Err(error) => return Err(error),
    }
    acknowledgements.since = Instant::now();
    Ok(())
}

/// First and last hour that were sealed since `before` was the open one, whichever proposal sealed them.
fn closed(before: Hour, open: Hour) -> Option<(Hour, Hour)> {
    (before < open).then(|| (before, Hour(open.0 - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_due_once_behind_the_last_command() {
        let mark = |index| Mark { index, history: [0; 32] };
        let mut acknowledgements = Acknowledgements::new(mark(5));
        assert!(!acknowledgements.are_due(mark(5)), "not yet quiet");
        acknowledgements.since -= QUIET;
        assert!(acknowledgements.are_due(mark(5)));
        assert!(!acknowledgements.are_due(mark(6)), "more came");
        acknowledgements.since -= QUIET;
        assert!(acknowledgements.are_due(mark(6)));
        acknowledgements.carried(mark(6), mark(8));
        assert!(!acknowledgements.are_due(mark(8)), "more came");
        acknowledgements.since -= QUIET;
        assert!(acknowledgements.are_due(mark(8)), "it came behind what was to carry it");
        acknowledgements.carried(mark(6), mark(7));
        assert!(!acknowledgements.are_due(mark(7)));
        acknowledgements.since -= QUIET;
        assert!(!acknowledgements.are_due(mark(7)), "what carried them needs no other one");
    }

    #[test]
    fn the_hours_that_were_sealed_are_named() {
        assert_eq!(closed(Hour(5), Hour(5)), None);
        assert_eq!(closed(Hour(5), Hour(6)), Some((Hour(5), Hour(5))));
        assert_eq!(closed(Hour(5), Hour(9)), Some((Hour(5), Hour(8))));
        assert_eq!(closed(Hour(0), Hour(0)), None);
    }
}
