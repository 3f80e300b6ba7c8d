//! Which builds the members are, and whether all of them know certain rules.

use super::{AdminError, Node};
use cdr_core::rules::{Build, Rules};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a member said of its build counts for so long.
const HEARD_WITHIN: Duration = Duration::from_secs(10);

/// What the members said of their builds, and when. Only a leader asks.
#[derive(Debug, Default)]
pub(super) struct Builds(Mutex<BTreeMap<u64, (Build, Instant)>>);

impl Builds {
    pub fn hear(&self, said: impl Iterator<Item = (u64, Build)>) {
        let now = Instant::now();
        self.known().extend(said.map(|(node, build)| (node, (build, now))));
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, (Build, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why it is not certain that a node knows the rules, if so.
    pub fn obstacle(&self, node: u64, rules: Rules) -> Option<String> {
        match self.known().get(&node).filter(|(_, at)| at.elapsed() < HEARD_WITHIN) {
            None => Some(format!("node {node} has not told its build within {} s", HEARD_WITHIN.as_secs())),
            Some((build, _)) if build.knows(rules) => None,
            Some((build, _)) => Some(format!(
                "node {node} is build {build}, which knows rules up to version {}, not {rules}",
                build.rules
            )),
        }
    }
}

/// As long as this is kept, no member joins, is promoted or leaves by this leader.
#[derive(Debug)]
pub struct UnchangedMembership<'a>(#[allow(dead_code)] tokio::sync::MutexGuard<'a, ()>);

impl Node {
    /// As which build this replica behaves.
    pub fn build(&self) -> Build {
        self.0.state_machine.build()
    }

    /// What keeps rules from being raised: members, learners included, that do not know them or have not said so.
    pub fn rules_obstacles(&self, rules: Rules) -> Vec<String> {
        let others =
            self.other_replicas().into_iter().filter_map(|(node, _)| self.0.builds.obstacle(node, rules));
        let own = (!self.build().knows(rules)).then(|| format!("this replica is build {}", self.build()));
        own.into_iter().chain(others).collect()
    }

    /// Keeps the membership as it is while rules are raised that every member of it knows. Only the leader can.
    ///
    /// # Errors
    /// [`AdminError::Refused`] if a member does not know them, or has not said so lately.
    pub async fn keep_membership_for(&self, rules: Rules) -> Result<UnchangedMembership<'_>, AdminError> {
        let unchanged = self.0.membership.lock().await;
        match self.rules_obstacles(rules) {
            obstacles if obstacles.is_empty() => Ok(UnchangedMembership(unchanged)),
            obstacles => Err(AdminError::Refused(obstacles.join("; "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_said_that_it_knows_the_rules_is_an_obstacle() {
        let builds = Builds::default();
        assert!(builds.obstacle(2, Rules::FIRST).is_some_and(|why| why.contains("has not told its build")));
        builds.hear([(2, Build::THIS), (3, Build::NEXT)].into_iter());
        assert_eq!(builds.obstacle(2, Rules::FIRST), None);
        assert_eq!(builds.obstacle(3, Rules::TEST_ONLY), None);
        let why = builds.obstacle(2, Rules::TEST_ONLY).unwrap_or_default();
        assert!(why.contains("node 2 is build 0.1.0, which knows rules up to version 1, not 2"), "{why}");
        let long_ago = Instant::now().checked_sub(HEARD_WITHIN).unwrap_or_else(Instant::now);
        builds.known().insert(3, (Build::NEXT, long_ago));
        assert!(builds.obstacle(3, Rules::TEST_ONLY).is_some());
    }
}
