//! Which file lists what: random days of records, prices, adjustments and quarantine, settled by TAP and RAP files on a
//! real store, and held against what must be true of every record and adjustment.

mod world;

use proptest::prelude::*;
use world::{Act, World};

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (1..8u8).prop_map(Act::Ingest),
        4 => (1..5u8).prop_map(Act::Adjust),
        2 => (1..4u8).prop_map(Act::Price),
        6 => (1..9u8).prop_map(Act::Pass),
        1 => Just(Act::WaitTooLong),
        3 => (1..4u8, any::<bool>()).prop_map(|(count, resubmit)| Act::Resolve(count, resubmit)),
        3 => Just(Act::Open),
        4 => Just(Act::Make),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::cases(24)))]

    #[test]
    fn every_record_is_in_one_file_or_waits(seed: u64, acts in prop::collection::vec(act(), 10..80)) {
        let mut world = World::begin(seed);
        for act in &acts {
            world.step(act);
        }
        world.settle();
        world.check();
    }
}

/// A long run, so that days follow one another, with what each of them must have seen at least once.
#[test]
fn a_month_has_everything() {
    let mut world = World::begin(7);
    let acts = [
        Act::Ingest(7),
        Act::Adjust(4),
        Act::Pass(5),
        Act::Price(2),
        Act::Ingest(5),
        Act::Open,
        Act::Adjust(3),
        Act::WaitTooLong,
        Act::Make,
        Act::Resolve(1, true),
        Act::Pass(4),
        Act::Resolve(1, false),
        Act::Open,
        Act::Make,
    ];
    for _ in 0..40 {
        for act in &acts {
            world.step(act);
        }
    }
    world.settle();
    let seen = world.check();
    assert!(seen.listed > 200 && seen.returned > 40, "{seen:?}");
    assert!(seen.late > 20 && seen.priced_late > 10 && seen.after_quarantine > 5, "{seen:?}");
    assert!(seen.in_quarantine > 5 && seen.returned_after_quarantine > 0, "{seen:?}");
}
