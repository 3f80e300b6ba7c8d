//! Trees: the roots that stored row hashes and cached subtree roots lead to.

use super::{Fault, HourScope};
use crate::keys::{self, CF_LEAVES};
use crate::leaves::{HASH_BYTES, StoredTree, cached_root};
use crate::schema::column;
use cdr_core::hash::to_hex;
use cdr_core::merkle::Frontier;
use cdr_core::seal::OperatorSeal;
use cdr_core::state::SUBTREE_LEVELS;
use cdr_core::{Hash, chain};
use rocksdb::ReadOptions;

/// The most unreadable places of a table that are stepped over one by one.
pub(super) const MAX_STEPS: u64 = 4096;

/// The operator's root from cached subtree roots and the few row hashes beyond them.
pub(super) fn check_root(scope: &HourScope<'_>, task: usize) -> Vec<Fault> {
    let (number, sealed) = &scope.operators[task];
    if sealed.record_count == 0 {
        return compare_root(scope, *number, sealed, &chain::empty_root(scope.span.hour));
    }
    let tree = StoredTree::new(&scope.generation.db, scope.span.hour, *number, sealed.record_count);
    match tree.and_then(|mut tree| tree.root()) {
        Ok(root) => compare_root(scope, *number, sealed, &root),
        Err(error) => vec![scope.fault(Some(*number), "row hash", error.to_string())],
    }
}

fn compare_root(scope: &HourScope<'_>, number: u16, sealed: &OperatorSeal, root: &Hash) -> Vec<Fault> {
    if *root == sealed.bucket_root {
        return Vec::new();
    }
    let why = format!(
        "row hashes and subtree roots lead to {}, the seal has {}",
        to_hex(root),
        to_hex(&sealed.bucket_root)
    );
    vec![scope.fault(Some(number), "row hash", why)]
}

/// A cached root that the leaves under it do not give.
struct Differing {
    level: u32,
    index: u64,
    why: &'static str,
}

/// The operator's root from every row hash, and every cached subtree root on the way.
pub(super) fn check_leaves(scope: &HourScope<'_>, task: usize) -> Vec<Fault> {
    let (number, sealed) = &scope.operators[task];
    let mut scan =
        LeafScan { scope, number: *number, count: sealed.record_count, ..LeafScan::new(scope, *number) };
    if let Err(error) = scan.run() {
        scan.faults.push(scope.fault(Some(*number), "row hash", error));
    }
    let mut faults = scan.faults;
    if !faults.is_empty() {
        return faults;
    }
    let root = scan.frontier.root().unwrap_or_else(|| chain::empty_root(scope.span.hour));
    let leaves_are_right = root == sealed.bucket_root;
    for Differing { level, index, why } in scan.differing {
        let (first, end) = (index << level, (index + 1) << level);
        faults.push(if leaves_are_right {
            let why = format!("the root at level {level}, index {index} {why}; the row hashes are right");
            scope.fault(Some(*number), "subtree root", why)
        } else {
            let why = format!("among leaves {first} to {}: the subtree root there {why}", end - 1);
            scope.fault(Some(*number), "row hash", why)
        });
    }
    faults.extend(compare_root(scope, *number, sealed, &root));
    faults
}

struct LeafScan<'a> {
    scope: &'a HourScope<'a>,
    number: u16,
    count: u64,
    frontier: Frontier,
    differing: Vec<Differing>,
    faults: Vec<Fault>,
}

impl<'a> LeafScan<'a> {
    fn new(scope: &'a HourScope<'a>, number: u16) -> Self {
        Self {
            scope,
            number,
            count: 0,
            frontier: Frontier::default(),
            differing: Vec::new(),
            faults: Vec::new(),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        let db = &self.scope.generation.db;
        let hour = self.scope.span.hour;
        let mut options = ReadOptions::default();
        options
            .set_iterate_upper_bound([keys::leaves(hour, self.number, u64::MAX).as_slice(), &[0]].concat());
        options.set_readahead_size(256 << 10);
        let family = column(db, CF_LEAVES).map_err(|e| e.to_string())?;
        let mut chunks = db.raw_iterator_cf_opt(family, options);
        chunks.seek(keys::leaves(hour, self.number, 0));
        let (mut next, mut steps, mut complete) = (0, 0, true);
        loop {
            if let Err(error) = chunks.status() {
                if steps == 0 {
                    self.fault(format!("leaves from {next} on can't be read: {error}"));
                }
                (steps, complete) = (steps + 1, false);
                if steps > MAX_STEPS {
                    return Ok(());
                }
                chunks.seek(keys::leaves(hour, self.number, next + steps));
                continue;
            }
            let (Some(key), Some(value)) = (chunks.key(), chunks.value()) else { break };
            let (_, _, first) = keys::parse_leaves(key).ok_or("a key can't be read")?;
            if first != next {
                if steps == 0 {
                    self.fault(format!("leaf {next} is missing, the next one stored is {first}"));
                }
                complete = false;
            }
            steps = 0;
            next = first.saturating_add((value.len() / HASH_BYTES) as u64);
            if value.is_empty() || value.len() % HASH_BYTES != 0 {
                self.fault(format!("the chunk of leaves from {first} on is cut"));
                complete = false;
            }
            if complete {
                value.chunks_exact(HASH_BYTES).for_each(|leaf| self.push(leaf));
            }
            chunks.next();
        }
        if next != self.count && steps == 0 {
            let why = format!("leaves end at {next}, the seal counts {}", self.count);
            self.fault(why);
        }
        Ok(())
    }

    fn fault(&mut self, why: String) {
        self.faults.push(self.scope.fault(Some(self.number), "row hash", why));
    }

    fn push(&mut self, leaf: &[u8]) {
        let Ok(leaf) = Hash::try_from(leaf) else { return };
        let (scope, number, differing) = (self.scope, self.number, &mut self.differing);
        self.frontier.push_with(leaf, |level, index, hash| {
            if level % SUBTREE_LEVELS != 0 {
                return;
            }
            let why = match cached_root(&scope.generation.db, scope.span.hour, number, level, index) {
                Ok(Some(cached)) if cached == *hash => return,
                Ok(Some(_)) => "does not follow from the row hashes",
                Ok(None) => "is missing",
                Err(_) => "can't be read",
            };
            differing.push(Differing { level, index, why });
        });
    }
}
