//! Which message ids a stream has seen within its dedup window.

use std::collections::{HashMap, VecDeque};

/// Message ids of the last while, with their sequences.
pub(super) struct RecentIds {
    window_ms: i64,
    most: usize,
    sequences: HashMap<Box<str>, u64>,
    by_age: VecDeque<(i64, Box<str>)>,
}

impl RecentIds {
    /// Remembers ids for `window_ms`, and never more than `most` of them.
    pub(super) fn new(window_ms: i64, most: usize) -> Self {
        Self { window_ms, most, sequences: HashMap::new(), by_age: VecDeque::new() }
    }

    /// Sequence of the message with this id, if it was stored within the window before `now_ms`.
    pub(super) fn find(&mut self, id: &str, now_ms: i64) -> Option<u64> {
        self.forget_before(now_ms - self.window_ms);
        self.sequences.get(id).copied()
    }

    /// Remembers an id that [`Self::find`] did not know.
    pub(super) fn insert(&mut self, id: &str, sequence: u64, stored_ms: i64) {
        if self.window_ms <= 0 || self.most == 0 {
            return;
        }
        if self.by_age.len() >= self.most {
            self.forget_oldest();
        }
        self.sequences.insert(id.into(), sequence);
        self.by_age.push_back((stored_ms, id.into()));
    }

    fn forget_before(&mut self, bound_ms: i64) {
        while self.by_age.front().is_some_and(|(stored_ms, _)| *stored_ms < bound_ms) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.by_age.pop_front() {
            self.sequences.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_leave_by_age_and_by_number() {
        let mut ids = RecentIds::new(100, 2);
        ids.insert("a", 1, 0);
        ids.insert("b", 2, 50);
        assert_eq!(ids.find("a", 100), Some(1));
        assert_eq!(ids.find("a", 101), None);
        assert_eq!(ids.find("b", 101), Some(2));
        ids.insert("c", 3, 101);
        ids.insert("d", 4, 101);
        assert_eq!(ids.find("b", 101), None, "only two are kept");
        assert_eq!((ids.find("c", 101), ids.find("d", 101)), (Some(3), Some(4)));
    }
}
