//! Rules that are raised, the migration in place that follows, and builds that do not know them.

use crate::support::World;
use cdr_core::rules::{Build, RULES_SETTING, Rules};
use cdr_core::time::HOUR_MS;
use cdr_core::{Hour, Millis, Reply};
use cdr_storage::{EntryRef, Store, StoreError, StoreOptions, StoredSeal};
use std::path::Path;
use std::time::{Duration, Instant};

/// Hours that are sealed before the rules rise: several steps of the migration.
const HOURS: i64 = 9_000;

fn of(build: Build) -> StoreOptions {
    StoreOptions { build, ..crate::support::options() }
}

struct Ledger {
    world: World,
    store: Store,
    index: u64,
}

impl Ledger {
    /// A ledger of many sealed hours, in `dir`.
    fn begin(dir: &Path, build: Build) -> Self {
        let store = Store::open(dir, of(build)).unwrap();
        let mut ledger = Self { world: World::new(5), store, index: 0 };
        for entry in ledger.world.beginning() {
            ledger.apply(&entry).unwrap();
        }
        let entry = ledger.world.ingest(20, 0);
        ledger.apply(&entry).unwrap();
        ledger.world.now = Millis(ledger.world.now.0 + HOURS * HOUR_MS);
        let entry = ledger.world.seal();
        assert_eq!(ledger.apply(&entry).unwrap(), Reply::Sealed { hours: HOURS as u32 });
        ledger
    }

    fn apply(&mut self, entry: &[u8]) -> Result<Reply, StoreError> {
        self.index += 1;
        let entry = EntryRef { index: self.index, term: 1, bytes: entry };
        self.store.apply(&[Some(entry)], &self.index.to_le_bytes()).map(|mut replies| replies.remove(0))
    }

    fn raise(&mut self) -> Result<Reply, StoreError> {
        let entry = self.world.setting_under(Rules::TEST_ONLY, RULES_SETTING, "2");
        self.apply(&entry)
    }
}

fn seals(store: &Store) -> Vec<StoredSeal> {
    let end = store.state().head.open_hour;
    store.seals(crate::support::START, Hour(end.0 - 1)).map(Result::unwrap).collect()
}

fn wait_for_the_migration(store: &Store) {
    let start = Instant::now();
    while store.is_migrating().unwrap() {
        assert!(start.elapsed() < Duration::from_secs(60), "the migration does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn needed(result: Result<Store, StoreError>) -> String {
    match result {
        Err(error @ StoreError::NeedsBuild { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[test]
fn a_build_that_does_not_know_the_rules_stops_and_says_which_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::begin(dir.path(), Build::THIS);
    let before = ledger.store.state();
    let error = ledger.raise().unwrap_err();
    assert!(matches!(error, StoreError::NeedsBuild { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("rules version 2, which needs build 0.2.0: this is build 0.1.0"), "{said}");
    assert!(!said.contains("damaged") && !said.contains("rebuilt"), "{said}");
    assert_eq!(ledger.store.state(), before);
    let next = ledger.world.seal();
    assert!(matches!(ledger.apply(&next), Err(StoreError::Poisoned { .. })), "nothing is skipped");
    // The same files, with the build that knows them.
    drop(ledger.store);
    let store = Store::open(dir.path(), of(Build::NEXT)).unwrap();
    assert_eq!(store.state().head.rules, Rules::FIRST);
}

#[test]
fn the_disk_is_migrated_beside_everything_else_and_after_every_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::begin(dir.path(), Build::NEXT);
    assert_eq!(ledger.store.needs().disk, Rules::FIRST.formats().disk);
    let before = seals(&ledger.store);
    ledger.store.flush().unwrap();
    assert!(matches!(ledger.raise().unwrap(), Reply::Appended { .. }));
    let mut crashes = 0;
    let mut under_way = 0;
    while ledger.store.is_migrating().unwrap() {
        ledger.store.flush().unwrap();
        let crashed = crate::support::crashed_copy(dir.path());
        let copy = Store::open(crashed.path(), of(Build::NEXT)).unwrap();
        under_way += usize::from(copy.is_migrating().unwrap());
        assert_eq!(seals(&copy), before, "read while it is migrated");
        wait_for_the_migration(&copy);
        assert_eq!(seals(&copy), before);
        crashes += 1;
    }
    assert!(crashes > 0 && under_way > 0, "{crashes} crashes, {under_way} of them in the middle");
    let entry = ledger.world.ingest(20, 0);
    assert!(matches!(ledger.apply(&entry).unwrap(), Reply::Ingested(_)));
    assert_eq!(ledger.store.needs().disk, Rules::TEST_ONLY.formats().disk);
    assert_eq!(seals(&ledger.store), before);
    ledger.store.flush().unwrap();
    drop(ledger.store);
    let said = needed(Store::open(dir.path(), of(Build::THIS)));
    assert!(said.contains("disk format 8, which needs build 0.2.0"), "{said}");
    let again = Store::open(dir.path(), of(Build::NEXT)).unwrap();
    assert!(!again.is_migrating().unwrap());
    assert_eq!(again.needs().unknown_to(Build::NEXT), None);
}

#[test]
fn a_checkpoint_of_later_rules_takes_the_place_of_nothing_where_they_are_not_known() {
    let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut ledger = Ledger::begin(there.path(), Build::NEXT);
    ledger.raise().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let checkpoint = copies.path().join("checkpoint");
    ledger.store.checkpoint(&checkpoint).unwrap();
    let old = Ledger::begin(here.path(), Build::THIS);
    let before = old.store.state();
    let error = old.store.install(&checkpoint).unwrap_err();
    assert!(matches!(error, StoreError::NeedsBuild { .. }), "{error}");
    assert_eq!(old.store.state(), before);
    let empty = tempfile::tempdir().unwrap();
    let new = Store::open(empty.path(), of(Build::NEXT)).unwrap();
    new.install(&checkpoint).unwrap();
    assert_eq!(new.state().head.rules, Rules::TEST_ONLY);
    wait_for_the_migration(&new);
    drop(new);
    needed(Store::open(empty.path(), of(Build::THIS)));
}
