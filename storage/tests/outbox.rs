//! What is told of is kept for a week after it is published, and as long as it is not.

use crate::support::{World, apply_one, open};
use cdr_core::command::{Command, OutboxPlace, Reply};
use cdr_core::time::HOUR_MS;

#[test]
fn only_what_is_published_and_a_week_old_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut world = World::new(5);
    let mut index = 0;
    let mut apply = |entry: Vec<u8>| {
        index += 1;
        assert!(!matches!(apply_one(&store, index, &entry), Reply::Rejected(_)));
        index
    };
    let beginning: Vec<u64> = world.beginning().into_iter().map(&mut apply).collect();
    let old: Vec<u64> = (0..3).map(|_| apply(world.ingest(4, 0))).collect();
    world.now.0 += 9 * 24 * HOUR_MS;
    let young = [apply(world.seal()), apply(world.ingest(4, 0))];
    let kept = || store.outbox(0, usize::MAX).unwrap().iter().map(|entry| entry.index).collect::<Vec<_>>();
    let all = [&beginning[1..], &old[..], &young[..]].concat();
    assert_eq!(kept(), all);

    let published = |index| world.envelope(Command::Published(OutboxPlace { index, events: 0 }));
    apply(published(old[1]));
    assert_eq!(kept(), [&old[1..], &young[..]].concat(), "what is not published stays, however old it is");
    apply(published(young[1] + 1));
    assert_eq!(kept(), young, "what is young stays, though it is published");
    let place = store.state().head.published;
    assert_eq!(place, OutboxPlace { index: young[1] + 1, events: 0 });
}
