//! Every table: changed bytes, deleted values, unreadable blocks and lost files are found and named.

use crate::support::{Random, START, World, catch_up, history, open, options};
use cdr_core::memory::MemoryLedger;
use cdr_core::{Hour, Millis};
use cdr_storage::keys::{self, CF_INDEX, CF_LEAVES, CF_ROWS, CF_SEALS};
use cdr_storage::{Depth, Fault, Store};
use rocksdb::{DB, IteratorMode, Options};
use std::fs;
use std::path::Path;

const HOURS: u32 = 3;
/// The hour that is damaged.
const HOUR: Hour = Hour(START.0 + 1);

/// A store whose rows are all on disk.
fn filled(rows: u32) -> (tempfile::TempDir, MemoryLedger) {
    let (log, ledger) = history(5, HOURS, 6, rows);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    catch_up(&store, &log);
    store.flush().unwrap();
    (dir, ledger)
}

/// Opens the tables directly, with the store closed.
fn with_tables<T>(dir: &Path, change: impl FnOnce(&DB) -> T) -> T {
    let mut options = Options::default();
    options.set_atomic_flush(true);
    let db = DB::open_cf(&options, dir.join("ledger-1"), keys::COLUMN_FAMILIES).unwrap();
    let outcome = change(&db);
    drop(db);
    outcome
}

