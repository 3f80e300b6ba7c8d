//! Restarts, checkpoints, other formats, full disks and failures.

use crate::support::{World, applied, apply_one, assert_same, catch_up, history, open, options};
use cdr_core::command::{Envelope, Rejection, Reply};
use cdr_core::history::{Comparison, Mark};
use cdr_core::rules::Build;
use cdr_storage::{DISK_FORMAT, EntryRef, RecordFilter, Store, StoreError, StoreOptions};
use std::fs;
use std::path::Path;

#[test]
fn what_was_not_flushed_is_lost_as_a_whole_and_comes_back_by_applying_again() {
    let (log, ledger) = history(1, 3, 8, 50);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    catch_up(&store, &log[..log.len() / 2]);
    let durable = store.flush().unwrap().unwrap();
    catch_up(&store, &log);
    assert_same(&store, &ledger);
    let crashed = crate::support::crashed_copy(dir.path());
    drop(store);
    let store = open(crashed.path());
    assert_eq!(store.raft_meta().unwrap().unwrap(), durable);
    catch_up(&store, &log);
    assert_same(&store, &ledger);
}

#[test]
fn an_empty_store_has_nothing_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!((store.raft_meta().unwrap(), store.flush().unwrap()), (None, None));
    assert!(matches!(store.checkpoint(&dir.path().join("copy")), Err(StoreError::Unknown { .. })));
    assert!(store.query(&RecordFilter::default(), None, 10).unwrap().rows.is_empty());
    assert!(matches!(
        store.verify_hour(crate::support::START, None, cdr_storage::Depth::Rows),
        Err(StoreError::NotSealed { .. })
    ));
}

