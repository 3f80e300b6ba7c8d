//! The histories of the golden vectors.

use crate::samples::Sample;
use crate::world::{HOUR_MS, Message, World};
use cdr_core::command::Source;
use cdr_core::row::{AdjustmentType, SystemKind};
use cdr_core::rules::SchemaVersion;
use serde_json::json;

/// A history with its name and what it shows.
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub world: World,
}

/// Name, what it shows, and how it goes.
type History = (&'static str, &'static str, fn() -> World);

const HISTORIES: [History; 16] = [
    ("genesis-hour", "The first hour of a ledger: operators, a key and a stream enter", one_operator),
    ("empty-hour", "An hour without any row, after the first hour", empty_hour),
    ("one-row", "An hour with one row", || after_the_first_hour(1)),
    ("two-rows", "An hour with two rows", || after_the_first_hour(2)),
    ("three-rows", "An hour with three rows: one padding leaf", || after_the_first_hour(3)),
    ("rows-1000", "An hour with 1,000 rows: 24 padding leaves", || after_the_first_hour(1000)),
    ("rows-1025", "An hour with 1,025 rows: 1,023 padding leaves", || after_the_first_hour(1025)),
    ("adjustments", "An adjustment of each kind, each following the one before", adjustments),
    ("texts", "Senders and references beyond ASCII, and every kind of escape", texts),
    ("unpriced-row", "A row before it has a price, and its pricing correction", unpriced),
    ("system-rows", "A system row of each kind", system_rows),
    ("one-operator-empty", "Two operators of which one has no row in the second hour", one_empty),
    ("operator-joins", "An operator that joins later", operator_joins),
    ("p256-key", "Seals by an Ed25519 key, then by an ecdsa-p256 key that replaced it", p256_key),
    (
        "schema-version-3",
        "Test only, in no release: rows of schemaVersion 3 behind rows of 2",
        schema_version_3,
    ),
    ("stream-epochs", "Duplicates, ignored, dead and missing messages; a second epoch", epochs),
];

/// Every history of the golden vectors, sealed and signed to its end.
pub fn all() -> impl Iterator<Item = Scenario> {
    HISTORIES.into_iter().map(|(name, about, play)| Scenario { name, about, world: sealed(play) })
}

/// The history of that name.
pub fn world(name: &str) -> World {
    let (_, _, play) = HISTORIES.iter().find(|history| history.0 == name).expect("a history of that name");
    sealed(*play)
}

fn sealed(play: fn() -> World) -> World {
    let mut world = play();
    world.now += HOUR_MS;
    world.seal();
    world.sign_all();
    world
}

fn one_operator() -> World {
    World::begin(&["AWCC"], 168)
}

fn empty_hour() -> World {
    let mut world = one_operator();
    world.now += HOUR_MS;
    world
}

fn after_the_first_hour(rows: usize) -> World {
    let mut world = empty_hour();
    let messages: Vec<Message> = (0..rows).map(|_| world.ordinary("AWCC")).collect();
    messages.chunks(500).for_each(|batch| world.ingest("SMS", batch));
    world
}

fn adjustments() -> World {
    let mut world = empty_hour();
    let original = Sample::ordinary(100, "AWCC", world.now);
    world.ingest("SMS", &[Message::Final(Box::new(original.clone()))]);
    let mut last = original;
    for (i, kind) in
        [AdjustmentType::Correction, AdjustmentType::ReRate, AdjustmentType::Void].into_iter().enumerate()
    {
        world.now += HOUR_MS / 2;
        last = last.adjusted(101 + i as u64, world.now, kind);
        world.adjust(&last);
    }
    world
}

fn texts() -> World {
    let mut world = empty_hour();
    let senders =
        ["سلام بانک", "Größe€", "😀 shop", "a\"b\\c/d", "e\u{301}", "tab\there", "\u{7f}\u{2028}\u{0}"];
    let messages: Vec<Message> = senders
        .iter()
        .enumerate()
        .map(|(i, sender)| {
            let mut sample = Sample::ordinary(100 + i as u64, "AWCC", world.now);
            sample.calling_party = (*sender).to_owned();
            sample.message_reference = format!("ref {sender}");
            sample.codes = i * 97;
            sample.failure_code = (i % 2 == 1).then(|| format!("E{i}"));
            sample.failure_text = (i % 3 == 2).then(|| format!("absent: {sender}"));
            Message::Final(Box::new(sample))
        })
        .collect();
    world.ingest("SMS", &messages);
    world
}

