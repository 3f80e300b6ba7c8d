//! Linearizable reads on any replica, and the clocks of the others.

use super::{ClockError, Node, ReadError};
use crate::net::{Kind, ReadIndexAnswer};
use cdr_core::history::Mark;
use futures::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Pause before the leader is looked up again.
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// How long a leader may take to confirm that it leads.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(1);

/// How long a replica may take to report its clock.
const CLOCK_PATIENCE: Duration = Duration::from_millis(500);

impl Node {
    /// Waits until a read of the state of this replica sees everything that was acknowledged anywhere
    /// before this call, and returns the index applied by then. The leader has a quorum confirm that it
    /// leads; another replica asks the leader and waits until it has caught up.
    pub async fn read_barrier(&self) -> Result<u64, ReadError> {
        let deadline = Instant::now() + Duration::from_millis(self.0.config.read_timeout_ms);
        let mut obstacle = "no leader is known".to_owned();
        let (index, mark) = loop {
            self.check_running()?;
            match self.ask_read_index().await {
                Ok(confirmed) => break confirmed,
                Err(reason) => obstacle = reason.unwrap_or(obstacle),
            }
            if Instant::now() + RETRY_EVERY >= deadline {
                return Err(ReadError::Unavailable { reason: obstacle });
            }
            sleep(RETRY_EVERY).await;
        };
        let applied = self.wait_applied(index, deadline).await?;
        match self.elected().and_then(|(leader, _)| self.0.roster.fork_from(leader, &mark)) {
            Some(reason) => Err(ReadError::Stopped { reason }),
            None => Ok(applied),
        }
    }

    async fn ask_read_index(&self) -> Result<(u64, Mark), Option<String>> {
        let (leader, address) = self.elected().ok_or(None)?;
        let answer = if leader == self.node_id() {
            self.0.server.read_index().await.map_err(Some)?
        } else {
            let asked = self.0.peers.call(leader, &address, Kind::ReadIndex, &(), CONFIRM_PATIENCE);
            asked.await.map_err(|error| Some(error.to_string()))?
        };
        match answer {
            ReadIndexAnswer::Index { index, mark } => Ok((index, mark)),
            ReadIndexAnswer::NotLeader(other) => {
                Err(Some(format!("node {leader} no longer leads, but {other:?}")))
            }
            ReadIndexAnswer::Unconfirmed(reason) => Err(Some(reason)),
        }
    }

    async fn wait_applied(&self, wanted: u64, deadline: Instant) -> Result<u64, ReadError> {
        let mut applied = self.0.applied.clone();
        loop {
            let now = applied.borrow_and_update().as_ref().map(openraft::LogId::index);
            if let Some(now) = now.filter(|now| *now >= wanted) {
                return Ok(now);
            }
            self.check_running()?;
            let changed = timeout_at(deadline, applied.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Err(ReadError::Behind { applied: self.applied_index(), wanted });
            }
        }
    }

    fn check_running(&self) -> Result<(), ReadError> {
        match self.failure() {
            Some(reason) => Err(ReadError::Stopped { reason }),
            None => match &self.0.raft.metrics().borrow_watched().running_state {
                Ok(()) => Ok(()),
                Err(error) => Err(ReadError::Stopped { reason: error.to_string() }),
            },
        }
    }

    /// This replica's clock minus the median of all replicas' clocks, its own included, in milliseconds.
    /// Positive: this clock is ahead. Half of the time that an answer took is taken as its age.
    pub async fn clock_offset_ms(&self) -> Result<i64, ClockError> {
        let others = self.other_replicas();
        let replicas = others.len() + 1;
        let asked = others.iter().map(|(node, address)| self.ask_clock(*node, address));
        let mut offsets: Vec<i64> = join_all(asked).await.into_iter().flatten().collect();
        offsets.push(0);
        if offsets.len() * 2 <= replicas {
            return Err(ClockError { answered: offsets.len(), replicas });
        }
        Ok(-median(&mut offsets))
    }

    /// The other clock minus this one.
    async fn ask_clock(&self, node: u64, address: &str) -> Option<i64> {
        let before = (self.0.config.clock)();
        let asked = Instant::now();
        let theirs: i64 = self.0.peers.call(node, address, Kind::Clock, &(), CLOCK_PATIENCE).await.ok()?;
        let age = i64::try_from(asked.elapsed().as_millis() / 2).ok()?;
        theirs.checked_sub(before)?.checked_sub(age)
    }

    pub(super) fn other_replicas(&self) -> Vec<(u64, String)> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let nodes = metrics.membership_config.membership().nodes();
        nodes
            .filter(|(node, _)| **node != self.node_id())
            .map(|(node, known)| (*node, self.0.peers.address(*node, &known.address)))
            .collect()
    }
}

/// The middle value; of two middle ones the mean.
fn median(values: &mut [i64]) -> i64 {
    values.sort_unstable();
    let upper = values[values.len() / 2];
    if values.len() % 2 == 1 {
        return upper;
    }
    let lower = values[values.len() / 2 - 1];
    lower + (upper - lower) / 2
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_ignores_one_wrong_clock() {
        assert_eq!(median(&mut [0]), 0);
        assert_eq!(median(&mut [0, 10]), 5);
        assert_eq!(median(&mut [7_200_000, 0, -3]), 0);
        assert_eq!(median(&mut [0, -7_200_000, -7_199_990]), -7_199_990);
    }
}
