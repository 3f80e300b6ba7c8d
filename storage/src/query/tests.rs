//! Net effect: rows that no adjustment names, with every other filter, over any paging.

use super::*;
use crate::files;
use crate::generation::{Present, row_keys};
use crate::hours::Committed;
use crate::keys::CF_ROWS;
use crate::options::StoreOptions;
use crate::page::PageWriter;
use crate::schema::{column, write_options};
use cdr_core::apply::NewRow;
use cdr_core::command::{ClockKind, DraftsBuffer};
use cdr_core::personal::Salt;
use cdr_core::row::{Adjustment, BillingIndicator, ChargeType, Direction, Draft, Encoding, Place, Record};
use cdr_core::rules::SchemaVersion;
use cdr_core::state::Cluster;
use rocksdb::WriteBatch;
use std::sync::Arc;

const HOUR: Hour = Hour(494_000);
const OPERATOR: &str = "AWCC";

/// A row, by numbers of rows before it.
#[derive(Clone, Copy, Debug)]
struct Planned {
    message: u8,
    of: Option<(usize, AdjustmentType)>,
    state: FinalState,
}

fn id(number: usize) -> CdrId {
    CdrId::from_parts(HOUR.start().0 + number as i64, [number as u8; 10])
}

fn sms(planned: &Planned) -> Sms<'static> {
    Sms {
        message_id: Uuid([planned.message; 16]),
        calling_party: "GHASI",
        called_party: "+93701234567",
        recording_entity: "E",
        service_center: "+93700000000",
        message_reference: "r",
        event_at: HOUR.start(),
        local_offset_minutes: 270,
        charge_type: ChargeType::A2p,
        billing_indicator: BillingIndicator::Unknown,
        direction: Direction::Mt,
        encoding: Encoding::Gsm7,
        final_state: planned.state,
        segment_count: 1,
        adjustment: planned.of.map(|(of, kind)| Adjustment {
            of: id(of),
            kind,
            reason: Some("a reason"),
            void_reason: None,
            ticket_id: Some("T-1"),
            issued_by: Some("tester"),
            approver: None,
        }),
        ..Sms::BLANK
    }
}

/// A database with these rows in its open hour.
fn filled(plan: &[Planned]) -> (tempfile::TempDir, Generation) {
    let dir = tempfile::tempdir().unwrap();
    // Small blocks, so that some rows are looked up in stored runs and some in memory.
    let options =
        StoreOptions { index_block_rows: 64, block_cache_bytes: 1 << 20, ..StoreOptions::default() };
    let generation =
        Generation::open(files::open_current(dir.path(), options.build).unwrap(), &options).unwrap();
    let cluster = Cluster {
        cluster_id: "test".to_owned(),
        generation: 1,
        zone: "UTC".to_owned(),
        clock: ClockKind::Replay,
        dedup_horizon_hours: 1,
        hash_key: [3; 16],
    };
    let mut state = LedgerState::begin(cluster, 1, HOUR.start());
    let index = generation.begin_index(&state, &options).unwrap();
    let mut drafts = DraftsBuffer::default();
    for (number, planned) in plan.iter().enumerate() {
        let record = Record::Sms(sms(planned));
        let salt = Salt::default();
        let draft = Draft {
            version: SchemaVersion::V2,
            cdr_id: id(number),
            operator_id: OPERATOR,
            trace_id: "t",
            salt,
            record,
        };
        drafts.push(number as u32, &draft).unwrap();
    }
    let items = drafts.drafts().decode().unwrap();
    let rows: Vec<NewRow<'_>> = (0u64..)
        .zip(items)
        .map(|(ordinal, item)| {
            let place = Place {
                bucket_hour: HOUR,
                sequence: ordinal + 1,
                chain_prev: [0; 32],
                recorded_at: HOUR.start(),
                source_stream: "S",
                source_sequence: ordinal + 1,
            };
            let row = Row::from_draft(item.draft, place);
            let (operator, row_hash, draft_bytes) = (0, [0; 32], item.bytes);
            NewRow { ordinal, operator, leaf_index: ordinal, row_hash, row, draft_bytes, supersedes: None }
        })
        .collect();
    let mut batch = WriteBatch::default();
    let family = column(&generation.db, CF_ROWS).unwrap();
    PageWriter::default().write(&rows, 7, |key, page| batch.put_cf(family, key, page));
    for row in &rows {
        index.add(&row_keys(row.ordinal, row.operator, &row.row)).unwrap();
    }
    index.commit(&mut batch).unwrap();
    generation.db.write_opt(batch, &write_options()).unwrap();
    index.committed();
    (state.head.open_rows, state.head.row_count) = (plan.len() as u64, plan.len() as u64);
    let committed = Committed { state: Arc::new(state), sealed: Arc::default() };
    generation.publish(Present { committed, raft_meta: None });
    (dir, generation)
}

