//! Filters, cursors and look-ups against a plain scan; proofs against the whole tree.

use crate::support::{HORIZON_HOURS, Random, START, catch_up, history, open, options};
use cdr_core::hash::sha256;
use cdr_core::merkle::InclusionProof;
use cdr_core::row::FinalState;
use cdr_core::{Hour, Millis};
use cdr_storage::{RecordFilter, Store, StoreError, StoreOptions, StoredRow};

const HOURS: u32 = 4;

fn all_rows(store: &Store) -> Vec<StoredRow> {
    let state = store.state();
    let hours = (state.head.first_hour.0..=state.head.open_hour.0).map(Hour);
    hours.flat_map(|hour| (1..).map_while(move |n| store.row_at(hour, n).unwrap())).collect()
}

/// Every page of a query, and whether each page kept to the limit.
fn run(store: &Store, filter: &RecordFilter, limit: usize) -> Vec<(Hour, u64)> {
    let (mut after, mut found) = (None, Vec::new());
    for _ in 0..100_000 {
        let page = store.query(filter, after, limit).unwrap();
        assert!(page.rows.len() <= limit);
        found.extend(page.rows.iter().map(|row| (row.hour(), row.sequence())));
        assert!(page.next.is_none_or(|next| after.is_none_or(|after| next > after)), "it goes on");
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
    panic!("the query does not end");
}

/// A filter on some fields, with values that some row has.
fn random_filter(random: &mut Random, rows: &[StoredRow]) -> RecordFilter {
    let model = loop {
        let row = &rows[random.below(rows.len() as u64) as usize];
        if row.row().unwrap().sms().is_some() {
            break row.row().unwrap();
        }
    };
    let sms = model.sms().unwrap();
    let mut filter = RecordFilter::default();
    let mut chosen = |share: u64| random.below(share) == 0;
    filter.tenant_id = sms.tenant_id.filter(|_| chosen(3));
    filter.operator_id = Some(model.frame.operator_id.to_owned()).filter(|_| chosen(3));
    filter.message_id = Some(sms.message_id).filter(|_| chosen(6));
    filter.msisdn_hash_to = Some(sha256(sms.called_party.as_bytes())).filter(|_| chosen(4));
    filter.state = Some(FinalState::Failed).filter(|_| chosen(4));
    filter.event_from = Some(sms.event_at).filter(|_| chosen(4));
    filter.event_to = Some(Millis(sms.event_at.0 + 600_000)).filter(|_| chosen(3));
    filter.bucket_hour_from = Some(model.frame.bucket_hour).filter(|_| chosen(4));
    filter.bucket_hour_to = Some(model.frame.bucket_hour).filter(|_| chosen(4));
    filter.include_system = chosen(4);
    filter
}

#[test]
fn filters_give_what_a_plain_scan_gives() {
    let (log, _) = history(21, HOURS, 7, 60);
    let dir = tempfile::tempdir().unwrap();
    // A small scan budget: many pages end without being full.
    let store = Store::open(dir.path(), StoreOptions { query_scan_rows: 37, ..options() }).unwrap();
    catch_up(&store, &log);
    let rows = all_rows(&store);
    let mut random = Random(8);
    for round in 0..300 {
        let filter = random_filter(&mut random, &rows);
        let expected: Vec<(Hour, u64)> = rows
            .iter()
            .filter(|row| filter.fits(&row.row().unwrap()))
            .map(|row| (row.hour(), row.sequence()))
            .collect();
        let limit = 1 + random.below(40) as usize;
        assert_eq!(run(&store, &filter, limit), expected, "round {round}: {filter:?}");
    }
    let unknown = RecordFilter { operator_id: Some("NOBODY".to_owned()), ..RecordFilter::default() };
    assert!(run(&store, &unknown, 10).is_empty());
    let system = RecordFilter { include_system: true, ..RecordFilter::default() };
    assert_eq!(run(&store, &system, 500).len(), rows.len());
    let records = run(&store, &RecordFilter::default(), 500).len();
    assert_eq!(rows.len() - records, 5 + 2 * HOURS as usize, "system rows are left out");
}

#[test]
fn a_cursor_is_a_place_not_a_number_of_rows() {
    let (log, _) = history(22, 2, 3, 40);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    catch_up(&store, &log[..4]);
    let first = store.query(&RecordFilter::default(), None, 30).unwrap();
    let next = first.next.unwrap();
    assert_eq!(first.rows.last().map(|row| (row.hour(), row.sequence())), Some(next));
    catch_up(&store, &log);
    let more = store.query(&RecordFilter::default(), Some(next), 1).unwrap();
    assert_eq!((more.rows[0].hour(), more.rows[0].sequence()), (START, next.1 + 1));
    let exact =
        store.query(&RecordFilter::default(), None, more.rows[0].ordinal() as usize + 100_000).unwrap();
    assert_eq!(exact.next, None);
}

#[test]
fn rows_are_found_by_id_and_strangers_are_not() {
    let (log, _) = history(23, HOURS + HORIZON_HOURS, 5, 50);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    catch_up(&store, &log);
    for stored in all_rows(&store).iter().step_by(7) {
        let id = stored.row().unwrap().frame.cdr_id;
        let found = store.row_by_id(id).unwrap().unwrap();
        assert_eq!((found.hour(), found.sequence()), (stored.hour(), stored.sequence()));
        let mut stranger = id;
        stranger.0[15] ^= 1;
        assert!(store.row_by_id(stranger).unwrap().is_none());
    }
}

#[test]
fn proofs_are_those_of_the_whole_tree() {
    // 700 rows an hour and operator: above two complete groups of 256 leaves.
    let (log, ledger) = history(24, 2, 5, 300);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    catch_up(&store, &log);
    let rows = all_rows(&store);
    for (hour, closed) in &ledger.seals {
        for sealed in &closed.seal.operators {
            let of_operator = |row: &&StoredRow| {
                row.hour() == *hour && row.row().unwrap().frame.operator_id == sealed.operator_id
            };
            let leaves: Vec<_> =
                rows.iter().filter(of_operator).map(|row| ledger.rows[row.ordinal() as usize].1).collect();
            assert_eq!(leaves.len() as u64, sealed.record_count);
            let picks = [0, 1, 254, 255, 256, 257, 511, 512, 600, leaves.len().saturating_sub(1)];
            for leaf in picks.into_iter().filter(|leaf| *leaf < leaves.len()) {
                let proof = store.inclusion_proof(*hour, &sealed.operator_id, leaf as u64).unwrap();
                assert_eq!(Some(&proof), InclusionProof::from_leaves(leaf as u64, &leaves).as_ref());
                assert!(proof.verify(&leaves[leaf], sealed.record_count, &sealed.bucket_root));
            }
            let beyond = store.inclusion_proof(*hour, &sealed.operator_id, sealed.record_count);
            assert!(matches!(beyond, Err(StoreError::Unknown { .. })));
        }
    }
    let open_hour = store.state().head.open_hour;
    assert!(matches!(store.inclusion_proof(open_hour, "MTN", 0), Err(StoreError::NotSealed { .. })));
    assert!(matches!(store.inclusion_proof(START, "NOBODY", 0), Err(StoreError::Unknown { .. })));
    assert_eq!(store.seals(START, open_hour).count(), 2);
}
