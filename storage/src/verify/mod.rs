//! Comparing everything that is stored with the seals.
//!
//! What can't be read is a fault like what does not fit: the report names the first row concerned. Work is cut into
//! tasks that run on a few threads; memory does not grow with the hour.

mod link;
mod pace;
mod report;
mod rows;
mod tree;
pub(crate) mod walk;

pub use pace::Pace;
pub use report::{Depth, Fault, HourReport, MAX_FAULTS, RangeReport, SealedRoots};

use crate::error::StoreError;
use crate::generation::Generation;
use crate::hours::{Committed, HourSpan};
use crate::seals::StoredSeal;
use crate::store::registry_number;
use cdr_core::Hour;
use cdr_core::seal::OperatorSeal;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// What a task looks at: one sealed hour, as its seal describes it.
#[derive(Clone, Copy)]
pub(crate) struct HourScope<'a> {
    pub generation: &'a Generation,
    pub committed: &'a Committed,
    pub span: HourSpan,
    /// Registry index and seal entry of the operators that are verified.
    pub operators: &'a [(u16, OperatorSeal)],
    /// True if that is every operator.
    pub everything: bool,
    /// How fast rows may be read; none as fast as they can.
    pub pace: Option<&'a Pace>,
}

impl HourScope<'_> {
    /// Id of the operator with this registry index.
    pub fn operator_id(&self, number: u16) -> Option<&str> {
        self.committed.state.registry.get(usize::from(number)).map(|operator| operator.operator_id.as_str())
    }

    /// Waits until `rows` that were read are due; false if the verification has to stop.
    pub fn goes_on_after(&self, rows: usize) -> bool {
        self.pace.is_none_or(|pace| pace.read(rows))
    }

    pub fn fault(&self, operator: Option<u16>, what: &str, why: String) -> Fault {
        Fault {
            bucket_hour: self.span.hour,
            operator: operator
                .map(|number| self.operator_id(number).map_or(number.to_string(), str::to_owned)),
            cdr_sequence: None,
            cdr_id: None,
            what: what.to_owned(),
            why,
        }
    }
}

/// See [`crate::Store::verify_hour`].
pub(crate) fn verify_hour(
    generation: &Generation,
    hour: Hour,
    operator: Option<&str>,
    depth: Depth,
    threads: usize,
) -> Result<HourReport, StoreError> {
    let range = verify_range(generation, hour, hour, operator, depth, threads)?;
    Ok(of_hour(generation, range))
}

/// See [`crate::Store::verify_hour_slowly`].
pub(crate) fn verify_hour_slowly(
    generation: &Generation,
    hour: Hour,
    pace: &Pace,
) -> Result<Option<HourReport>, StoreError> {
    let range = verify_at(generation, (hour, hour), None, Depth::Rows, 1, Some(pace))?;
    // What was no longer read is not a fault.
    Ok((!pace.is_stopped()).then(|| of_hour(generation, range)))
}

/// The report of a range of one hour.
fn of_hour(generation: &Generation, range: RangeReport) -> HourReport {
    let RangeReport { from: hour, depth, .. } = range;
    let sealed = crate::seals::read(&generation.db, hour).ok().flatten().map(|stored| SealedRoots {
        bucket_root: stored.seal.bucket_root,
        chain_hash: stored.seal.chain_hash,
        seal_hash: stored.seal_hash,
    });
    HourReport { bucket_hour: hour, depth, rows_checked: range.rows_checked, sealed, faults: range.faults }
}

/// See [`crate::Store::verify_range`].
pub(crate) fn verify_range(
    generation: &Generation,
    from: Hour,
    to: Hour,
    operator: Option<&str>,
    depth: Depth,
    threads: usize,
) -> Result<RangeReport, StoreError> {
    verify_at(generation, (from, to), operator, depth, threads, None)
}

