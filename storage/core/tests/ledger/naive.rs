//! Any sequence of events gives the chain that a naive recomputation gives; refused commands change nothing.

use crate::oracle::cdr_id;
use crate::samples::{Sample, SystemSample, bits};
use crate::world::{HOUR_MS, Message, World, buffer, operator_body};
use cdr_core::Rejection;
use cdr_core::command::{Append, ClockKind, Command, Drafts, Ingest, Initialize, SignSeal, Source};
use cdr_core::row::{AdjustmentType, FinalState, SystemKind};
use proptest::prelude::*;
use serde_json::json;

const OPERATORS: [&str; 4] = ["AWCC", "MTN_AF", "Salaam", "zz-late"];

#[derive(Clone, Debug)]
enum Event {
    /// Moves the proposer's clock, also backwards.
    Wait(i64),
    Ingest {
        stream: usize,
        messages: Vec<Choice>,
    },
    System {
        kind: SystemKind,
        count: usize,
        source: Source,
    },
    Join(usize),
    NewEpoch(usize),
    /// A key that begins in some hours, perhaps with an end.
    NewKey {
        after: i64,
        hours: Option<i64>,
    },
    Adjust {
        kind: AdjustmentType,
        pick: prop::sample::Index,
    },
    /// Messages of the pool end without a receipt.
    Expire(Vec<(usize, u64)>),
    Seal,
    Sign,
    NewLeader,
    Restart,
    Refused(Illegal),
}

/// What a message of a batch is.
#[derive(Clone, Debug)]
enum Choice {
    New { operator: usize },
    OfPool { operator: usize, id: u64, state: FinalState },
    Ignored,
    DeadLettered,
    Missing,
}

/// Commands that must be refused.
#[derive(Clone, Debug)]
enum Illegal {
    OldTerm,
    NewTerm,
    Gap,
    Repeat,
    Sums,
    Stream,
    Operator,
    SystemOperator,
    Adjustment,
    Outdated,
    Body,
    KnownOperator,
    SecondBeginning,
    Signature,
    FarFuture,
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        5 => (0usize..4).prop_map(|operator| Choice::New { operator }),
        4 => (0usize..4, 0u64..25, proptest::sample::select(FinalState::ALL))
            .prop_map(|(operator, id, state)| Choice::OfPool { operator, id, state }),
        1 => Just(Choice::Ignored),
        1 => Just(Choice::DeadLettered),
        1 => Just(Choice::Missing),
    ]
}

fn illegal() -> impl Strategy<Value = Illegal> {
    proptest::sample::select(vec![
        Illegal::OldTerm,
        Illegal::NewTerm,
        Illegal::Gap,
        Illegal::Repeat,
        Illegal::Sums,
        Illegal::Stream,
        Illegal::Operator,
        Illegal::SystemOperator,
        Illegal::Adjustment,
        Illegal::Outdated,
        Illegal::Body,
        Illegal::KnownOperator,
        Illegal::SecondBeginning,
        Illegal::Signature,
        Illegal::FarFuture,
    ])
}

fn event() -> impl Strategy<Value = Event> {
    let wait = prop_oneof![
        4 => 0..HOUR_MS / 2,
        2 => -HOUR_MS..0,
        2 => HOUR_MS..3 * HOUR_MS,
        1 => 3 * HOUR_MS..40 * HOUR_MS,
    ];
    let kinds = [SystemKind::Audit, SystemKind::Config, SystemKind::Export, SystemKind::Anchor];
    let source = proptest::sample::select(vec![Source::Api, Source::Internal]);
    prop_oneof![
        6 => wait.prop_map(Event::Wait),
        12 => (0usize..2, proptest::collection::vec(choice(), 1..20))
            .prop_map(|(stream, messages)| Event::Ingest { stream, messages }),
        2 => (proptest::sample::select(kinds.to_vec()), 1usize..4, source)
            .prop_map(|(kind, count, source)| Event::System { kind, count, source }),
        1 => (0usize..4).prop_map(Event::Join),
        1 => (0usize..2).prop_map(Event::NewEpoch),
        1 => (0i64..4, proptest::option::of(1i64..6))
            .prop_map(|(after, hours)| Event::NewKey { after, hours }),
        2 => (proptest::sample::select(AdjustmentType::ALL), any::<prop::sample::Index>())
            .prop_map(|(kind, pick)| Event::Adjust { kind, pick }),
        3 => proptest::collection::vec((0usize..4, 0u64..25), 1..6).prop_map(Event::Expire),
        2 => Just(Event::Seal),
        1 => Just(Event::Sign),
        1 => Just(Event::NewLeader),
        2 => Just(Event::Restart),
        5 => illegal().prop_map(Event::Refused),
    ]
}

