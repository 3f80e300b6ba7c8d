//! Readers beside the apply thread: no run may vanish under them.

use super::*;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[test]
fn readers_see_every_committed_row_while_runs_merge() {
    let mut fixture = Fixture::new(small(16, 2));
    fixture.append(10);
    let (index, db) = (&fixture.index, &fixture.db);
    let committed = AtomicU64::new(10);
    let done = AtomicBool::new(false);
    let begin = Barrier::new(4);
    std::thread::scope(|scope| {
        let mut readers = Vec::new();
        for reader in 0..3u64 {
            let (committed, done, begin) = (&committed, &done, &begin);
            readers.push(scope.spawn(move || {
                begin.wait();
                let (mut at, mut reads) = (reader, 0u64);
                while !done.load(Ordering::Acquire) {
                    at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let rows = committed.load(Ordering::Acquire);
                    read_one(index, (at >> 33) % rows, rows);
                    reads += 1;
                }
                reads
            }));
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        begin.wait();
        for first in (10..6000).step_by(10) {
            index.add_all((first..first + 10).map(row)).unwrap();
            let mut batch = WriteBatch::default();
            index.commit(&mut batch).unwrap();
            db.write_opt(batch, &options).unwrap();
            index.committed();
            committed.store(first + 10, Ordering::Release);
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    fixture.rows = (0..6000).map(row).collect();
    fixture.settle();
    fixture.check(5000..6000);
}

fn read_one(index: &Index, ordinal: u64, rows: u64) {
    let wanted = row(ordinal);
    let mut found = index.candidates(Lookup::CdrId(wanted.cdr_id), 0..rows, true).unwrap();
    assert!(found.any(|found| found.unwrap() == ordinal), "row {ordinal} of {rows}");
    if let Some(message) = wanted.message_id {
        let found = index.rows_of_messages(&[Uuid([9; 16]), message], 0..rows).unwrap();
        assert!(found.contains(&(ordinal, 1)), "row {ordinal} of {rows}");
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
    }
    let from = ordinal.saturating_sub(50);
    let mut members = index.postings(PostingKey::Operator(wanted.operator), from..rows).unwrap();
    assert!(members.any(|member| member.unwrap() == ordinal), "row {ordinal} of {rows}");
    if let Some(at) = wanted.event_at {
        let mut ranges = index.event_blocks(at, Millis(at.0 + 1), from..rows).unwrap();
        assert!(ranges.any(|range| range.unwrap().contains(&ordinal)), "row {ordinal} of {rows}");
    }
}
