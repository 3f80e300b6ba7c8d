//! Random operations against the simplest thing that could be right, with a reopened log now and then.

use super::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
struct Model {
    entries: BTreeMap<u64, Entry>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
}

impl Model {
    fn last(&self) -> Option<LogId> {
        self.entries.values().next_back().map(|entry| entry.log_id).or(self.purged)
    }

    fn next(&self) -> u64 {
        self.last().map_or(0, |last| last.index() + 1)
    }
}

fn small(dir: &Path) -> LogStore {
    let mut options = options();
    options.segment_bytes = 8 << 10;
    options.cache_bytes = 2 << 10;
    options.fsync = false;
    LogStore::open(dir, options, Failure::default()).unwrap()
}

async fn step(rng: &mut SmallRng, term: &mut u64, log: &mut LogStore, model: &mut Model) {
    match rng.random_range(0..12) {
        0 => {
            *term += 1;
            log.save_vote(&vote(*term)).await.unwrap();
            model.vote = Some(vote(*term));
        }
        1 => {
            let from = rng.random_range(model.purged.map_or(0, |purged| purged.index() + 1)..=model.next());
            let after = from.checked_sub(1).map(|index| LogId::new_term_index(*term, index));
            if model.committed.is_some_and(|committed| from <= committed.index()) {
                // Committed entries are never forgotten; what would do that stops the node, here only the call.
                return;
            }
            log.truncate_after(after).await.unwrap();
            model.entries.split_off(&from);
        }
        2 => {
            let Some(last) = model.last() else { return };
            let first = model.entries.keys().next().copied().unwrap_or(last.index());
            let beyond = if rng.random_range(0..8) == 0 { 5 } else { 0 };
            let index = rng.random_range(first..=last.index() + beyond);
            let upto =
                model.entries.get(&index).map_or(LogId::new_term_index(*term, index), |entry| entry.log_id);
            if model.purged.is_some_and(|purged| purged >= upto) {
                return;
            }
            log.purge(upto).await.unwrap();
            model.entries = model.entries.split_off(&(index + 1));
            model.purged = Some(upto);
        }
        3 => {
            model.committed = model.last();
            log.save_committed(model.committed).await.unwrap();
        }
        _ => {
            let next = model.next();
            let sizes: Vec<usize> = (0..rng.random_range(1..5)).map(|_| rng.random_range(0..1500)).collect();
            let new =
                (next..).zip(sizes).map(|(index, bytes)| entry(*term, index, bytes)).collect::<Vec<_>>();
            model.entries.extend(new.iter().map(|entry| (entry.log_id.index(), entry.clone())));
            log.blocking_append(new).await.unwrap();
        }
    }
}

async fn check(log: &mut LogStore, model: &Model) {
    let expected: Vec<Entry> = model.entries.values().cloned().collect();
    assert_eq!(entries(log).await, expected);
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_log_id, state.last_purged_log_id), (model.last(), model.purged));
    assert_eq!(log.read_vote().await.unwrap(), model.vote);
    assert_eq!(log.read_committed().await.unwrap(), model.committed);
    if let (Some(first), Some(last)) = (model.entries.keys().next(), model.entries.keys().next_back()) {
        let middle = (first + last) / 2;
        let part = log.limited_get_log_entries(middle, last + 1).await.unwrap();
        assert_eq!(part.first(), model.entries.get(&middle));
    }
}

#[tokio::test]
async fn the_log_agrees_with_a_map() {
    for seed in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut model = Model::default();
        let mut log = small(dir.path());
        let mut term = 1;
        for number in 0..150 {
            step(&mut rng, &mut term, &mut log, &mut model).await;
            if number % 10 == 0 {
                check(&mut log, &model).await;
            }
            if rng.random_range(0..25) == 0 {
                log.close().await.unwrap();
                log = small(dir.path());
                check(&mut log, &model).await;
            }
        }
        if let Some(last) = model.last() {
            log.purge(last).await.unwrap();
            assert_eq!(segments(dir.path()).len(), 1, "seed {seed}: segments without entries stay");
        }
    }
}