/// A world and what the events refer back to.
struct Run {
    world: World,
    /// Streams and the number of their latest epoch.
    epochs: [(&'static str, u32); 2],
    /// Everything that was offered as a record: some were duplicates.
    samples: Vec<Sample>,
}

impl Run {
    fn stream(&self, index: usize) -> String {
        match self.epochs[index] {
            (name, 1) => name.to_owned(),
            (name, epoch) => format!("{name}#{epoch}"),
        }
    }

    /// An operator that will be in force when the next row is accepted.
    fn operator(&mut self, wanted: usize) -> &'static str {
        let id = OPERATORS[wanted];
        self.world.seal();
        if self.world.oracle.in_force(id) { id } else { OPERATORS[0] }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wait(ms) => self.world.now += ms,
            Event::Ingest { stream, messages } => self.ingest(stream, &messages),
            Event::System { kind, count, source } => {
                let rows: Vec<SystemSample> = (0..count)
                    .map(|i| self.world.system_row(kind, &json!({"n": i, "text": "größer\n"})))
                    .collect();
                self.world.append(source, &rows);
            }
            Event::Join(wanted) => {
                if !self.world.ledger.state.registry.iter().any(|o| o.operator_id == OPERATORS[wanted]) {
                    self.world.join(OPERATORS[wanted]);
                }
            }
            Event::NewEpoch(index) => {
                self.epochs[index].1 += 1;
                let name = self.stream(index);
                let first = 1 + u64::from(self.epochs[index].1) * 100;
                self.world.open_stream(&name, first);
            }
            Event::NewKey { after, hours } => self.world.add_key(after, hours),
            Event::Adjust { kind, pick } if !self.samples.is_empty() => {
                let number = self.world.number();
                let sample = pick.get(&self.samples).adjusted(number, self.world.now, kind);
                if self.world.adjust(&sample) {
                    self.samples.push(sample);
                }
            }
            Event::Adjust { .. } => {}
            Event::Expire(messages) => self.expire(&messages),
            Event::Seal => self.world.seal(),
            Event::Sign => self.world.sign_all(),
            Event::NewLeader => self.world.fence(),
            Event::Restart => self.world.restart(),
            Event::Refused(illegal) => self.refuse(&illegal),
        }
    }

    fn ingest(&mut self, stream: usize, choices: &[Choice]) {
        let messages: Vec<Message> = choices.iter().map(|choice| self.message(choice)).collect();
        for message in &messages {
            if let Message::Final(sample) = message {
                self.samples.push((**sample).clone());
            }
        }
        let stream = self.stream(stream);
        self.world.ingest(&stream, &messages);
    }

    fn expire(&mut self, messages: &[(usize, u64)]) {
        let mut samples = Vec::new();
        for (operator, id) in messages {
            let (operator, number) = (self.operator(*operator), self.world.number());
            samples.push(of_pool(*id, operator, number, self.world.now).ended(FinalState::Expired));
        }
        self.samples.extend_from_slice(&samples);
        self.world.expire(&samples);
    }

    /// The receipt as a proposer that has read everything drafts it.
    fn drafted(&self, receipt: Sample) -> Sample {
        let waits = self.world.oracle.waits(self.world.now, receipt.message_id);
        let is_expired = receipt.codes / 216 == 2;
        match waits.filter(|_| !is_expired) {
            Some(last) => {
                let effective = self.samples.iter().find(|sample| cdr_id(sample.cdr_id) == last);
                effective.expect("a row that was offered").corrected_by(&receipt)
            }
            None => receipt,
        }
    }

    fn message(&mut self, choice: &Choice) -> Message {
        match *choice {
            Choice::New { operator } => {
                let operator = self.operator(operator);
                self.world.ordinary(operator)
            }
            Choice::OfPool { operator, id, state } => {
                let (operator, number) = (self.operator(operator), self.world.number());
                let receipt = of_pool(id, operator, number, self.world.now).ended(state);
                Message::Final(Box::new(self.drafted(receipt)))
            }
            Choice::Ignored => Message::Ignored,
            Choice::DeadLettered => Message::DeadLettered,
            Choice::Missing => Message::Missing,
        }
    }

