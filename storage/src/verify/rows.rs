//! Rows: every row's hash against its hash page, its predecessor, its place, and the indexes against the rows.

use super::walk::{PageWalk, Step};
use super::{Fault, HourScope, MAX_FAULTS, in_parallel};
use crate::error::StoreError;
use crate::generation::row_keys;
use crate::index::{IndexFault, RowKeys};
use crate::leaves::LeafCursor;
use crate::page::{PageHeader, RawRow};
use crate::rows::RowReader;
use cdr_core::canonical::row_hash;
use cdr_core::hash::to_hex;
use cdr_core::{Hash, Row};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// Rows of a task.
const TASK_ROWS: u64 = 1 << 15;
/// Rows whose index entries are compared at once; the comparison takes about 50 bytes of memory for each.
const INDEX_TASK_ROWS: u64 = 1 << 20;

/// What one task found.
enum Outcome {
    Rows(RangeScan),
    Index(Result<Vec<IndexFault>, StoreError>),
}

pub(super) fn check_rows(
    scope: &HourScope<'_>,
    threads: usize,
    faults: &mut Vec<Fault>,
) -> Result<(), StoreError> {
    let rows = scope.span.rows;
    // Index tasks are the largest: they come first.
    let index_tasks = rows.div_ceil(INDEX_TASK_ROWS) as usize;
    let row_tasks = rows.div_ceil(TASK_ROWS).max(1) as usize;
    let part = |task: usize, size: u64| {
        let start = task as u64 * size;
        start..(start + size).min(rows)
    };
    let outcomes = in_parallel(threads, index_tasks + row_tasks, |task| {
        if task < index_tasks {
            return Outcome::Index(check_index(scope, part(task, INDEX_TASK_ROWS)));
        }
        let part = part(task - index_tasks, TASK_ROWS);
        // Pages that begin behind the last row belong to the last task.
        let end = if part.end == rows { u64::MAX } else { part.end + 1 };
        Outcome::Rows(RangeScan::run(scope, part.start + 1..end))
    });
    let (mut scans, mut index_faults) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Outcome::Rows(scan) => scans.push(scan),
            Outcome::Index(found) => index_faults.extend(found?),
        }
    }
    let mut found = join_scans(scope, scans);
    let wrong: Vec<Range<u64>> = found.iter().filter_map(|fault| fault.1.clone()).collect();
    found.extend(
        index_faults.into_iter().filter_map(|fault| index_fault(scope, &fault, &wrong)).map(|f| (f, None)),
    );
    let mut found: Vec<Fault> = found.into_iter().map(|(fault, _)| fault).collect();
    found.sort_by(|a, b| (a.cdr_sequence, &a.what).cmp(&(b.cdr_sequence, &b.what)));
    found.dedup();
    faults.extend(found);
    Ok(())
}

/// Puts the tasks' findings together: every operator's leaves must go on from task to task, up to the sealed count.
fn join_scans(scope: &HourScope<'_>, scans: Vec<RangeScan>) -> Vec<(Fault, Option<Range<u64>>)> {
    let mut next: BTreeMap<u16, u64> = BTreeMap::new();
    let mut faults = Vec::new();
    let leaf_fault = |number, expected: u64, found: u64| {
        let why =
            format!("leaf {expected} should come next, but {found} does: rows are missing or stored twice");
        scope.fault(Some(number), "row", why)
    };
    for scan in scans {
        for (number, (first, end)) in scan.leaves {
            let expected = next.insert(number, end).unwrap_or(0);
            if first != expected {
                faults.push((leaf_fault(number, expected, first), None));
            }
        }
        faults.extend(scan.faults);
    }
    for (number, sealed) in scope.operators {
        let rows = next.get(number).copied().unwrap_or(0);
        if rows != sealed.record_count {
            let why = format!("its rows end at leaf {rows}, the seal counts {}", sealed.record_count);
            faults.push((scope.fault(Some(*number), "row", why), None));
        }
    }
    faults
}

/// The index's fault in the words of a report; none if it follows from a row that is reported already, or is of
/// another operator.
fn index_fault(scope: &HourScope<'_>, found: &IndexFault, wrong: &[Range<u64>]) -> Option<Fault> {
    let (first, end) = (scope.span.first_ordinal, scope.span.first_ordinal + scope.span.rows);
    let sequence = |ordinal: u64| ordinal.clamp(first, end) - first + 1;
    let sequences = sequence(found.ordinals.start)..sequence(found.ordinals.end);
    // What does not fit a wrong row follows from that row.
    if wrong.iter().any(|range| range.start < sequences.end && sequences.start < range.end) {
        return None;
    }
    let mut fault = scope.fault(None, "index", format!("{}: {}", found.index, found.why));
    fault.cdr_sequence = Some(sequences.start);
    let mut reader = RowReader::new(&scope.generation.db, scope.committed).ok()?;
    if let Ok(Some(stored)) = reader.by_ordinal(found.ordinals.start) {
        let single = sequences.end - sequences.start == 1;
        if single
            && !scope.everything
            && scope.operators.iter().all(|(number, _)| *number != stored.operator())
        {
            return None;
        }
        fault.operator = single.then(|| scope.operator_id(stored.operator()).map(str::to_owned)).flatten();
        fault.cdr_id = stored.row().ok().map(|row| row.frame.cdr_id.to_string());
    }
    Some(fault)
}

