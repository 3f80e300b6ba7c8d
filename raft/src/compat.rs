//! What earlier builds wrote: `tests/compat/<disk format>/`. Every build reads it and goes on from it, and writes the same
//! bytes under the same rules.
//!
//! `scripts/cut-compat.sh` writes the directory of a new format, once, when that format stands. What is there is never
//! written again.
#![allow(clippy::unwrap_used)]

use crate::codec;
use crate::failure::Failure;
use crate::identity::{Incarnation, Member};
use crate::log::{LogOptions, LogStore};
use crate::net::compat::{frames, read_frame};
use crate::snapshot::SnapshotStore;
use crate::types::{CommandBytes, Entry, LogId, Membership, RaftMeta, Vote};
use cdr_core::command::{Append, ClockKind, Command, DraftsBuffer, Ingest, Initialize, Source};
use cdr_core::hash::to_hex;
use cdr_core::money::Money;
use cdr_core::personal::{Salt, SystemContent};
use cdr_core::row::{Draft, Drawn, Record, Sms, SystemKind};
use cdr_core::rules::{Build, Rules, SchemaVersion};
use cdr_core::time::HOUR_MS;
use cdr_core::{CdrId, Envelope, Hour, Millis, Uuid};
use cdr_storage::{Depth, EntryRef, Store, StoreOptions};
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Set by the script that writes the directory of the present format.
const CUT: &str = "CDR_CUT_COMPAT";
const START: Hour = Hour(494_000);

fn all() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/compat")
}

fn present() -> PathBuf {
    all().join(Rules::FIRST.formats().disk.to_string())
}

/// The commands of a small ledger: an operator, a stream, messages, a sealed hour, a row of the audit log.
fn commands() -> Vec<Vec<u8>> {
    let now = Millis(START.start().0 + 1_000);
    let at = |now: Millis, command: Command<'_>| Envelope::new(1, now, command).encode().unwrap();
    let mut first = DraftsBuffer::default();
    let operator =
        format!("{{\"effectiveFrom\":\"{START}\",\"operatorId\":\"AWCC\",\"recordingEntity\":\"AFGAW\"}}");
    push_system(&mut first, 1, SystemKind::Operator, &operator);
    let stream =
        "{\"created\":\"2026-01-01T00:00:00Z\",\"firstSequence\":1,\"reason\":\"new\",\"stream\":\"DLR\"}";
    push_system(&mut first, 2, SystemKind::Stream, stream);
    let initialize = Command::Initialize(Initialize {
        cluster_id: "compat",
        zone: "Asia/Kabul",
        clock: ClockKind::Replay,
        dedup_horizon_hours: 3,
        hash_key: [9; 16],
        rows: first.drafts(),
    });
    let next_hour = Millis(now.0 + HOUR_MS);
    let mut audit = DraftsBuffer::default();
    push_system(&mut audit, 90, SystemKind::Audit, "{\"entryType\":\"ACT\"}");
    vec![
        at(now, Command::Fence),
        at(now, initialize),
        ingest(now, 1, 10),
        at(next_hour, Command::Seal),
        ingest(next_hour, 11, 5),
        at(next_hour, Command::Append(Append { source: Source::Api, drafts: audit.drafts() })),
    ]
}

fn push_system(rows: &mut DraftsBuffer, id: u8, kind: SystemKind, body: &str) {
    let drawn = Drawn { version: SchemaVersion::V2, cdr_id: CdrId([id; 16]), salt: Salt([id; 16]) };
    let content = SystemContent::of_text(kind, body).unwrap();
    rows.push(0, &content.draft(drawn, "trace")).unwrap();
}

