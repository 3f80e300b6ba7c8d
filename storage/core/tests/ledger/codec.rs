//! Damaged bytes give an error, never a panic, and never a value that the format can't write.

use crate::samples::Sample;
use crate::world::{Message, START_MS, World, buffer};
use cdr_core::command::{Command, Ingest};
use cdr_core::{Envelope, LedgerState, Millis, codec};
use proptest::prelude::*;

/// Reads whatever `bytes` hold as far as it goes.
fn read_all(bytes: &[u8]) -> bool {
    let Ok(envelope) = Envelope::decode(bytes, cdr_core::rules::Build::THIS) else { return false };
    match envelope.command {
        Command::Ingest(ingest) => ingest.drafts.decode().is_ok(),
        Command::Append(append) => append.drafts.decode().is_ok(),
        _ => true,
    }
}

fn batch() -> Vec<u8> {
    let samples = [Sample::ordinary(1, "AWCC", START_MS), Sample::ordinary(2, "AWCC", START_MS).unpriced()];
    let drafts = buffer(samples.iter().enumerate().map(|(i, s)| (i as u32, s.draft())));
    let ingest = Ingest {
        stream: "SMS",
        first: 1,
        last: 2,
        last_digest: [5; 32],
        ignored: 0,
        dead_lettered: 0,
        missing: 0,
        drafts: drafts.drafts(),
    };
    Envelope::new(1, Millis(START_MS), Command::Ingest(ingest)).encode().unwrap()
}

#[test]
fn a_batch_cut_at_any_byte_is_refused() {
    let whole = batch();
    assert!(read_all(&whole));
    for end in 0..whole.len() {
        assert!(!read_all(&whole[..end]), "cut at {end}");
    }
}

#[test]
fn times_and_amounts_outside_the_format_are_refused() {
    let mut sample = Sample::ordinary(1, "AWCC", START_MS);
    for (event_at, whole) in
        [(-1, false), (0, true), (253_402_300_799_999, true), (253_402_300_800_000, false)]
    {
        sample.event_at = event_at;
        let mut bytes = Vec::new();
        codec::encode_draft(&sample.draft(), &mut bytes).unwrap();
        assert_eq!(codec::decode_draft(&bytes).is_ok(), whole, "{event_at}");
    }
    let amount = |micros: i64| {
        let mut bytes = Vec::new();
        codec::encode_bare("amount", &micros, &mut bytes).unwrap();
        codec::decode_bare::<cdr_core::Money>("amount", &bytes).is_ok()
    };
    assert!(amount(-999_999_999_999_999_999) && !amount(1_000_000_000_000_000_000) && !amount(i64::MIN));
}

#[test]
fn a_damaged_entry_stops_the_replica_without_changing_it() {
    let mut world = World::begin(&["AWCC"], 24);
    let state = world.ledger.state.clone();
    let mut entry = batch();
    entry[0] = 9;
    let error = world.ledger.apply_bytes(&entry).unwrap_err();
    assert!(error.to_string().contains("the command is of format 9"), "{error}");
    assert_eq!(world.ledger.state, state);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::cases(3000)))]

    #[test]
    fn changed_entries_never_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = batch();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_all(&bytes);
        // What still decodes may be applied, and must not panic either.
        let mut world = World::begin(&["AWCC"], 24);
        let _ = world.ledger.apply_bytes(&bytes);
    }

    #[test]
    fn changed_states_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut world = World::begin(&["AWCC"], 24);
        let message = world.ordinary("AWCC");
        world.ingest("SMS", &[message, Message::Ignored]);
        let mut bytes = codec::encode("ledger state", &world.ledger.state).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = codec::decode::<LedgerState>("ledger state", &bytes);
    }
}