#[test]
fn a_checkpoint_replaces_another_store_under_its_readers() {
    let (log, ledger) = history(2, 4, 6, 60);
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leader = open(dir.path());
    catch_up(&leader, &log);
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("copy");
    let meta = leader.checkpoint(&copy).unwrap();
    assert_eq!(meta, leader.raft_meta().unwrap().unwrap());

    let follower = open(other.path());
    catch_up(&follower, &log[..4]);
    let old_row = follower.row_at(crate::support::START, 1).unwrap().unwrap();
    follower.install(&copy).unwrap();
    assert_eq!(follower.raft_meta().unwrap().unwrap(), meta);
    assert_same(&follower, &ledger);
    assert!(old_row.row().is_ok(), "a row that was read before stays readable");
    let mut kept: Vec<String> =
        fs::read_dir(other.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    kept.sort();
    assert_eq!(kept, ["CURRENT", "FORMAT", "ledger-2"]);

    let (more, _) = history(2, 5, 6, 60);
    assert_eq!(more[..log.len()], log, "the longer history begins with the shorter one");
    catch_up(&follower, &more);
    catch_up(&leader, &more);
    follower.flush().unwrap();
    drop(follower);
    let follower = open(other.path());
    assert_eq!(follower.state().digest().unwrap(), leader.state().digest().unwrap());
    assert_eq!(applied(&follower), more.len() as u64);
    fs::remove_dir_all(&copy).unwrap();
    assert!(follower.row_at(crate::support::START, 1).unwrap().is_some(), "shared files stay");
}

#[test]
fn a_damaged_checkpoint_is_not_installed() {
    let (log, ledger) = history(4, 2, 4, 40);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    catch_up(&store, &log);
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("copy");
    store.checkpoint(&copy).unwrap();
    fs::write(copy.join("CURRENT"), "nonsense\n").unwrap();
    assert!(store.install(&copy).is_err());
    assert_same(&store, &ledger);
    drop(store);
    assert!(Store::open(dir.path(), options()).is_ok(), "the leftover is removed at the next start");
}

/// Flips a bit of a file, in a copy of its own: it may be shared with the store that it is a checkpoint of.
fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_bit_in_any_table_of_a_checkpoint_is_found_and_not_installed() {
    let (log, ledger) = history(6, 3, 6, 60);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    catch_up(&store, &log);
    store.flush().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("copy");
    store.checkpoint(&copy).unwrap();
    let files: Vec<_> = fs::read_dir(&copy).unwrap().map(|entry| entry.unwrap().path()).collect();
    let tables: Vec<_> = files.iter().filter(|path| path.extension().is_some_and(|e| e == "sst")).collect();
    assert!(tables.len() >= 4, "{files:?}");
    store.check_tables(&copy, &files).unwrap();

    let other = tempfile::tempdir().unwrap();
    let follower = open(other.path());
    catch_up(&follower, &log[..4]);
    let before = follower.state().digest().unwrap();
    for table in tables {
        // The first block of its contents.
        flip(table, 10);
        for error in [store.check_tables(&copy, &files).unwrap_err(), follower.install(&copy).unwrap_err()] {
            let name = table.file_name().unwrap().to_str().unwrap();
            assert!(error.is_damage() && error.to_string().contains(name), "{error}");
        }
        assert_eq!(follower.state().digest().unwrap(), before);
        let left: Vec<_> = fs::read_dir(other.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
        flip(table, 10);
    }
    assert_eq!(fs::read_dir(copies.path()).unwrap().count(), 1, "nothing is left of the checks");
    follower.install(&copy).unwrap();
    assert_same(&follower, &ledger);
}

#[test]
fn an_unknown_format_is_refused() {
    let (log, _) = history(1, 1, 1, 5);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    catch_up(&store, &log);
    store.flush().unwrap();
    drop(store);
    fs::write(dir.path().join("FORMAT"), format!("{}\n", DISK_FORMAT - 1)).unwrap();
    assert!(matches!(Store::open(dir.path(), options()), Err(StoreError::FormatVersion { .. })));
    fs::write(dir.path().join("FORMAT"), format!("{DISK_FORMAT}\n")).unwrap();
    let path = dir.path().join("ledger-1");
    let db = rocksdb::DB::open_cf(&rocksdb::Options::default(), &path, cdr_storage::keys::COLUMN_FAMILIES)
        .unwrap();
    let meta = db.cf_handle(cdr_storage::keys::CF_META).unwrap();
    db.put_cf(meta, cdr_storage::keys::META_FORMAT, 9u32.to_le_bytes()).unwrap();
    drop(db);
    assert!(matches!(Store::open(dir.path(), options()), Err(StoreError::NeedsBuild { .. })));
}

#[test]
fn a_full_disk_refuses_before_anything_changes_and_is_no_poison() {
    let (log, _) = history(1, 1, 1, 5);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions { min_free_bytes: u64::MAX, ..options() }).unwrap();
    for _ in 0..3 {
        let entry = EntryRef { index: 1, term: 1, bytes: &log[0] };
        assert!(matches!(store.apply(&[Some(entry)], b"m"), Err(StoreError::Full { .. })));
    }
    assert_eq!((store.raft_meta().unwrap(), store.poisoned()), (None, None));
    assert_eq!(store.metrics().refused_full, 3);
    // An entry without a command, such as a new leader's first one, takes no space to speak of.
    store.apply(&[None], &[0; 8]).unwrap();
    assert_eq!((store.raft_meta().unwrap(), store.poisoned()), (Some(vec![0; 8]), None));
    drop(store);
    let store = open(dir.path());
    catch_up(&store, &log);
    assert_eq!(applied(&store), log.len() as u64);
}

#[test]
fn a_damaged_entry_poisons_and_leaves_no_trace() {
    let (log, _) = history(1, 1, 2, 5);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    catch_up(&store, &log[..2]);
    let digest = store.state().digest().unwrap();
    let entries = [
        Some(EntryRef { index: 3, term: 1, bytes: &log[2] }),
        Some(EntryRef { index: 4, term: 1, bytes: &log[3][..10] }),
    ];
    assert!(matches!(store.apply(&entries, b"m"), Err(StoreError::Entry { index: 4, .. })));
    assert!(store.poisoned().unwrap().contains("log entry 4"));
    assert_eq!((store.state().digest().unwrap(), applied(&store)), (digest, 2));
    let whole = EntryRef { index: 3, term: 1, bytes: &log[2] };
    assert!(matches!(store.apply(&[Some(whole)], b"m"), Err(StoreError::Poisoned { .. })));
    assert!(matches!(store.flush(), Err(StoreError::Poisoned { .. })));
    assert_eq!(store.metrics().poisoned, 1);
}

#[test]
fn a_command_of_another_term_than_its_entry_is_refused_and_stops_nothing() {
    let mut world = World::new(3);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    catch_up(&store, &world.beginning());
    let rows = store.state().head.row_count;
    // A leader that lost and won again proposes what it made for its earlier term, and its new fence comes later.
    let (late, index) = (world.ingest(3, 0), 3);
    let refused = |term| {
        let entry = EntryRef { index, term, bytes: &late };
        store.apply(&[Some(entry)], &index.to_be_bytes()).unwrap().remove(0)
    };
    for term in [2, 0] {
        assert_eq!(refused(term), Reply::Rejected(Rejection::Fenced { term: 1, fence: term }));
        assert_eq!((store.state().head.row_count, store.poisoned()), (rows, None));
    }
    world.term = 2;
    let fence = world.fence();
    let entry = EntryRef { index: 4, term: 2, bytes: &fence };
    assert_eq!(store.apply(&[Some(entry)], b"m").unwrap(), [Reply::Fenced { term: 2 }]);
}

#[test]
fn a_failed_write_poisons() {
    let (log, _) = history(1, 1, 4, 20);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    catch_up(&store, &log[..3]);
    // No flush can create its table any more: the directory is gone.
    fs::remove_dir_all(dir.path().join("ledger-1")).unwrap();
    assert!(store.flush().is_err());
    assert!(store.poisoned().is_some());
    let entry = EntryRef { index: 4, term: 1, bytes: &log[3] };
    assert!(matches!(store.apply(&[Some(entry)], b"m"), Err(StoreError::Poisoned { .. })));
}

#[test]
fn entries_without_commands_move_the_metadata_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!(store.apply(&[None, None], b"meta").unwrap(), [Reply::None, Reply::None]);
    assert_eq!(store.raft_meta().unwrap().unwrap(), b"meta");
    store.flush().unwrap();
    drop(store);
    assert_eq!(open(dir.path()).raft_meta().unwrap().unwrap(), b"meta");
}