fn ingest(now: Millis, first: u64, count: u64) -> Vec<u8> {
    let mut drafts = DraftsBuffer::default();
    for offset in 0..count {
        let number = (first + offset) as u8;
        let sms = Sms {
            message_id: Uuid([number; 16]),
            calling_party: "اطلاع",
            called_party: "+93700000001",
            recording_entity: "AFGAW",
            service_center: "+93700000000",
            message_reference: "r1",
            event_at: now,
            local_offset_minutes: 270,
            charge_amount: Money::from_micros(38_400),
            charge_currency: Some("AFN"),
            failure_code: number.is_multiple_of(2).then_some("E7"),
            ..Sms::BLANK
        };
        let draft = Draft {
            version: SchemaVersion::V2,
            cdr_id: CdrId([100 + number; 16]),
            operator_id: "AWCC",
            trace_id: "trace",
            salt: Salt([number; 16]),
            record: Record::Sms(sms),
        };
        drafts.push(offset as u32, &draft).unwrap();
    }
    let command = Command::Ingest(Ingest {
        stream: "DLR",
        first,
        last: first + count - 1,
        last_digest: [7; 32],
        ignored: 0,
        dead_lettered: 0,
        missing: 0,
        drafts: drafts.drafts(),
    });
    Envelope::new(1, now, command).encode().unwrap()
}

/// A membership and the commands, as the log has them.
fn entries() -> Vec<Entry> {
    let member = Member { address: "127.0.0.1:7018".to_owned(), incarnation: Incarnation::default() };
    let membership = Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, member)])).unwrap();
    let mut payloads = vec![EntryPayload::Membership(membership)];
    payloads.extend(commands().into_iter().map(|bytes| EntryPayload::Normal(CommandBytes(bytes.into()))));
    let entry = |(index, payload)| Entry { log_id: LogId::new_term_index(1, index), payload };
    (0..).zip(payloads).map(entry).collect()
}

fn meta(entries: &[Entry]) -> RaftMeta {
    let mut meta = RaftMeta::default();
    for entry in entries {
        meta.last_applied = Some(entry.log_id);
        if let EntryPayload::Membership(membership) = &entry.payload {
            meta.take_membership(entry.log_id, membership.clone());
        }
    }
    meta
}

fn apply(store: &Store, entries: &[Entry]) {
    let refs: Vec<Option<EntryRef<'_>>> = entries
        .iter()
        .map(|entry| match &entry.payload {
            EntryPayload::Normal(command) => {
                Some(EntryRef { index: entry.index(), term: 1, bytes: &command.0 })
            }
            _ => None,
        })
        .collect();
    store.apply(&refs, &codec::encode(&meta(entries)).unwrap()).unwrap();
}

fn open_store(dir: &Path, build: Build) -> Store {
    let options =
        StoreOptions { dedup_filter_bytes: 1 << 20, min_free_bytes: 0, build, ..StoreOptions::default() };
    Store::open(dir, options).unwrap()
}

fn open_log(dir: &Path) -> LogStore {
    let mut options = LogOptions::new("compat", 1);
    options.segment_bytes = 1 << 16;
    LogStore::open(dir, options, Failure::default()).unwrap()
}

fn vote() -> Vote {
    Vote { leader_id: openraft::vote::RaftLeaderId::new(1, 1), committed: true }
}

/// What a reader of the fixture has to find: hashes of rows and seals, and of the whole state.
fn shown(store: &Store) -> String {
    let state = store.state();
    let mut text = format!("rules {}\ndigest {}\n", state.head.rules, to_hex(&state.digest().unwrap()));
    for hour in START.0..=state.head.open_hour.0 {
        for sequence in 1.. {
            let Some(row) = store.row_at(Hour(hour), sequence).unwrap() else { break };
            writeln!(text, "row {} {}", Hour(hour), to_hex(&store.stored_row_hash(&row).unwrap())).unwrap();
        }
        if let Some(seal) = store.seal(Hour(hour)).unwrap() {
            writeln!(text, "seal {} {}", Hour(hour), to_hex(&seal.seal_hash)).unwrap();
        }
    }
    text
}