/// Numbers of the rows that a query gives, over all its pages; and how many pages had none.
fn run(generation: &Generation, filter: &RecordFilter, limit: usize, scan: usize) -> (Vec<usize>, usize) {
    let (mut after, mut found, mut empty) = (None, Vec::new(), 0);
    loop {
        let page = run_query(generation, filter, after, limit, scan).unwrap();
        assert!(page.rows.len() <= limit);
        empty += usize::from(page.rows.is_empty());
        found.extend(page.rows.iter().map(|row| row.ordinal() as usize));
        assert!(page.next.is_none_or(|next| after.is_none_or(|after| next > after)), "it goes on");
        after = page.next;
        if after.is_none() {
            return (found, empty);
        }
    }
}

fn original(message: u8) -> Planned {
    Planned { message, of: None, state: FinalState::Failed }
}

fn adjustment(message: u8, of: usize, kind: AdjustmentType) -> Planned {
    Planned { message, of: Some((of, kind)), state: FinalState::Delivered }
}

#[test]
fn only_the_latest_row_of_a_message_counts() {
    let plan = [
        original(0),
        original(1),
        original(2),
        adjustment(0, 0, AdjustmentType::Correction),
        adjustment(1, 1, AdjustmentType::Void),
        adjustment(0, 3, AdjustmentType::ReRate),
    ];
    let (_dir, generation) = filled(&plan);
    let net = RecordFilter { latest_only: true, ..RecordFilter::default() };
    let of = |filter: &RecordFilter| run(&generation, filter, 10, 1_000).0;
    assert_eq!(of(&RecordFilter::default()), [0, 1, 2, 3, 4, 5]);
    assert_eq!(of(&net), [2, 4, 5]);
    let message = |m: u8| RecordFilter { message_id: Some(Uuid([m; 16])), ..net.clone() };
    assert_eq!((of(&message(0)), of(&message(1)), of(&message(2))), (vec![5], vec![4], vec![2]));
    let failed = RecordFilter { state: Some(FinalState::Failed), ..net.clone() };
    assert_eq!(of(&failed), [2], "an adjusted original is left out, though its adjustment does not fit");
    let corrections = RecordFilter { adjustment_type: Some(AdjustmentType::Correction), ..net.clone() };
    assert!(of(&corrections).is_empty(), "the correction was adjusted again");
    let (found, empty) = run(&generation, &net, 1, 1);
    assert_eq!((found.as_slice(), empty), ([2, 4, 5].as_slice(), 3), "empty pages lead on");
}

#[test]
fn net_effect_of_many_rows_over_any_paging() {
    let mut random = 7u64;
    let mut below = move |bound: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % bound
    };
    let mut plan: Vec<Planned> = Vec::new();
    let mut latest: Vec<usize> = Vec::new();
    for number in 0..250 {
        if latest.len() > 5 && below(2) == 0 {
            let at = below(latest.len());
            let of = std::mem::replace(&mut latest[at], number);
            plan.push(adjustment(plan[of].message, of, AdjustmentType::Correction));
        } else {
            plan.push(original(number as u8));
            latest.push(number);
        }
    }
    latest.sort_unstable();
    let (_dir, generation) = filled(&plan);
    for state in [None, Some(FinalState::Failed), Some(FinalState::Delivered)] {
        let filter = RecordFilter { latest_only: true, state, ..RecordFilter::default() };
        let fits = |number: &usize| state.is_none_or(|state| plan[*number].state == state);
        let expected: Vec<usize> = latest.iter().copied().filter(fits).collect();
        for (limit, scan) in [(500, 100_000), (3, 100_000), (500, 40), (1, 1)] {
            assert_eq!(run(&generation, &filter, limit, scan).0, expected, "{state:?} {limit} {scan}");
        }
    }
}
