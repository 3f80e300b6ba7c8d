//! Rules come into force by a row, upwards only, and only where the command says that it needs them.

use crate::world::{World, buffer};
use cdr_core::command::{Append, Command, Source};
use cdr_core::row::SystemKind;
use cdr_core::rules::{Build, RULES_SETTING, Rules};
use cdr_core::{Envelope, Millis, Rejection, ViewError};
use serde_json::{Value, json};

fn change(from: Option<&str>, to: &str) -> Value {
    json!({
        "actorUserId": "system:rules", "approverUserId": null, "configKey": RULES_SETTING, "newValue": to,
        "previousValue": from, "reason": "every replica knows them", "ticketId": null,
    })
}

/// A ledger whose replicas know the rules of tests.
fn world() -> World {
    let mut world = World::begin(&["AWCC"], 2);
    world.ledger.build = Build::NEXT;
    world
}

fn refused(world: &mut World, needs: Rules, body: &Value) -> String {
    world.rules = needs;
    let row = world.system_row(SystemKind::Config, body);
    let rows = buffer([(0, row.draft())]);
    let refused = world.refused(Command::Append(Append { source: Source::Internal, drafts: rows.drafts() }));
    assert!(matches!(refused, Rejection::Illegal { .. }), "{refused}");
    refused.to_string()
}

#[test]
fn a_row_raises_the_rules_and_what_needed_the_former_goes_on() {
    let mut world = world();
    assert_eq!(world.ledger.state.head.rules, Rules::FIRST);
    world.rules = Rules::TEST_ONLY;
    world.append_one(SystemKind::Config, &change(None, "2"));
    assert_eq!(world.ledger.state.head.rules, Rules::TEST_ONLY);
    // A command that was encoded before the rules rose is applied after it.
    world.rules = Rules::FIRST;
    let message = world.ordinary("AWCC");
    world.ingest("SMS", &[message]);
    world.rules = Rules::TEST_ONLY;
    let message = world.ordinary("AWCC");
    world.ingest("SMS", &[message]);
    assert_eq!(world.ledger.state.head.rules, Rules::TEST_ONLY);
}

#[test]
fn the_rules_never_go_back_and_are_numbers() {
    let mut world = world();
    for value in ["1", "0", "02", "+2", "two", "", "4294967296"] {
        let why = refused(&mut world, Rules::FIRST, &change(None, value));
        assert!(why.contains("can't come into force"), "{value}: {why}");
    }
    world.rules = Rules::TEST_ONLY;
    world.append_one(SystemKind::Config, &change(None, "2"));
    for value in ["1", "2"] {
        refused(&mut world, Rules::TEST_ONLY, &change(Some("2"), value));
    }
}

#[test]
fn a_command_says_which_rules_it_needs() {
    let mut world = world();
    let raise = change(None, "2");
    let why = refused(&mut world, Rules::FIRST, &raise);
    assert!(why.contains("needs rules version 1, and 2 would be in force after 1"), "{why}");
    world.rules = Rules::TEST_ONLY;
    assert!(
        matches!(world.refused(Command::Seal), Rejection::Illegal { .. }),
        "nothing brings them into force"
    );
}

#[test]
fn a_replica_that_does_not_know_them_stops_and_says_which_build_it_needs() {
    let mut world = World::begin(&["AWCC"], 2);
    let before = world.ledger.state.clone();
    let row = world.system_row(SystemKind::Config, &change(None, "2"));
    let rows = buffer([(0, row.draft())]);
    let command = Command::Append(Append { source: Source::Internal, drafts: rows.drafts() });
    let envelope = Envelope::new(world.term, Millis(world.now), command);
    let entry = Envelope { rules: Rules::TEST_ONLY, ..envelope }.encode().unwrap();
    let error = world.ledger.apply_bytes(&entry).unwrap_err();
    assert!(matches!(error, ViewError::NeedsBuild(_)), "{error}");
    assert!(error.to_string().contains("needs build 0.2.0: this is build 0.1.0"), "{error}");
    assert_eq!(world.ledger.state, before);
}