/// Compares the index entries of a part of the hour's rows, counted from 0.
fn check_index(scope: &HourScope<'_>, part: Range<u64>) -> Result<Vec<IndexFault>, StoreError> {
    let first = scope.span.first_ordinal;
    let mut walk = PageWalk::covering(&scope.generation.db, scope.span, part.start + 1..part.end + 1)?;
    let mut ready: VecDeque<RowKeys> = VecDeque::new();
    let rows = std::iter::from_fn(|| {
        while ready.is_empty() {
            match walk.step()? {
                Step::Missing { .. } => {}
                Step::Page(header) => {
                    if !scope.goes_on_after(header.count) {
                        return None;
                    }
                    let keys = (0..header.count).filter_map(|at| keys_of(scope, &header, walk.bytes(), at));
                    ready.extend(keys.filter(|keys| part.contains(&(keys.ordinal - first))));
                }
            }
        }
        ready.pop_front()
    });
    scope.generation.index().verify(first + part.start..first + part.end, rows)
}

fn keys_of(scope: &HourScope<'_>, header: &PageHeader, bytes: &[u8], position: usize) -> Option<RowKeys> {
    let raw = header.raw_row(bytes, position).ok()?;
    let row = header.row(bytes, position, &raw).ok()?;
    let ordinal = scope.span.first_ordinal + row.frame.sequence - 1;
    Some(row_keys(ordinal, raw.operator, &row))
}

/// What is known of an operator while its rows pass by.
struct OperatorScan<'a> {
    cursor: LeafCursor<'a>,
    /// What the first row's `chainHashPrev` must be.
    prev_root: Hash,
    /// First leaf of the range, once there is one, and the leaf behind the last one.
    leaves: Option<(u64, u64)>,
    /// Of the last row: stored and computed hash, and its fault if they differ.
    last: Option<(Hash, Hash, Option<usize>)>,
}

/// The rows of the pages that begin in one range of sequences.
#[derive(Default)]
struct RangeScan {
    /// By operator: first leaf, and the one behind the last.
    leaves: BTreeMap<u16, (u64, u64)>,
    /// With the sequences concerned.
    faults: Vec<(Fault, Option<Range<u64>>)>,
}

impl RangeScan {
    fn run(scope: &HourScope<'_>, range: Range<u64>) -> Self {
        let mut scan = Self::default();
        if let Err(error) = scan.pages(scope, range) {
            scan.faults.push((scope.fault(None, "row page", error.to_string()), None));
        }
        scan
    }

    fn pages(&mut self, scope: &HourScope<'_>, range: Range<u64>) -> Result<(), StoreError> {
        let db = &scope.generation.db;
        let mut operators = BTreeMap::new();
        for (number, sealed) in scope.operators {
            let cursor = LeafCursor::new(db, scope.span.hour, *number)?;
            let prev_root = sealed.prev_bucket_root;
            operators.insert(*number, OperatorScan { cursor, prev_root, leaves: None, last: None });
        }
        let mut scratch = Vec::with_capacity(2048);
        let mut walk = PageWalk::new(db, scope.span, range)?;
        while let Some(step) = walk.step() {
            match step {
                Step::Missing { sequences, why } => self.missing(scope, sequences, &why),
                Step::Page(header) => {
                    if !scope.goes_on_after(header.count) {
                        break;
                    }
                    self.page(scope, &header, walk.bytes(), &mut operators, &mut scratch);
                }
            }
            if self.faults.len() > MAX_FAULTS {
                break;
            }
        }
        self.leaves = operators.into_iter().filter_map(|(n, operator)| Some((n, operator.leaves?))).collect();
        Ok(())
    }

    fn missing(&mut self, scope: &HourScope<'_>, sequences: Range<u64>, why: &str) {
        let why = format!("rows {} to {}: {why}", sequences.start, sequences.end.max(1) - 1);
        let mut fault = scope.fault(None, "row page", why);
        fault.cdr_sequence = Some(sequences.start);
        self.faults.push((fault, Some(sequences)));
    }

