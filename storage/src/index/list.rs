//! Which runs there are. They lie side by side, from the first ordinal that is kept to the tail.

use super::damaged;
use super::geometry::Geometry;
use super::keys;
use super::record::{Head, Run};
use crate::error::StoreError;
use std::ops::Range;

/// The runs on disk, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunList {
    /// Sizes of blocks and runs.
    pub geometry: Geometry,
    /// First ordinal that is covered.
    pub first: u64,
    /// First ordinal after all runs.
    pub next: u64,
    /// The runs, ascending.
    pub runs: Vec<Run>,
}

impl RunList {
    /// Nothing yet.
    pub fn new(geometry: Geometry) -> Self {
        Self { geometry, first: 0, next: 0, runs: Vec::new() }
    }

    /// Puts stored runs together.
    pub fn assemble(head: &Head, runs: Vec<Run>) -> Result<Self, StoreError> {
        let geometry = head.geometry;
        let mut next = head.first;
        for run in &runs {
            if run.first != next || run.level > geometry.max_level {
                let why = format!("the run before it ends at {next}");
                return Err(damaged(&keys::run(run.level, run.first), why));
            }
            next += geometry.run_rows(run.level);
        }
        if next != head.next {
            return Err(damaged(keys::HEAD, format!("the runs end at {next}, not at {}", head.next)));
        }
        Ok(Self { geometry, first: head.first, next, runs })
    }

    /// The head that goes with the list.
    pub fn head(&self, key_check: u64) -> Head {
        Head { geometry: self.geometry, first: self.first, next: self.next, key_check }
    }

    /// Ordinals of a run.
    pub fn rows(&self, run: &Run) -> Range<u64> {
        run.first..run.first + self.geometry.run_rows(run.level)
    }

    /// Appends the run of the next block.
    pub fn push(&mut self, run: Run) {
        self.next = self.rows(&run).end;
        self.runs.push(run);
    }

    /// Sources of the next merge, lowest level first; none if there is nothing to merge.
    pub fn mergeable(&self) -> Option<Vec<Run>> {
        let fan_in = self.geometry.fan_in();
        let groups = (0..self.geometry.max_level).flat_map(|level| {
            let members = self.runs.iter().enumerate();
            members.filter(move |(_, run)| run.level == level).map(|(at, run)| (at, *run))
        });
        for (at, run) in groups {
            let aligned = run.first % self.geometry.run_rows(run.level + 1) == 0;
            let siblings = self.runs.get(at..at + fan_in);
            if aligned
                && let Some(siblings) = siblings
                && siblings.iter().all(|s| s.level == run.level)
            {
                return Some(siblings.to_vec());
            }
        }
        None
    }

    /// Puts a merged run in its sources' place and returns those; none if they are no longer all there.
    pub fn replace(&mut self, merged: Run) -> Option<Vec<Run>> {
        let at = self.runs.iter().position(|run| run.first == merged.first)?;
        let sources = self.runs.get(at..at + self.geometry.fan_in())?;
        if sources.iter().any(|run| run.level + 1 != merged.level) {
            return None;
        }
        Some(self.runs.splice(at..at + self.geometry.fan_in(), [merged]).collect())
    }

    /// Takes runs out that end at or before `ordinal`.
    pub fn drop_below(&mut self, ordinal: u64) -> Vec<Run> {
        let count = self.runs.iter().take_while(|run| self.rows(run).end <= ordinal).count();
        let dropped: Vec<Run> = self.runs.drain(..count).collect();
        if let Some(last) = dropped.last() {
            self.first = self.rows(last).end;
        }
        dropped
    }

    /// Runs that share rows with `ordinals`.
    pub fn meeting(&self, ordinals: &Range<u64>) -> &[Run] {
        let from = self.runs.partition_point(|run| self.rows(run).end <= ordinals.start);
        let to = self.runs.partition_point(|run| run.first < ordinals.end);
        &self.runs[from..to.max(from)]
    }
}