fn verify_at(
    generation: &Generation,
    (from, to): (Hour, Hour),
    operator: Option<&str>,
    depth: Depth,
    threads: usize,
    pace: Option<&Pace>,
) -> Result<RangeReport, StoreError> {
    let committed = generation.committed();
    refuse_outside(&committed, from, to)?;
    if let Some(id) = operator {
        registry_number(&committed, id)
            .ok_or_else(|| StoreError::Unknown { what: format!("operator {id}") })?;
    }
    let (mut faults, mut rows_checked) = (Vec::new(), 0);
    let mut previous = link::Previous::before(generation, from, committed.state.head.first_hour);
    for hour in (from.0..=to.0).map(Hour) {
        let seal = link::check_seal(generation, &committed, hour, &mut previous, &mut faults);
        let (Some(seal), Some(span)) = (&seal, committed.span(hour)) else { continue };
        let operators = chosen_operators(&committed, seal, operator, &mut faults);
        let scope = HourScope {
            generation,
            committed: &committed,
            span,
            operators: &operators,
            everything: operator.is_none(),
            pace,
        };
        rows_checked += operators.iter().map(|(_, sealed)| sealed.record_count).sum::<u64>();
        check_content(&scope, depth, threads, &mut faults)?;
        if faults.len() >= MAX_FAULTS {
            break;
        }
    }
    link::check_successor(generation, &committed, to, &previous, &mut faults);
    faults.truncate(MAX_FAULTS);
    let hours_checked = u64::from(to.0 - from.0) + 1;
    Ok(RangeReport { from, to, depth, hours_checked, rows_checked, faults })
}

fn refuse_outside(committed: &Committed, from: Hour, to: Hour) -> Result<(), StoreError> {
    let head = &committed.state.head;
    if committed.state.cluster.is_none() || to >= head.open_hour {
        return Err(StoreError::NotSealed { hour: to.to_string() });
    }
    if from < head.first_hour || from > to {
        return Err(StoreError::Unknown { what: format!("an hour in the ledger from {from} to {to}") });
    }
    Ok(())
}

/// Registry index and seal entry of every operator that is to be verified.
fn chosen_operators(
    committed: &Committed,
    seal: &StoredSeal,
    only: Option<&str>,
    faults: &mut Vec<Fault>,
) -> Vec<(u16, OperatorSeal)> {
    let mut chosen = Vec::new();
    for sealed in seal.seal.operators.iter().filter(|sealed| only.is_none_or(|id| sealed.operator_id == id)) {
        match registry_number(committed, &sealed.operator_id) {
            Some(number) => chosen.push((number, sealed.clone())),
            None => faults.push(Fault {
                bucket_hour: seal.seal.bucket_hour,
                operator: Some(sealed.operator_id.clone()),
                cdr_sequence: None,
                cdr_id: None,
                what: "seal".to_owned(),
                why: "the operator is not in the registry".to_owned(),
            }),
        }
    }
    chosen
}

/// Compares trees, and at depth rows also rows and indexes, with the seal.
fn check_content(
    scope: &HourScope<'_>,
    depth: Depth,
    threads: usize,
    faults: &mut Vec<Fault>,
) -> Result<(), StoreError> {
    let trees = in_parallel(threads, scope.operators.len(), |task| match depth {
        Depth::Roots => tree::check_root(scope, task),
        Depth::Leaves | Depth::Rows => tree::check_leaves(scope, task),
    });
    faults.extend(trees.into_iter().flatten());
    if depth == Depth::Rows {
        rows::check_rows(scope, threads, faults)?;
    }
    Ok(())
}

/// Runs `tasks` tasks on up to `threads` threads; the outcomes come in the order of the tasks.
pub(crate) fn in_parallel<T: Send>(threads: usize, tasks: usize, run: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::with_capacity(tasks));
    let work = || {
        loop {
            let task = next.fetch_add(1, Relaxed);
            if task >= tasks {
                return;
            }
            let outcome = run(task);
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((task, outcome));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(tasks) {
            scope.spawn(work);
        }
        work();
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_unstable_by_key(|(task, _)| *task);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}