    fn refuse(&mut self, illegal: &Illegal) {
        let world = &mut self.world;
        let position = world.oracle.position("SMS") as u64;
        let number = world.number();
        let mut sample = Sample::ordinary(number, OPERATORS[0], world.now);
        match illegal {
            Illegal::Operator => sample.operator_id = "nobody".to_owned(),
            Illegal::SystemOperator => sample.operator_id = "_system".to_owned(),
            Illegal::Adjustment => sample = sample.adjusted(number, world.now, AdjustmentType::Void),
            Illegal::Outdated => {
                // A receipt of a message that waits for one, drafted as if it were new; or a correction of nothing.
                let (oracle, now) = (&world.oracle, world.now);
                sample = match (0..25).find(|id| oracle.waits(now, bits("pool", *id)).is_some()) {
                    Some(id) => of_pool(id, OPERATORS[0], number, now).ended(FinalState::Failed),
                    None => sample.adjusted(number, now, AdjustmentType::Correction),
                };
            }
            _ => {}
        }
        let drafts = buffer([(0, sample.draft())]);
        let stream =
            if self.epochs[0].1 == 1 { "SMS".to_owned() } else { format!("SMS#{}", self.epochs[0].1) };
        let position =
            if world.oracle.has_stream(&stream) { world.oracle.position(&stream) as u64 } else { position };
        let good = Ingest {
            stream: &stream,
            first: position + 1,
            last: position + 1,
            last_digest: [0; 32],
            ignored: 0,
            dead_lettered: 0,
            missing: 0,
            drafts: drafts.drafts(),
        };
        let term = world.term;
        match illegal {
            Illegal::OldTerm | Illegal::NewTerm => {
                world.term = if matches!(illegal, Illegal::OldTerm) { term - 1 } else { term + 1 };
                let rejection = world.refused(Command::Ingest(good));
                assert_eq!(rejection, Rejection::Fenced { term: world.term, fence: term });
                world.term = term;
            }
            Illegal::Gap => {
                let gap = Ingest { first: position + 2, last: position + 2, ..good };
                assert!(matches!(world.refused(Command::Ingest(gap)), Rejection::Position { .. }));
            }
            Illegal::Repeat => {
                let repeat = Ingest { first: position, last: position, ..good };
                assert!(matches!(world.refused(Command::Ingest(repeat)), Rejection::Position { .. }));
            }
            Illegal::Sums => {
                let sums = Ingest { ignored: 1, ..good };
                assert!(matches!(world.refused(Command::Ingest(sums)), Rejection::Illegal { .. }));
            }
            Illegal::Stream => {
                let other = Ingest { stream: "SMS#999", ..good };
                assert!(matches!(world.refused(Command::Ingest(other)), Rejection::UnknownStream { .. }));
            }
            Illegal::Operator | Illegal::SystemOperator => {
                assert!(matches!(world.refused(Command::Ingest(good)), Rejection::UnknownOperator { .. }));
            }
            Illegal::Adjustment => {
                assert!(matches!(world.refused(Command::Ingest(good)), Rejection::Illegal { .. }));
            }
            Illegal::Outdated => {
                assert!(matches!(world.refused(Command::Ingest(good)), Rejection::Outdated { .. }));
            }
            Illegal::Body | Illegal::KnownOperator => self.refuse_row(illegal),
            Illegal::SecondBeginning => {
                let initialize = Initialize {
                    cluster_id: "other",
                    zone: "UTC",
                    clock: ClockKind::System,
                    dedup_horizon_hours: 1,
                    hash_key: [0; 16],
                    rows: Drafts::default(),
                };
                let rejection = world.refused(Command::Initialize(initialize));
                assert!(matches!(rejection, Rejection::AlreadyInitialized { .. }));
            }
            Illegal::Signature => {
                let hour = world.ledger.state.head.next_unsigned;
                let rejection = world.refused(Command::SignSeal(SignSeal { hour, signature: [7; 64] }));
                assert!(matches!(rejection, Rejection::Signature { .. }));
            }
            Illegal::FarFuture => {
                let now = world.now;
                world.now += 401 * 24 * HOUR_MS + 50 * HOUR_MS;
                assert!(matches!(world.refused(Command::Seal), Rejection::ClockJump { .. }));
                assert!(matches!(world.refused(Command::Ingest(good)), Rejection::ClockJump { .. }));
                world.now = now;
            }
        }
    }

    /// The second of two rows is illegal: the first must not stay.
    fn refuse_row(&mut self, illegal: &Illegal) {
        let world = &mut self.world;
        let good = world.system_row(SystemKind::Audit, &json!({"act": "LOGIN"}));
        let hour = world.next_row_hour() + 1;
        let mut bad = world.system_row(SystemKind::Operator, &operator_body(OPERATORS[0], hour));
        if matches!(illegal, Illegal::Body) {
            bad = world.system_row(SystemKind::Audit, &json!({"act": "LOGIN"}));
            bad.body = "{\"b\":1,\"a\":2}".to_owned();
        }
        let drafts = buffer([(0, good.draft()), (0, bad.draft())]);
        let rejection =
            world.refused(Command::Append(Append { source: Source::Api, drafts: drafts.drafts() }));
        assert!(matches!(rejection, Rejection::Illegal { .. }));
    }
}

/// An ordinary message whose id is one of a few.
fn of_pool(id: u64, operator_id: &str, number: u64, at_ms: i64) -> Sample {
    let mut sample = Sample::ordinary(number, operator_id, at_ms);
    sample.message_id = bits("pool", id);
    sample
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::cases(300)))]

    #[test]
    fn any_history_gives_the_chain_of_a_naive_recomputation(
        events in proptest::collection::vec(event(), 1..60),
        horizon_hours in prop_oneof![Just(1u32), Just(24), Just(168)],
        unkeyed_hours in prop_oneof![3 => Just(0i64), 1 => 1i64..5],
        key_hours in prop_oneof![3 => Just(None), 1 => (1i64..20).prop_map(Some)],
    ) {
        let mut run = Run {
            world: World::begin_with_key(&["Salaam", "AWCC"], horizon_hours, unkeyed_hours, key_hours),
            epochs: [("SMS", 1), ("BACKUP", 1)],
            samples: Vec::new(),
        };
        run.world.open_stream("BACKUP", 1000);
        for event in events {
            run.happen(event);
            run.world.check_unsigned();
        }
        run.world.check();
        run.world.now += 2 * HOUR_MS;
        run.world.seal();
        run.world.sign_all();
        run.world.check();
    }
}