    fn page(
        &mut self,
        scope: &HourScope<'_>,
        header: &PageHeader,
        bytes: &[u8],
        operators: &mut BTreeMap<u16, OperatorScan<'_>>,
        scratch: &mut Vec<u8>,
    ) {
        let faults_before = self.faults.len();
        let sequences = header.first_sequence..header.first_sequence + header.count as u64;
        let first_ordinal = scope.span.first_ordinal + header.first_sequence - 1;
        if header.first_ordinal != first_ordinal {
            let why =
                format!("the page's first row has number {}, not {first_ordinal}", header.first_ordinal);
            self.missing(scope, sequences.clone(), &why);
        }
        for position in 0..header.count {
            self.row(scope, header, bytes, position, operators, scratch);
        }
        // A checksum alone names no row; it is reported only if nothing else is.
        if let Err(why) = header.verify_checksum(bytes)
            && self.faults.len() == faults_before
        {
            self.missing(scope, sequences, &format!("{why}, although every row has its hash"));
        }
    }

    fn row(
        &mut self,
        scope: &HourScope<'_>,
        header: &PageHeader,
        bytes: &[u8],
        position: usize,
        operators: &mut BTreeMap<u16, OperatorScan<'_>>,
        scratch: &mut Vec<u8>,
    ) {
        let sequence = header.first_sequence + position as u64;
        let raw = match header.raw_row(bytes, position) {
            Ok(raw) => raw,
            Err(why) => return self.row_fault(scope, None, sequence, None, "row", why),
        };
        let Some(operator) = operators.get_mut(&raw.operator) else {
            if scope.everything {
                let why = format!("its operator number {} is not in the seal", raw.operator);
                self.row_fault(scope, None, sequence, None, "row", why);
            }
            return;
        };
        let (number, leaf) = (raw.operator, raw.leaf_index);
        let (first, expected) = operator.leaves.unwrap_or((leaf, leaf));
        operator.leaves = Some((first, leaf.saturating_add(1)));
        let follows = operator.last.take_if(|_| leaf == expected);
        let row = match header.row(bytes, position, &raw) {
            Ok(row) => row,
            Err(why) => return self.row_fault(scope, Some(number), sequence, None, "row", why),
        };
        if leaf != expected {
            let why = format!("it has leaf {leaf}, but {expected} comes next in its partition");
            self.row_fault(scope, Some(number), sequence, Some(&row), "row", why);
        }
        if scope.operator_id(number) != Some(row.frame.operator_id) {
            let why = format!("it is stored under operator number {number}, which is another one");
            self.row_fault(scope, Some(number), sequence, Some(&row), "row", why);
        }
        let previous = match &follows {
            Some((stored, ..)) => Ok(*stored),
            None if leaf == 0 => Ok(operator.prev_root),
            None => operator.cursor.hash(leaf - 1),
        };
        let computed = row_hash(&row, scratch);
        let stored = operator.cursor.hash(leaf);
        let outcome = self.compare(scope, &raw, &row, computed, &stored, &previous, follows);
        operator.last = stored.ok().map(|stored| (stored, computed, outcome));
    }

    /// Compares a row with its own hash and its predecessor's; the position of its hash's fault, if there is one.
    #[allow(clippy::too_many_arguments)]
    fn compare(
        &mut self,
        scope: &HourScope<'_>,
        raw: &RawRow<'_>,
        row: &Row<'_>,
        computed: Hash,
        stored: &Result<Hash, StoreError>,
        previous: &Result<Hash, StoreError>,
        follows: Option<(Hash, Hash, Option<usize>)>,
    ) -> Option<usize> {
        let sequence = row.frame.sequence;
        let chained = previous.as_ref().is_ok_and(|hash| *hash == raw.chain_prev);
        if let Some((_, computed_before, Some(fault))) = follows
            && computed_before == raw.chain_prev
        {
            // This row vouches for the one before: not that row was changed, but its hash page.
            "row hash".clone_into(&mut self.faults[fault].0.what);
        }
        match stored {
            Ok(stored) if *stored == computed => {
                let vouched = follows.is_some_and(|(_, before, _)| before == raw.chain_prev);
                if !chained && !vouched {
                    let why = "chainHashPrev is not the stored hash of the row before".to_owned();
                    self.row_fault(scope, Some(raw.operator), sequence, Some(row), "row hash", why);
                }
                None
            }
            Ok(stored) => {
                let (stored, computed) = (to_hex(stored), to_hex(&computed));
                let why = format!("its bytes give hash {computed}, its hash page has {stored}");
                self.row_fault(scope, Some(raw.operator), sequence, Some(row), "row", why);
                Some(self.faults.len() - 1)
            }
            Err(error) => {
                self.row_fault(scope, Some(raw.operator), sequence, Some(row), "row hash", error.to_string());
                None
            }
        }
    }

    fn row_fault(
        &mut self,
        scope: &HourScope<'_>,
        operator: Option<u16>,
        sequence: u64,
        row: Option<&Row<'_>>,
        what: &str,
        why: String,
    ) {
        let mut fault = scope.fault(operator, what, why);
        fault.cdr_sequence = Some(sequence);
        fault.cdr_id = row.map(|row| row.frame.cdr_id.to_string());
        self.faults.push((fault, Some(sequence..sequence + 1)));
    }
}