fn unpriced() -> World {
    let mut world = empty_hour();
    let priced = Sample::ordinary(100, "AWCC", world.now);
    let unpriced = priced.clone().unpriced();
    world.ingest("SMS", &[Message::Final(Box::new(unpriced.clone()))]);
    world.now += HOUR_MS;
    let mut correction = unpriced.adjusted(101, world.now, AdjustmentType::Correction);
    correction.called_party = priced.called_party;
    correction.charge_micros = priced.charge_micros;
    correction.charge_currency = priced.charge_currency;
    correction.tap_tariff_class = priced.tap_tariff_class;
    correction.tariff_version = priced.tariff_version;
    world.adjust(&correction);
    world
}

fn system_rows() -> World {
    let mut world = empty_hour();
    world.join("MTN_AF");
    world.rotate_key();
    world.open_stream("SMS#2", 1);
    for kind in SystemKind::ALL {
        if !matches!(kind, SystemKind::Operator | SystemKind::Key | SystemKind::Stream) {
            let body = json!({"about": kind.as_str(), "count": 1, "list": ["é", null, true], "text": "a\nb"});
            world.append_one(*kind, &body);
            if let Some(content) = with_personal_data(*kind) {
                world.append_one(*kind, &content);
            }
        }
    }
    world
}

/// The content of a row of this kind that has personal data.
fn with_personal_data(kind: SystemKind) -> Option<serde_json::Value> {
    let payload = "{\"from\": \"+93700000001\", \"n\": 9007199254740993}";
    Some(match kind {
        SystemKind::Audit => json!({
            "actorUserId": "user-1", "details": {"faults": ["row 7"], "nodeId": 1, "reason": "it was asked by phone"},
            "entryType": "NOTE", "reason": "سؤال",
        }),
        SystemKind::Config => json!({"reason": "as agreed with +93 70 000 00 01"}),
        SystemKind::Delivery => {
            json!({"answer": {"payload": payload, "status": 422}, "payload": payload, "reason": "no"})
        }
        SystemKind::Job => json!({"reason": "a new list", "why": "it is gone"}),
        SystemKind::Quarantine => json!({"encoderError": "calledPartyAddress +93700000001 does not fit"}),
        _ => return None,
    })
}

fn one_empty() -> World {
    let mut world = World::begin(&["AWCC", "MTN_AF"], 168);
    let messages = ["AWCC", "MTN_AF", "AWCC"].map(|id| world.ordinary(id));
    world.ingest("SMS", &messages);
    world.now += HOUR_MS;
    let messages = ["AWCC", "AWCC"].map(|id| world.ordinary(id));
    world.ingest("SMS", &messages);
    world
}

fn operator_joins() -> World {
    let mut world = one_operator();
    let message = world.ordinary("AWCC");
    world.ingest("SMS", &[message]);
    world.join("MTN_AF");
    world.now += HOUR_MS;
    let messages = ["MTN_AF", "AWCC", "MTN_AF"].map(|id| world.ordinary(id));
    world.ingest("SMS", &messages);
    world
}

fn p256_key() -> World {
    let mut world = one_operator();
    world.now += HOUR_MS;
    world.rotate_to_p256();
    let message = world.ordinary("AWCC");
    world.ingest("SMS", &[message]);
    world.now += HOUR_MS;
    world
}

fn schema_version_3() -> World {
    let mut world = empty_hour();
    // As in `two-rows`.
    let messages = [0, 1].map(|_| world.ordinary("AWCC"));
    world.ingest("SMS", &messages);
    let [Message::Final(two), _] = messages else { unreachable!("they are final") };
    world.raise_rules();
    let three = Sample::ordinary(102, "AWCC", world.now).with_correlation(Some("order:2026-04.7_a"));
    let none = Sample::ordinary(103, "AWCC", world.now).unpriced().with_correlation(None);
    world.ingest("SMS", &[&three, &none].map(|sample| Message::Final(Box::new(sample.clone()))));
    world.now += HOUR_MS;
    let last = three.adjusted(104, world.now, AdjustmentType::Correction).with_correlation(Some("order-8"));
    world.adjust(&last);
    world.adjust(&last.adjusted(105, world.now, AdjustmentType::Void));
    world.adjust(&two.adjusted(106, world.now, AdjustmentType::ReRate).with_correlation(None));
    let note = json!({"details": {"reason": "by phone"}, "entryType": "NOTE", "reason": "as agreed"});
    let mut row = world.system_row(SystemKind::Audit, &note);
    row.version = SchemaVersion::V3;
    world.append(Source::Internal, &[row]);
    world
}

fn epochs() -> World {
    let mut world = one_operator();
    let first = Message::repeated(1, "AWCC", 200, world.now);
    let again = Message::repeated(1, "AWCC", 201, world.now);
    world.ingest("SMS", &[first, Message::Ignored, again.clone(), Message::Missing, Message::DeadLettered]);
    world.now += HOUR_MS;
    world.open_stream("SMS#2", 41);
    let new = Message::repeated(2, "AWCC", 202, world.now);
    world.ingest("SMS#2", &[again, new]);
    world
}