#[test]
fn a_duplicate_is_found_wherever_its_original_lies() {
    // In the same write, in memory, on disk, and behind a restart.
    let mut world = crate::support::World::new(11);
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut index = 0;
    for entry in world.beginning() {
        index += 1;
        apply_one(&store, index, &entry);
    }
    let first = world.ingest(200, 0);
    let again = world.ingest(200, 1);
    let entries = [&first, &again].map(|bytes| Some(EntryRef { index: 3, term: 1, bytes }));
    let replies = store.apply(&entries, &4u64.to_be_bytes()).unwrap();
    assert!(
        matches!(&replies[1], Reply::Ingested(i) if i.appended == 0 && i.duplicate == 200),
        "{replies:?}"
    );
    for index in 5..9 {
        if index % 2 == 0 {
            store.flush().unwrap();
            drop(store);
            store = open(dir.path());
        }
        let reply = apply_one(&store, index, &world.ingest(100, 1));
        assert!(matches!(reply, Reply::Ingested(i) if i.appended == 0 && i.duplicate == 100), "{reply:?}");
    }
}

/// The same command, from a leader that had applied `applied` last.
fn carrying(entry: &[u8], applied: Mark) -> Vec<u8> {
    let mut envelope = Envelope::decode(entry, Build::THIS).unwrap();
    envelope.progress.applied = applied;
    envelope.encode().unwrap()
}

#[test]
fn a_command_of_a_leader_with_another_history_stops_the_replica_for_good() {
    let mut world = World::new(5);
    let beginning = world.beginning();
    let (ours, theirs) = (world.ingest(3, 0), World::new(6).ingest(3, 0));
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    catch_up(&store, &beginning);
    let agreed = store.state().head.applied;
    apply_one(&store, 3, &carrying(&ours, agreed));
    let (mark, rows) = (store.state().head.applied, store.state().head.row_count);
    assert_eq!(store.compare(&mark), Comparison::Same);

    // Another replica applied something else at the same place, and leads.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path());
    catch_up(&other, &beginning);
    apply_one(&other, 3, &carrying(&theirs, agreed));
    let other_mark = other.state().head.applied;
    assert_ne!(other_mark, mark);
    assert_eq!(other_mark.index, mark.index);
    let seal = carrying(&world.seal(), other_mark);
    let entry = EntryRef { index: 4, term: 1, bytes: &seal };
    let error = store.apply(&[Some(entry)], &4u64.to_be_bytes()).unwrap_err();
    let StoreError::Forked { index: 4, difference } = &error else { panic!("{error}") };
    assert_eq!((difference.agreed, difference.ours), (Some(agreed.index), Some(mark.history)));
    assert!(error.to_string().contains("SEV1 fork"), "{error}");
    assert_eq!((store.state().head.row_count, applied(&store)), (rows, 3));
    assert!(store.poisoned().is_some());

    // After a restart its log brings the same command again.
    store.flush().unwrap_err();
    drop(store);
    let store = open(dir.path());
    catch_up(&store, &[beginning, vec![carrying(&ours, agreed)]].concat());
    let entry = EntryRef { index: 4, term: 1, bytes: &seal };
    assert!(matches!(store.apply(&[Some(entry)], b"m"), Err(StoreError::Forked { .. })));
}

#[test]
fn a_checkpoint_of_another_history_is_not_installed() {
    let mut world = World::new(5);
    let beginning = world.beginning();
    let (ours, dir) = (world.ingest(3, 0), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    catch_up(&store, &beginning);
    apply_one(&store, 3, &ours);

    // A replica that never had that entry came to lead in its place.
    let (elsewhere, mut led) = (tempfile::tempdir().unwrap(), World::new(5));
    let other = open(elsewhere.path());
    catch_up(&other, &beginning);
    led.term = 2;
    for (index, bytes) in [(3, led.fence()), (4, led.seal())] {
        let entry = EntryRef { index, term: 2, bytes: &bytes };
        other.apply(&[Some(entry)], &index.to_be_bytes()).unwrap();
    }
    let checkpoint = elsewhere.path().join("checkpoint");
    other.flush().unwrap();
    other.checkpoint(&checkpoint).unwrap();
    let rows = store.state().head.row_count;
    let error = store.install(&checkpoint).unwrap_err();
    assert!(
        matches!(&error, StoreError::ForeignCheckpoint { difference } if difference.theirs.index == 3),
        "{error}"
    );
    assert_eq!((store.state().head.row_count, applied(&store)), (rows, 3), "it goes on with what it has");

    // One that has not got there yet takes it.
    let behind = tempfile::tempdir().unwrap();
    let late = open(behind.path());
    catch_up(&late, &beginning);
    late.install(&checkpoint).unwrap();
    assert_eq!(late.state().digest().unwrap(), other.state().digest().unwrap());
}