fn keys_of(db: &DB, family: &str, tag: u8) -> Vec<(Vec<u8>, Vec<u8>)> {
    let family = db.cf_handle(family).unwrap();
    let items = db.iterator_cf(family, IteratorMode::Start).map(|item| item.unwrap());
    items.filter(|(key, _)| key[0] == tag).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn of_hour(items: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    items.into_iter().filter(|(key, _)| key[1..5] == HOUR.0.to_be_bytes()).collect()
}

fn verify(store: &Store, depth: Depth) -> Vec<Fault> {
    let last = Hour(START.0 + HOURS - 1);
    store.verify_range(START, last, None, depth).unwrap().faults
}

fn put(dir: &Path, family: &str, key: &[u8], value: &[u8]) {
    with_tables(dir, |db| db.put_cf(db.cf_handle(family).unwrap(), key, value).unwrap());
}

fn delete(dir: &Path, family: &str, key: &[u8]) {
    with_tables(dir, |db| db.delete_cf(db.cf_handle(family).unwrap(), key).unwrap());
}

#[test]
fn an_intact_store_has_no_faults_at_any_depth() {
    let (dir, _) = filled(80);
    let store = open(dir.path());
    for depth in [Depth::Roots, Depth::Leaves, Depth::Rows] {
        assert_eq!(verify(&store, depth), [], "{depth:?}");
        let report = store.verify_hour(HOUR, Some("MTN"), depth).unwrap();
        assert_eq!(report.faults, []);
        let sealed = store.seal(HOUR).unwrap().unwrap();
        assert_eq!(report.rows_checked, sealed.seal.operator("MTN").unwrap().record_count);
        assert_eq!(report.sealed.unwrap().seal_hash, sealed.seal_hash);
    }
    assert!(store.verify_hour(Hour(START.0 + HOURS), None, Depth::Rows).is_err(), "open");
    assert!(store.verify_hour(Hour(START.0 - 1), None, Depth::Rows).is_err(), "before the first");
    assert!(store.verify_hour(HOUR, Some("NOBODY"), Depth::Rows).is_err());
}

#[test]
fn an_hour_whose_seal_names_no_key_is_whole_without_a_signature() {
    let mut world = World::new(8);
    world.key_from = START.next();
    let (mut ledger, mut log) = (MemoryLedger::default(), world.beginning());
    world.now = Millis(Hour(START.0 + 2).start().0 + 500);
    log.push(world.seal());
    for (index, entry) in (1..).zip(&log) {
        ledger.apply_entry(index, 1, entry).unwrap();
    }
    world.next_unsigned = ledger.state.head.next_unsigned;
    log.extend(world.sign(&ledger));
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    catch_up(&store, &log);
    let signed = |hour| store.seal(hour).unwrap().unwrap().signature.is_some();
    assert_eq!([signed(START), signed(START.next())], [false, true]);
    assert_eq!(store.verify_range(START, START.next(), None, Depth::Rows).unwrap().faults, []);
}

/// Any byte of any page: one fault or more, and the first names a row of that page and what belongs to it.
#[test]
fn every_changed_byte_of_a_row_page_is_named() {
    let (dir, _) = filled(30);
    let pages = with_tables(dir.path(), |db| of_hour(keys_of(db, CF_ROWS, keys::TAG_PAGE)));
    let (key, page) = &pages[pages.len() / 2];
    let (_, first) = keys::parse_page(key).unwrap();
    let count = u64::from(u16::from_le_bytes([page[1], page[2]]));
    let mut random = Random(1);
    for at in (0..page.len()).filter(|at| *at < 100 || at % 13 == 0) {
        let mut changed = page.clone();
        changed[at] ^= 1 << random.below(8);
        put(dir.path(), CF_ROWS, key, &changed);
        let faults = verify(&open(dir.path()), Depth::Rows);
        let fault = faults.iter().find(|fault| fault.cdr_sequence.is_some());
        let fault = fault.unwrap_or_else(|| panic!("byte {at}: {faults:?}"));
        let sequence = fault.cdr_sequence.unwrap();
        assert_eq!(fault.bucket_hour, HOUR, "byte {at}: {faults:?}");
        assert!((first..first + count).contains(&sequence), "byte {at}: {faults:?}");
    }
    put(dir.path(), CF_ROWS, key, page);
    assert_eq!(verify(&open(dir.path()), Depth::Rows), []);
}

#[test]
fn a_changed_field_names_exactly_that_row() {
    let (dir, ledger) = filled(30);
    let pages = with_tables(dir.path(), |db| of_hour(keys_of(db, CF_ROWS, keys::TAG_PAGE)));
    let (key, page) = &pages[3];
    let (_, first) = keys::parse_page(key).unwrap();
    // The currency of the page's third row that has a price.
    let places: Vec<usize> =
        page.windows(3).enumerate().filter(|(_, w)| *w == b"AFN").map(|(at, _)| at).collect();
    let mut changed = page.clone();
    changed[places[2]] = b'B';
    // With a right checksum: only the hash can tell.
    let end = changed.len() - 4;
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(&changed[..end]);
    changed[end..].copy_from_slice(&crc.finalize().to_le_bytes());
    put(dir.path(), CF_ROWS, key, &changed);
    let store = open(dir.path());
    assert_eq!(store.poisoned(), None, "a row that decodes can be indexed");
    let faults = verify(&store, Depth::Rows);
    assert_eq!(faults.len(), 1, "{faults:?}");
    let text = |sequence| {
        let row = store.row_at(HOUR, sequence).unwrap().unwrap();
        String::from_utf8(ledger.rows[row.ordinal() as usize].0.clone()).unwrap()
    };
    let is_priced = |sequence: &u64| text(*sequence).contains("\"chargeCurrency\":\"AFN\"");
    let third = (first..).filter(is_priced).nth(2).unwrap();
    let expected = text(third);
    assert_eq!((faults[0].what.as_str(), faults[0].cdr_sequence), ("row", Some(third)));
    assert!(expected.contains(faults[0].cdr_id.as_ref().unwrap()));
    assert!(expected.contains(&format!("\"operatorId\":\"{}\"", faults[0].operator.as_ref().unwrap())));
    assert_eq!(verify(&store, Depth::Leaves), [], "the row hashes are right");
}

#[test]
fn missing_and_cut_pages_are_named() {
    let (dir, _) = filled(30);
    let pages = with_tables(dir.path(), |db| of_hour(keys_of(db, CF_ROWS, keys::TAG_PAGE)));
    for at in [0, 4, pages.len() - 1] {
        let (key, page) = &pages[at];
        let (_, first) = keys::parse_page(key).unwrap();
        delete(dir.path(), CF_ROWS, key);
        let store = open(dir.path());
        let faults = verify(&store, Depth::Rows);
        assert!(faults.iter().any(|f| f.cdr_sequence == Some(first) && f.what == "row page"), "{faults:?}");
        assert!(store.row_at(HOUR, first).is_err(), "a lost row is an error, not an absence");
        drop(store);
        for len in [0, 1, 20, page.len() / 2, page.len() - 1] {
            put(dir.path(), CF_ROWS, key, &page[..len]);
            let faults = verify(&open(dir.path()), Depth::Rows);
            let in_page = |f: &Fault| f.cdr_sequence.is_some_and(|n| (first..first + 7).contains(&n));
            assert!(faults.iter().any(in_page), "cut to {len}: {faults:?}");
        }
        put(dir.path(), CF_ROWS, key, page);
    }
    assert_eq!(verify(&open(dir.path()), Depth::Rows), []);
}

#[test]
fn changed_row_hashes_are_told_from_changed_rows() {
    let (dir, _) = filled(30);
    let chunks = with_tables(dir.path(), |db| of_hour(keys_of(db, CF_LEAVES, keys::TAG_LEAVES)));
    let (key, chunk) = chunks.iter().find(|(_, chunk)| chunk.len() > 128).unwrap();
    let (_, number, first) = keys::parse_leaves(key).unwrap();
    let mut changed = chunk.clone();
    changed[40] ^= 4;
    put(dir.path(), CF_LEAVES, key, &changed);
    let store = open(dir.path());
    let operator = store.state().registry[usize::from(number)].operator_id.clone();
    for depth in [Depth::Roots, Depth::Leaves, Depth::Rows] {
        let faults = verify(&store, depth);
        assert!(
            faults.iter().any(|f| f.operator.as_ref() == Some(&operator) && f.bucket_hour == HOUR),
            "{depth:?}"
        );
    }
    let faults = verify(&store, Depth::Rows);
    let named: Vec<&Fault> = faults.iter().filter(|fault| fault.cdr_sequence.is_some()).collect();
    assert_eq!(named.len(), 1, "{faults:?}");
    let row = store.row_at(HOUR, named[0].cdr_sequence.unwrap()).unwrap().unwrap();
    assert_eq!((row.operator(), row.leaf_index()), (number, first + 1));
    assert_eq!((named[0].what.as_str(), named[0].operator.as_ref()), ("row hash", Some(&operator)));
    drop(store);
    for len in [0, 31, 64] {
        put(dir.path(), CF_LEAVES, key, &chunk[..len]);
        let faults = verify(&open(dir.path()), Depth::Rows);
        assert!(
            faults.iter().any(|f| f.what == "row hash" && f.cdr_sequence.is_some()),
            "cut to {len}: {faults:?}"
        );
    }
    delete(dir.path(), CF_LEAVES, key);
    let faults = verify(&open(dir.path()), Depth::Rows);
    assert!(faults.iter().any(|f| f.what == "row hash" && f.cdr_sequence.is_some()), "{faults:?}");
}

#[test]
fn changed_subtree_roots_are_told_from_changed_leaves() {
    let (dir, _) = filled(200);
    let roots = with_tables(dir.path(), |db| of_hour(keys_of(db, CF_LEAVES, keys::TAG_SUBTREE)));
    let (key, root) = &roots[0];
    let mut changed = root.clone();
    changed[9] ^= 1;
    for value in [Some(&changed[..]), Some(&root[..31]), None] {
        match value {
            Some(value) => put(dir.path(), CF_LEAVES, key, value),
            None => delete(dir.path(), CF_LEAVES, key),
        }
        let store = open(dir.path());
        assert!(!verify(&store, Depth::Roots).is_empty());
        for depth in [Depth::Leaves, Depth::Rows] {
            let faults = verify(&store, depth);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert_eq!((faults[0].what.as_str(), faults[0].bucket_hour), ("subtree root", HOUR));
        }
    }
}

#[test]
fn every_changed_byte_of_a_seal_or_signature_is_named() {
    let (dir, _) = filled(20);
    let mut random = Random(2);
    for (key, name) in [(keys::seal(HOUR), "seal"), (keys::signature(HOUR), "signature")] {
        let value =
            with_tables(dir.path(), |db| db.get_cf(db.cf_handle(CF_SEALS).unwrap(), key).unwrap().unwrap());
        for at in (0..value.len()).filter(|at| *at < 60 || at % 17 == 0) {
            let mut changed = value.clone();
            changed[at] ^= 1 << random.below(8);
            put(dir.path(), CF_SEALS, &key, &changed);
            let store = open(dir.path());
            let faults = verify(&store, Depth::Roots);
            assert!(
                faults.iter().any(|f| f.bucket_hour == HOUR && f.what == name),
                "{name} {at}: {faults:?}"
            );
            assert!(store.row_at(HOUR, 1).unwrap().is_some(), "rows stay readable");
        }
        delete(dir.path(), CF_SEALS, &key);
        let faults = verify(&open(dir.path()), Depth::Rows);
        assert!(faults.iter().any(|f| f.bucket_hour == HOUR && f.what == name), "{faults:?}");
        put(dir.path(), CF_SEALS, &key, &value);
    }
    assert_eq!(verify(&open(dir.path()), Depth::Rows), []);
}

/// A seal that was replaced by another whole one, hash and checksum included.
#[test]
fn a_forged_seal_breaks_the_chain() {
    let (dir, _) = filled(20);
    let (other_dir, _) = {
        let (log, ledger) = history(6, HOURS, 6, 20);
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        catch_up(&store, &log);
        store.flush().unwrap();
        (dir, ledger)
    };
    let last = Hour(START.0 + HOURS - 1);
    for hour in [START, HOUR, last] {
        let key = keys::seal(hour);
        let read = |dir: &Path| {
            with_tables(dir, |db| db.get_cf(db.cf_handle(CF_SEALS).unwrap(), key).unwrap().unwrap())
        };
        let (own, foreign) = (read(dir.path()), read(other_dir.path()));
        put(dir.path(), CF_SEALS, &key, &foreign);
        let store = open(dir.path());
        let report = store.verify_hour(hour, None, Depth::Roots).unwrap();
        assert!(report.faults.iter().any(|fault| fault.what == "chain"), "{:?}", report.faults);
        assert!(report.faults.iter().any(|fault| fault.what == "signature"), "{:?}", report.faults);
        drop(store);
        put(dir.path(), CF_SEALS, &key, &own);
    }
}

/// Every value of the index: changed or deleted, a row (or its range) is named at depth rows.
#[test]
fn changed_index_values_are_named() {
    let (dir, _) = filled(30);
    let mut random = Random(3);
    let values: Vec<(Vec<u8>, Vec<u8>)> = with_tables(dir.path(), |db| {
        let items = db.iterator_cf(db.cf_handle(CF_INDEX).unwrap(), IteratorMode::Start);
        items.map(|item| item.unwrap()).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    });
    assert!(values.len() > 20, "{}", values.len());
    for (key, value) in values.iter().step_by(2) {
        let at = random.below(value.len().max(1) as u64) as usize;
        let changed =
            value.iter().enumerate().map(|(i, b)| if i == at { b ^ 0x10 } else { *b }).collect::<Vec<u8>>();
        put(dir.path(), CF_INDEX, key, &changed);
        let store = open(dir.path());
        let faults = verify(&store, Depth::Rows);
        assert!(!faults.is_empty() || value.is_empty(), "key {key:?}, byte {at}");
        assert!(faults.iter().all(|f| f.what == "index" && f.cdr_sequence.is_some()), "{faults:?}");
        drop(store);
        put(dir.path(), CF_INDEX, key, value);
    }
    assert_eq!(verify(&open(dir.path()), Depth::Rows), []);
}

/// Bytes that the file system gives back wrong: RocksDB refuses the block, the report names what was in it.
#[test]
fn flipped_bytes_in_table_files_are_faults_not_failures() {
    let (dir, _) = filled(120);
    let tables: Vec<_> = fs::read_dir(dir.path().join("ledger-1"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "sst"))
        .collect();
    let mut random = Random(4);
    let mut found = 0;
    for table in &tables {
        let size = fs::metadata(table).unwrap().len();
        // The blocks are at the file's beginning; damage to its end keeps the table from being opened at all.
        for _ in 0..4 {
            let copy = crate::support::crashed_copy(dir.path());
            let path = copy.path().join("ledger-1").join(table.file_name().unwrap());
            let mut bytes = fs::read(&path).unwrap();
            bytes[random.below(size * 3 / 5) as usize] ^= 0x20;
            fs::write(&path, &bytes).unwrap();
            match Store::open(copy.path(), options()) {
                Ok(store) => found += usize::from(!verify(&store, Depth::Rows).is_empty()),
                Err(error) => assert!(error.to_string().contains("Corruption"), "{error}"),
            }
        }
    }
    assert!(found >= tables.len(), "{found} of {}", tables.len());
}
