//! Every stored byte matters: verification finds each change, and nothing panics on any.

use super::super::geometry::offset;
use super::super::keys::{self, Table};
use super::*;

fn values(fixture: &Fixture, name: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let column = fixture.db.cf_handle(name).unwrap();
    let items = fixture.db.iterator_cf(column, rocksdb::IteratorMode::Start);
    items.map(|item| item.unwrap()).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn put(fixture: &Fixture, key: &[u8], value: &[u8]) {
    fixture.db.put_cf(fixture.db.cf_handle(CF_INDEX).unwrap(), key, value).unwrap();
}

fn delete(fixture: &Fixture, key: &[u8]) {
    fixture.db.delete_cf(fixture.db.cf_handle(CF_INDEX).unwrap(), key).unwrap();
}

/// Runs of two levels and a tail in memory.
fn fixture() -> Fixture {
    let mut fixture = Fixture::new(small(32, 2));
    fixture.append(100);
    fixture.settle();
    assert_eq!(fixture.index.run_count(), 2);
    // A fresh copy: in this one the sources of the merge may still be waiting to be deleted.
    fixture.fork()
}

/// Uses every way to read, and ignores the answers.
fn read_everything(fixture: &Fixture) {
    for row in &fixture.rows {
        for lookup in [Lookup::CdrId(row.cdr_id), Lookup::MsisdnTo(row.msisdn_to.unwrap_or_default())] {
            let _ = fixture.index.candidates(lookup, fixture.all(), true).unwrap().count();
        }
    }
    for operator in 0..4 {
        let _ = fixture.index.postings(PostingKey::Operator(operator), fixture.all()).unwrap().count();
    }
    let _ = fixture.index.event_blocks(Millis(0), Millis(i64::MAX), fixture.all()).unwrap().count();
}

#[test]
fn every_altered_byte_is_found() {
    let fixture = fixture();
    for (key, value) in values(&fixture, CF_INDEX) {
        for at in 0..value.len() {
            for flip in [0x01, 0x80] {
                let mut altered = value.clone();
                altered[at] ^= flip;
                put(&fixture, &key, &altered);
                let faults = fixture.faults(fixture.all());
                assert!(!faults.is_empty(), "{}: byte {at} ^ {flip:#x}", keys::describe(&key));
                if let Some(ordinal) = entry_at(&key, &value, at) {
                    let named = faults.iter().any(|fault| fault.ordinals == (ordinal..ordinal + 1));
                    assert!(named, "row {ordinal} is not named: {faults:?}");
                }
            }
            if at % 16 == 0 {
                read_everything(&fixture);
            }
        }
        put(&fixture, &key, &value);
    }
    assert_eq!(fixture.faults(fixture.all()), Vec::new());
}

/// The row whose entry has byte `at` of a chunk.
fn entry_at(key: &[u8], value: &[u8], at: usize) -> Option<u64> {
    let (level, first, _) = Table::ALL.into_iter().find_map(|table| keys::parse_chunk(table, key))?;
    let entry = value[1..].chunks(8).nth(at.checked_sub(1)? / 8)?;
    Some(first + offset(u64::from_le_bytes(entry.try_into().unwrap()), 5 + u32::from(level)))
}

#[test]
fn every_missing_or_foreign_value_is_found() {
    let fixture = fixture();
    for (key, value) in values(&fixture, CF_INDEX) {
        delete(&fixture, &key);
        assert!(!fixture.faults(fixture.all()).is_empty(), "{}", keys::describe(&key));
        put(&fixture, &key, &value);
        let mut foreign = key.clone();
        let name_or_chunk =
            if key[0] == keys::TAG_ZONES { continue } else { foreign.len() - 9..foreign.len() };
        if key[0] <= 0x23 {
            foreign[13] += 1;
        } else {
            foreign[8] ^= 1 << 6;
        }
        put(&fixture, &foreign, &value);
        assert!(!fixture.faults(fixture.all()).is_empty(), "{} {name_or_chunk:?}", keys::describe(&foreign));
        delete(&fixture, &foreign);
        assert_eq!(fixture.faults(fixture.all()), Vec::new());
    }
}

#[test]
fn altered_run_records_are_refused_or_found() {
    let fixture = fixture();
    fixture.flush();
    let meta = fixture.db.cf_handle(CF_META).unwrap();
    for (key, value) in values(&fixture, CF_META).into_iter().filter(|(key, _)| key.starts_with(b"index/")) {
        for at in 0..value.len() {
            let mut altered = value.clone();
            altered[at] ^= 0x40;
            fixture.db.put_cf(meta, &key, &altered).unwrap();
            let Ok(index) = Index::open(Arc::clone(&fixture.db), HASH_KEY, fixture.options, 100) else {
                continue;
            };
            index.add_all(&fixture.rows[index.tail_from() as usize..]).unwrap();
            let faults = index.verify(0..100, fixture.rows.clone()).unwrap();
            assert!(!faults.is_empty(), "{} byte {at}", keys::describe(&key));
        }
        fixture.db.put_cf(meta, &key, &value).unwrap();
    }
}

#[test]
fn a_damaged_source_stops_the_merge_and_says_so() {
    let mut fixture = Fixture::new(small(32, 2));
    fixture.append(32);
    let (key, mut value) = values(&fixture, CF_INDEX).remove(0);
    value.truncate(value.len() - 3);
    put(&fixture, &key, &value);
    fixture.append(32);
    let deadline = Instant::now() + Duration::from_secs(10);
    let error = loop {
        if let Err(error) = fixture.commit() {
            break error;
        }
        assert!(Instant::now() < deadline, "the merge goes on");
        std::thread::yield_now();
    };
    assert!(error.to_string().contains("cdrId chunk 0 of run 0"), "{error}");
    assert!(fixture.commit().is_err(), "the failure stays");
}

#[test]
fn an_altered_row_differs_from_its_entries() {
    let fixture = fixture();
    let mut rows = fixture.rows.clone();
    rows[70].msisdn_to = Some([3; 32]);
    rows[99].operator = 4;
    let faults = fixture.index.verify(0..100, rows).unwrap();
    let mut named: Vec<(u64, &str)> =
        faults.iter().map(|fault| (fault.ordinals.start, fault.index)).collect();
    named.dedup();
    assert_eq!(named, [(70, "msisdnHashTo"), (99, "operatorId")]);
    let without: Vec<RowKeys> = fixture.rows.iter().filter(|row| row.ordinal != 40).cloned().collect();
    let faults = fixture.index.verify(0..100, without).unwrap();
    assert!(faults.iter().any(|fault| fault.ordinals == (40..41) && fault.index == "cdrId"), "{faults:?}");
}
