//! Any history of appends, merges, crashes and drops, against the plain list of rows.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Append(u64),
    Commit,
    Settle,
    Flush,
    Crash,
    Fork,
    Drop(u64),
    Check(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u64..120).prop_map(Step::Append),
        2 => Just(Step::Commit),
        2 => Just(Step::Settle),
        2 => Just(Step::Flush),
        1 => Just(Step::Crash),
        1 => Just(Step::Fork),
        1 => (0u64..200).prop_map(Step::Drop),
        2 => (0u64..300, 0u64..300).prop_map(|(from, rows)| Step::Check(from, rows)),
    ]
}

fn run(fixture: Fixture, steps: Vec<Step>) {
    let mut fixture = fixture;
    for step in steps {
        match step {
            Step::Append(count) => fixture.append(count),
            Step::Commit => fixture.commit().unwrap(),
            Step::Settle => fixture.settle(),
            Step::Flush => fixture.flush(),
            Step::Crash => fixture = fixture.crash(),
            Step::Fork => fixture = fixture.fork(),
            Step::Drop(ordinal) => {
                fixture.index.drop_below(ordinal);
                fixture.commit().unwrap();
                assert!(fixture.index.first_ordinal() <= ordinal.max(fixture.all().start));
            }
            Step::Check(from, rows) => {
                let end = (from + rows).min(fixture.rows.len() as u64);
                fixture.check(from.min(end)..end);
            }
        }
    }
    fixture.check(fixture.all());
    fixture.settle();
    fixture.check(fixture.all());
    let fixture = fixture.fork();
    fixture.check(fixture.all());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_history_answers_like_a_plain_list(
        steps in proptest::collection::vec(step(), 1..24),
        block_bits in 4u32..7,
        fan_bits in 1u32..3,
    ) {
        run(Fixture::new(small(1 << block_bits, 1 << fan_bits)), steps);
    }
}

#[test]
fn runs_merge_level_by_level() {
    let mut fixture = Fixture::new(small(16, 4));
    for _ in 0..40 {
        fixture.append(16);
        fixture.settle();
    }
    // 640 rows: two runs of 256 rows, two of 64; nothing smaller is left.
    assert_eq!(fixture.index.run_count(), 4);
    fixture.check(fixture.all());
}

#[test]
fn a_crash_between_merge_and_swap_leaves_nothing_behind() {
    let mut fixture = Fixture::new(small(16, 2));
    fixture.append(32);
    let deadline = Instant::now() + Duration::from_secs(10);
    while count(&fixture, 1) < 4 {
        assert!(Instant::now() < deadline, "the merge does not end");
        std::thread::yield_now();
    }
    // The merged run is written beside its sources, and no list has it.
    assert_eq!((count(&fixture, 0), count(&fixture, 1)), (8, 4), "one chunk for each table of each run");
    let forked = fixture.fork();
    assert_eq!(forked.index.run_count(), 2);
    forked.check(forked.all());
    forked.settle();
    forked.check(forked.all());
    let after = forked.fork();
    assert_eq!((count(&after, 0), count(&after, 1)), (0, 4));
    assert_eq!(after.index.run_count(), 1);
}

/// Chunks of runs of a level.
fn count(fixture: &Fixture, level: u8) -> usize {
    let column = fixture.db.cf_handle(CF_INDEX).unwrap();
    let keys = fixture.db.iterator_cf(column, rocksdb::IteratorMode::Start).map(|item| item.unwrap().0);
    keys.filter(|key| key[0] <= 0x23 && key[1] == level).count()
}

#[test]
fn a_crash_loses_what_was_not_flushed_and_nothing_else() {
    let mut fixture = Fixture::new(small(16, 2));
    fixture.append(70);
    fixture.settle();
    fixture.flush();
    fixture.append(70);
    fixture.settle();
    let crashed = fixture.crash();
    assert_eq!(crashed.rows.len(), 70);
    crashed.check(crashed.all());
    crashed.settle();
    crashed.check(crashed.all());
}

#[test]
fn a_batch_may_fill_several_blocks() {
    let mut fixture = Fixture::new(small(16, 2));
    fixture.append(100);
    assert_eq!(fixture.index.tail_from(), 96);
    fixture.check(fixture.all());
    fixture.settle();
    fixture.check(fixture.all());
}

#[test]
fn dropped_rows_leave_no_keys() {
    let mut fixture = Fixture::new(small(16, 2));
    fixture.append(300);
    fixture.settle();
    fixture.index.drop_below(300);
    fixture.append(20);
    assert_eq!(fixture.index.first_ordinal(), 288);
    fixture.check(fixture.all());
    let fixture = fixture.fork();
    let left = |fixture: &Fixture| {
        let column = fixture.db.cf_handle(CF_INDEX).unwrap();
        fixture.db.iterator_cf(column, rocksdb::IteratorMode::Start).count()
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while left(&fixture) > 40 {
        assert!(Instant::now() < deadline, "{} keys are left", left(&fixture));
        std::thread::yield_now();
    }
    fixture.check(fixture.all());
}

#[test]
fn ordinals_have_no_gaps() {
    let fixture = Fixture::new(small(16, 2));
    fixture.index.add(&row(0)).unwrap();
    assert!(matches!(fixture.index.add(&row(2)), Err(StoreError::Damaged { .. })));
    assert!(matches!(fixture.index.add(&row(0)), Err(StoreError::Damaged { .. })));
    fixture.index.add(&row(1)).unwrap();
}

#[test]
fn other_options_or_keys_are_refused() {
    let mut fixture = Fixture::new(small(16, 2));
    fixture.append(40);
    fixture.flush();
    let Fixture { index, db, .. } = fixture;
    drop(index);
    let open = |key, options, rows| Index::open(Arc::clone(&db), key, options, rows).err();
    assert!(matches!(open([0; 16], small(16, 2), 40), Some(StoreError::Options { .. })));
    assert!(matches!(open(HASH_KEY, small(32, 2), 40), Some(StoreError::Options { .. })));
    assert!(matches!(open(HASH_KEY, small(17, 2), 40), Some(StoreError::Options { .. })));
    assert!(matches!(open(HASH_KEY, small(16, 2), 31), Some(StoreError::Damaged { .. })));
    assert!(open(HASH_KEY, small(16, 2), 40).is_none());
}

#[test]
fn before_the_filter_is_restored_every_message_may_be_known() {
    let mut fixture = Fixture::new(small(16, 2));
    fixture.append(40);
    let strange = [Uuid([7; 16])];
    assert_eq!(fixture.index.maybe_seen(&strange), [false]);
    let fixture = fixture.fork();
    let second = Index::open(Arc::clone(&fixture.db), HASH_KEY, small(16, 2), 40).unwrap();
    assert_eq!(second.maybe_seen(&strange), [true]);
    assert!(second.restore_filter(Hour(0)).unwrap() > 20);
    assert_eq!(second.maybe_seen(&strange), [false]);
}