/// Files that say something of the machine, or are made anew by whoever opens the database.
fn is_kept(name: &str) -> bool {
    name != "LOCK" && !name.starts_with("LOG") && !name.starts_with("OPTIONS")
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let target = to.join(&name);
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else if is_kept(&name) {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Writes everything that a replica keeps, and says, into `dir`.
async fn cut(dir: &Path) {
    let made = tempfile::tempdir().unwrap();
    let entries = entries();
    let store = open_store(&made.path().join("store"), Build::THIS);
    apply(&store, &entries);
    store.flush().unwrap();
    SnapshotStore::open(&made.path().join("snapshots"), Failure::default()).unwrap().build(&store).unwrap();
    let mut log = open_log(&made.path().join("raft-log"));
    log.save_vote(&vote()).await.unwrap();
    log.blocking_append(entries.clone()).await.unwrap();
    log.close().await.unwrap();
    fs::write(made.path().join("expected.txt"), shown(&store)).unwrap();
    drop(store);
    for (name, bytes) in written() {
        fs::create_dir_all(made.path().join("bytes")).unwrap();
        fs::write(made.path().join("bytes").join(name), bytes).unwrap();
    }
    copy_tree(made.path(), dir);
}

/// Everything whose bytes follow from nothing but the format.
fn written() -> Vec<(String, Vec<u8>)> {
    let numbered = |kind: &'static str| move |(number, bytes)| (format!("{kind}-{number}"), bytes);
    let entries = entries();
    let logged = entries.iter().map(|entry| codec::encode(entry).unwrap());
    let mut all: Vec<(String, Vec<u8>)> = (0..).zip(commands()).map(numbered("command")).collect();
    all.extend((0..).zip(logged).map(numbered("entry")));
    all.push(("raft-meta".to_owned(), codec::encode(&meta(&entries)).unwrap()));
    all.extend(frames(&entries));
    all
}

/// The replica of the fixture in `dir`, as a later `build` finds it.
async fn read(dir: &Path, build: Build) {
    let copy = tempfile::tempdir().unwrap();
    copy_tree(dir, copy.path());
    let expected = fs::read_to_string(dir.join("expected.txt")).unwrap();
    let entries = entries();
    let store = open_store(&copy.path().join("store"), build);
    assert_eq!(shown(&store), expected, "the store");
    assert!(store.verify_hour(START, None, Depth::Rows).unwrap().faults.is_empty());
    let kept: RaftMeta = codec::decode(&store.raft_meta().unwrap().unwrap()).unwrap();
    assert_eq!(kept, meta(&entries));
    // From the commands alone.
    let replayed = tempfile::tempdir().unwrap();
    let again = open_store(replayed.path(), build);
    apply(&again, &entries);
    assert_eq!(shown(&again), expected, "the commands applied again");

    for (name, _) in written().iter().filter(|(name, _)| name.starts_with("frame-")) {
        read_frame(name, &fs::read(dir.join("bytes").join(name)).unwrap(), &entries);
    }

    let mut log = open_log(&copy.path().join("raft-log"));
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), entries);
    assert_eq!(log.read_vote().await.unwrap(), Some(vote()));
    let next = Entry { log_id: LogId::new_term_index(2, entries.len() as u64), payload: EntryPayload::Blank };
    log.blocking_append([next.clone()]).await.unwrap();
    assert_eq!(log.try_get_log_entries(..).await.unwrap().last(), Some(&next));

    let snapshots = SnapshotStore::open(&copy.path().join("snapshots"), Failure::default()).unwrap();
    let (snapshot_meta, snapshot) = snapshots.current().unwrap();
    assert_eq!((snapshot_meta, snapshot.needs().unknown_to(build)), (meta(&entries), None));
    let installed = tempfile::tempdir().unwrap();
    let receiver = open_store(installed.path(), build);
    receiver.install(snapshot.path()).unwrap();
    assert_eq!(shown(&receiver), expected, "the snapshot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_build_reads_what_earlier_ones_wrote_and_goes_on_from_it() {
    if std::env::var_os(CUT).is_some() {
        assert!(!present().exists(), "{} stands: it is never written again", present().display());
        cut(&present()).await;
    }
    let mut formats = 0;
    for dir in fs::read_dir(all()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        for build in [Build::THIS, Build::NEXT] {
            read(&dir, build).await;
        }
        formats += 1;
    }
    assert!(formats > 0 && present().is_dir(), "run scripts/cut-compat.sh once for a new format");
}

#[test]
fn the_same_bytes_are_written_until_the_rules_rise() {
    for (name, bytes) in written() {
        let path = present().join("bytes").join(&name);
        let kept = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(kept, bytes, "{name}");
    }
}
