//! A ledger whose days are settled, and the work of whoever makes the files.

use crate::support::{Random, apply_one, open};
use cdr_core::canonical::to_jcs;
use cdr_core::command::{
    Append, ClockKind, Command, DraftsBuffer, Envelope, Ingest, Initialize, Reply, Source,
};
use cdr_core::export::quarantine::{QuarantineStep, Unfit};
use cdr_core::export::step::ExportStep;
use cdr_core::export::{Cut, Export, ExportPins, ExportType, FileContent, SeriesKey};
use cdr_core::hash::sha256;
use cdr_core::personal::{Salt, SystemContent};
use cdr_core::row::{
    Adjustment, AdjustmentType, BillingIndicator, ChargeType, Direction, Draft, Drawn, Encoding, FinalState,
    Record, Sms, SystemKind,
};
use cdr_core::rules::SchemaVersion;
use cdr_core::time::{DAY_MS, Day, HOUR_MS};
use cdr_core::{CdrId, Hour, Millis, Money, Uuid};
use cdr_storage::{RapBatch, Store, StoredRow};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use tempfile::TempDir;

const FIRST: Hour = Hour(494_000);
const OFFSET_MINUTES: i16 = 270;
const OPERATORS: [&str; 2] = ["AWCC", "ETS"];
const SERIES: &str = "regulator";

/// What happens.
#[derive(Clone, Debug)]
pub enum Act {
    /// So many records come in.
    Ingest(u8),
    /// So many records are corrected, rated anew or voided.
    Adjust(u8),
    /// So many records without a price get one.
    Price(u8),
    /// So many hours pass.
    Pass(u8),
    /// A record that waits for its price goes into quarantine.
    WaitTooLong,
    /// So many records leave quarantine; true if they go into the next file.
    Resolve(u8, bool),
    /// Every file that is due is opened.
    Open,
    /// Every file that is opened is made.
    Make,
}

/// A record, as it was sent.
struct Sent {
    id: CdrId,
    operator: usize,
    day: Day,
    hour: Hour,
    /// Hour in which it got its price.
    priced_in: Option<Hour>,
    /// Ordinal of the row with the first price.
    priced_at: Option<u64>,
    voided: bool,
    last: CdrId,
    /// Adjustments: id, hour, ordinal.
    adjustments: Vec<(CdrId, Hour, u64)>,
}

/// An entry in quarantine.
struct Entry {
    id: CdrId,
    record: CdrId,
    resubmitted: Option<u64>,
    resolved: bool,
}

/// What a run has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub listed: usize,
    pub late: usize,
    pub priced_late: usize,
    pub after_quarantine: usize,
    pub in_quarantine: usize,
    pub returned: usize,
    pub returned_after_quarantine: usize,
}

pub struct World {
    random: Random,
    _dir: TempDir,
    store: Store,
    index: u64,
    now: Millis,
    position: u64,
    sent: Vec<Sent>,
    entries: Vec<Entry>,
    /// Files that are opened and not made, oldest first.
    pending: Vec<CdrId>,
    /// What each file that is made lists or returns.
    made: BTreeMap<CdrId, BTreeSet<CdrId>>,
    /// What each file selected, in its order.
    selected: BTreeMap<CdrId, Vec<CdrId>>,
}

impl World {
    pub fn begin(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let now = Millis(FIRST.start().0 + 1_000);
        let mut world = Self {
            random: Random(seed),
            _dir: dir,
            store,
            index: 0,
            now,
            position: 0,
            sent: Vec::new(),
            entries: Vec::new(),
            pending: Vec::new(),
            made: BTreeMap::new(),
            selected: BTreeMap::new(),
        };
        world.send(Command::Fence);
        let mut rows = DraftsBuffer::default();
        for operator in OPERATORS {
            let body = format!(
                "{{\"effectiveFrom\":\"{FIRST}\",\"operatorId\":\"{operator}\",\"recordingEntity\":\"E\"}}"
            );
            world.push_system(&mut rows, SystemKind::Operator, &body);
        }
        let stream =
            "{\"created\":\"2026-01-01T00:00:00Z\",\"firstSequence\":1,\"reason\":\"new\",\"stream\":\"S\"}";
        world.push_system(&mut rows, SystemKind::Stream, stream);
        world.send(Command::Initialize(Initialize {
            cluster_id: "test",
            zone: "Asia/Kabul",
            clock: ClockKind::Replay,
            dedup_horizon_hours: 168,
            hash_key: [9; 16],
            rows: rows.drafts(),
        }));
        world
    }

    fn send(&mut self, command: Command<'_>) -> Reply {
        let bytes = Envelope::new(1, self.now, command).encode().unwrap();
        self.index += 1;
        let reply = apply_one(&self.store, self.index, &bytes);
        assert!(!matches!(reply, Reply::Rejected(_)), "{reply:?}");
        reply
    }

    fn id(&mut self) -> CdrId {
        self.now.0 += 1;
        CdrId::from_parts(self.now.0, self.random.bytes())
    }

    fn push_system(&mut self, rows: &mut DraftsBuffer, kind: SystemKind, body: &str) -> CdrId {
        let cdr_id = self.id();
        let content = SystemContent::of_text(kind, body).unwrap();
        rows.push(0, &content.draft(Drawn { version: SchemaVersion::V2, cdr_id, salt: Salt(cdr_id.0) }, "t"))
            .unwrap();
        cdr_id
    }

    fn append(&mut self, kind: SystemKind, body: Vec<u8>) -> CdrId {
        let body = String::from_utf8(body).unwrap();
        let mut rows = DraftsBuffer::default();
        let id = self.push_system(&mut rows, kind, &body);
        self.send(Command::Append(Append { source: Source::Internal, drafts: rows.drafts() }));
        id
    }

    fn ordinal_of(&self, id: CdrId) -> u64 {
        self.store.row_by_id(id).unwrap().unwrap().ordinal()
    }

    pub fn step(&mut self, act: &Act) {
        match act {
            Act::Ingest(count) => self.ingest(*count),
            Act::Adjust(count) => (0..*count).for_each(|_| self.adjust(false)),
            Act::Price(count) => (0..*count).for_each(|_| self.adjust(true)),
            Act::Pass(hours) => {
                self.now.0 += i64::from(*hours) * HOUR_MS;
                self.send(Command::Seal);
            }
            Act::WaitTooLong => self.wait_too_long(),
            Act::Resolve(count, resubmit) => (0..*count).for_each(|_| self.resolve(*resubmit)),
            Act::Open => self.open_due(),
            Act::Make => self.make(),
        }
    }

    fn ingest(&mut self, count: u8) {
        let mut drafts = DraftsBuffer::default();
        let (first, from) = (self.position + 1, self.sent.len());
        for offset in 0..u32::from(count) {
            let cdr_id = self.id();
            // Mostly of the last hours, now and then days late, at most an hour ahead.
            let late = if self.random.below(6) == 0 { 60 } else { 4 } * HOUR_MS;
            let event_at = Millis(self.now.0 + HOUR_MS - self.random.below(late as u64) as i64);
            let priced = self.random.below(3) > 0;
            let operator = self.random.below(2) as usize;
            let mut sms = message(Uuid(cdr_id.0), event_at);
            if priced {
                price(&mut sms, Money::parse("1").unwrap());
            }
            let (operator_id, record) = (OPERATORS[operator], Record::Sms(sms));
            let draft = Draft {
                version: SchemaVersion::V2,
                cdr_id,
                operator_id,
                trace_id: "t",
                salt: Salt(cdr_id.0),
                record,
            };
            drafts.push(offset, &draft).unwrap();
            self.sent.push(Sent {
                id: cdr_id,
                operator,
                day: Day::local(event_at, OFFSET_MINUTES),
                hour: Hour(0),
                priced_in: priced.then_some(Hour(0)),
                priced_at: None,
                voided: false,
                last: cdr_id,
                adjustments: Vec::new(),
            });
        }
        self.position += u64::from(count);
        let last_digest = sha256(b"last");
        self.send(Command::Ingest(Ingest {
            stream: "S",
            first,
            last: self.position,
            last_digest,
            ignored: 0,
            dead_lettered: 0,
            missing: 0,
            drafts: drafts.drafts(),
        }));
        for at in from..self.sent.len() {
            let stored = self.store.row_by_id(self.sent[at].id).unwrap().unwrap();
            let sent = &mut self.sent[at];
            sent.hour = stored.hour();
            if sent.priced_in.is_some() {
                (sent.priced_in, sent.priced_at) = (Some(stored.hour()), Some(stored.ordinal()));
            }
        }
    }

    /// Adjusts a record; `first_price` gives one its first price.
    fn adjust(&mut self, first_price: bool) {
        let fits = |sent: &Sent| !sent.voided && (!first_price || sent.priced_in.is_none());
        let all: Vec<usize> = (0..self.sent.len()).filter(|at| fits(&self.sent[*at])).collect();
        if all.is_empty() {
            return;
        }
        let at = all[self.random.below(all.len() as u64) as usize];
        let kind = match self.random.below(4) {
            _ if first_price => AdjustmentType::Correction,
            0 => AdjustmentType::Void,
            1 => AdjustmentType::ReRate,
            _ => AdjustmentType::Correction,
        };
        // A correction of something else leaves a record without a price without one.
        let gives_price =
            first_price || kind != AdjustmentType::Correction || self.sent[at].priced_in.is_some();
        let cdr_id = self.id();
        let (of, operator) = (self.sent[at].last, self.sent[at].operator);
        let before = self.store.row_by_id(of).unwrap().unwrap();
        let row = before.row().unwrap();
        let mut sms = row.sms().unwrap().clone();
        if gives_price {
            let amount = if kind == AdjustmentType::Void { Money::ZERO } else { Money::parse("2").unwrap() };
            price(&mut sms, amount);
        }
        sms.segment_count = 1 + sms.segment_count % 9;
        sms.adjustment = Some(Adjustment {
            of,
            kind,
            reason: None,
            void_reason: (kind == AdjustmentType::Void).then_some("X"),
            ticket_id: None,
            issued_by: Some("somebody"),
            approver: None,
        });
        let mut drafts = DraftsBuffer::default();
        let (operator_id, record) = (OPERATORS[operator], Record::Sms(sms));
        let draft = Draft {
            version: SchemaVersion::V2,
            cdr_id,
            operator_id,
            trace_id: "t",
            salt: Salt(cdr_id.0),
            record,
        };
        drafts.push(0, &draft).unwrap();
        self.send(Command::Append(Append { source: Source::Api, drafts: drafts.drafts() }));
        let stored = self.store.row_by_id(cdr_id).unwrap().unwrap();
        let sent = &mut self.sent[at];
        sent.last = cdr_id;
        sent.voided = kind == AdjustmentType::Void;
        sent.adjustments.push((cdr_id, stored.hour(), stored.ordinal()));
        if gives_price && sent.priced_in.is_none() {
            (sent.priced_in, sent.priced_at) = (Some(stored.hour()), Some(stored.ordinal()));
        }
    }

    fn waits(&self, record: CdrId) -> bool {
        self.entries.iter().any(|entry| entry.record == record && !entry.resolved)
    }

    fn quarantine(&mut self, record: CdrId, operator: usize, file: Option<CdrId>) {
        let unfit = Unfit {
            cdr_id: record.to_string(),
            encoder_error: "it can't be expressed".to_owned(),
            export_id: file.map(|id| id.with_prefix("exp_")),
            operator_id: OPERATORS[operator].to_owned(),
            schema_variant: "v".to_owned(),
            series: SERIES.to_owned(),
        };
        let id = self.append(SystemKind::Quarantine, to_jcs(&QuarantineStep::Quarantined(unfit)).unwrap());
        self.entries.push(Entry { id, record, resubmitted: None, resolved: false });
    }

    fn wait_too_long(&mut self) {
        let unpriced = self.sent.iter().find(|sent| sent.priced_in.is_none() && !self.waits(sent.id));
        if let Some((id, operator)) = unpriced.map(|sent| (sent.id, sent.operator)) {
            self.quarantine(id, operator, None);
        }
    }

    fn resolve(&mut self, resubmit: bool) {
        let open: Vec<usize> = (0..self.entries.len()).filter(|at| !self.entries[*at].resolved).collect();
        if open.is_empty() {
            return;
        }
        let at = open[self.random.below(open.len() as u64) as usize];
        let (quarantine_id, resolved_by) = (self.entries[at].id.with_prefix("qua_"), "somebody".to_owned());
        let step = if resubmit {
            QuarantineStep::Resubmitted { quarantine_id, resolved_by }
        } else {
            QuarantineStep::Discarded { quarantine_id, resolved_by }
        };
        let row = self.append(SystemKind::Quarantine, to_jcs(&step).unwrap());
        let ordinal = self.ordinal_of(row);
        self.entries[at].resolved = true;
        self.entries[at].resubmitted = resubmit.then_some(ordinal);
    }

    fn key(operator: usize, export_type: ExportType) -> SeriesKey {
        SeriesKey { series: SERIES.to_owned(), export_type, operator_id: OPERATORS[operator].to_owned() }
    }

    /// Opens the files of every day that is over: TAP first, then RAP, which may be left out.
    fn open_due(&mut self) {
        let first = Day::local(FIRST.start(), OFFSET_MINUTES);
        let today = Day::local(self.now, OFFSET_MINUTES);
        for operator in 0..OPERATORS.len() {
            for export_type in [ExportType::Tap, ExportType::Rap] {
                let key = Self::key(operator, export_type);
                loop {
                    let reached = self.store.state().exports.reached(&key).copied();
                    let day = reached.map_or(first, |reached| reached.day.next());
                    let tap =
                        self.store.state().exports.reached(&Self::key(operator, ExportType::Tap)).copied();
                    let has_tap = export_type == ExportType::Tap || tap.is_some_and(|tap| tap.day >= day);
                    if day >= today || !has_tap {
                        break;
                    }
                    self.open_file(&key, day, operator);
                }
            }
        }
    }

    fn open_file(&mut self, key: &SeriesKey, day: Day, operator: usize) {
        self.send(Command::Seal);
        let state = self.store.state();
        let upto_bucket = Hour(state.head.open_hour.0 - 1);
        let number = state.exports.last_number(SERIES, key.export_type, OPERATORS[operator]).unwrap_or(0) + 1;
        let pins = ExportPins {
            created_at: self.now,
            created_offset_minutes: OFFSET_MINUTES,
            cut_off_at: self.now,
            cut_off_offset_minutes: OFFSET_MINUTES,
            encoder_version: 1,
            exchange_rates: std::collections::BTreeMap::new(),
            export_type: key.export_type,
            file_name: "f".to_owned(),
            file_sequence_number: number,
            from_bucket: self.first_new_bucket(key),
            operator_id: key.operator_id.clone(),
            recipient: "ATRAF".to_owned(),
            recording_entity: OPERATORS[operator].to_owned(),
            schema_hash: [1; 32],
            schema_variant: "v".to_owned(),
            sender_roaming_partner: "AFGAW".to_owned(),
            series: SERIES.to_owned(),
            settlement_day: day,
            upto_bucket,
        };
        if self.random.below(2) == 0 && self.has_nothing(&pins) {
            let rows_looked_at = self.store.state().head.row_count;
            if self.random.below(2) == 0 {
                self.resolve(true);
            }
            let step = ExportStep::Skipped {
                export_type: pins.export_type,
                operator_id: pins.operator_id,
                series: pins.series,
                settlement_day: day,
                upto_bucket,
                rows_looked_at,
            };
            self.append(SystemKind::Export, to_jcs(&step).unwrap());
            return;
        }
        let id = self.append(SystemKind::Export, to_jcs(&ExportStep::Opened(pins)).unwrap());
        self.pending.push(id);
    }

    /// True for a RAP file that would return nothing.
    fn has_nothing(&self, pins: &ExportPins) -> bool {
        if pins.export_type == ExportType::Tap {
            return false;
        }
        let state = self.store.state();
        let cut = Cut { day: pins.settlement_day, upto: pins.upto_bucket, ordinal: state.head.row_count };
        let mut export = Export::opened(CdrId([0; 16]), pins.clone(), cut, None);
        export.before = state.exports.reached(&export.series_key()).copied();
        let mut nothing = true;
        let stop = &mut |_| {
            nothing = false;
            ControlFlow::Break(())
        };
        self.store.rap_adjustments(&export, stop).unwrap();
        nothing
    }

    /// First hour that can hold something new to the next file of a series, as whoever opens files has it.
    fn first_new_bucket(&self, key: &SeriesKey) -> Hour {
        let state = self.store.state();
        let Some(before) = state.exports.reached(key).copied() else { return FIRST };
        if key.export_type == ExportType::Tap {
            let day_ends = (i64::from(before.day.0) + 1) * DAY_MS - i64::from(OFFSET_MINUTES) * 60_000;
            return before.upto.next().min(Millis(day_ends - HOUR_MS).hour()).max(FIRST);
        }
        let tap = SeriesKey { export_type: ExportType::Tap, ..key.clone() };
        let since =
            self.store.series(&tap).unwrap().into_iter().filter(|file| file.cut.ordinal >= before.ordinal);
        let froms = since.map(|file| self.store.export(file.id).unwrap().unwrap().pins.from_bucket);
        froms.min().map_or(before.upto.next(), |from| from.min(before.upto.next()))
    }

    /// Makes every file that is opened, oldest first. What can't be expressed goes into quarantine; sometimes whoever
    /// does it dies half-way, and somebody else begins again.
    fn make(&mut self) {
        for id in std::mem::take(&mut self.pending) {
            let export = self.store.export(id).unwrap().unwrap();
            let selected = self.select(&export);
            if self.random.below(4) == 0 {
                self.put_unfit_away(&export, &selected[..selected.len() / 2]);
                if self.random.below(2) == 0 {
                    self.resolve(true);
                }
            }
            assert_eq!(
                self.select(&export),
                selected,
                "what a file lists does not depend on when it is made"
            );
            self.put_unfit_away(&export, &selected);
            let listed: BTreeSet<CdrId> =
                selected.iter().copied().filter(|record| !is_unfit(*record, id)).collect();
            let content = FileContent {
                byte_size: 1,
                file_sha256: [2; 32],
                quarantined_count: (selected.len() - listed.len()) as u64,
                records_included: listed.len() as u64,
                total_charge: "0".to_owned(),
                trace_sha256: [3; 32],
            };
            let encoded = ExportStep::Encoded { export_id: export.name(), content };
            self.append(SystemKind::Export, to_jcs(&encoded).unwrap());
            self.selected.insert(id, selected);
            self.made.insert(id, listed);
        }
    }

    /// Puts what a file can't express into quarantine, unless it did so before.
    fn put_unfit_away(&mut self, export: &Export, selected: &[CdrId]) {
        let operator = OPERATORS.iter().position(|known| *known == export.pins.operator_id).unwrap();
        for record in selected.iter().copied().filter(|record| is_unfit(*record, export.id)) {
            let known = self.store.quarantine_of(SERIES, record).unwrap();
            let name = export.name();
            if !known.iter().any(|entry| entry.unfit.export_id.as_ref() == Some(&name)) {
                self.quarantine(record, operator, Some(export.id));
            }
        }
    }

    /// What a file selects, in its order; the same whether it is read from its first hour on or from the ledger's.
    fn select(&self, export: &Export) -> Vec<CdrId> {
        let mut whole = export.clone();
        whole.pins.from_bucket = FIRST;
        let (selected, all) = (self.read(export), self.read(&whole));
        let sorted = |ids: &[CdrId]| {
            let mut ids = ids.to_vec();
            ids.sort();
            ids
        };
        assert_eq!(sorted(&selected), sorted(&all), "{:?} from {}", export.pins, export.pins.from_bucket);
        selected
    }

    fn read(&self, export: &Export) -> Vec<CdrId> {
        let mut ids = Vec::new();
        match export.pins.export_type {
            ExportType::Tap => self
                .store
                .tap_records(export, &mut |listed| {
                    let original = listed.original.row().unwrap().frame.cdr_id;
                    assert_eq!(listed.row_hash, self.store.stored_row_hash(&listed.original).unwrap());
                    assert_eq!(Some(listed.carried().ordinal()), self.sent(original).priced_at);
                    ids.push(original);
                    ControlFlow::Continue(())
                })
                .unwrap(),
            ExportType::Rap => self
                .store
                .rap_adjustments(export, &mut |returned| {
                    let original = returned.original.row().unwrap().frame.cdr_id;
                    assert_eq!(returned.row_hash, self.store.stored_row_hash(&returned.adjustment).unwrap());
                    assert_eq!(Some(returned.carried().ordinal()), self.sent(original).priced_at);
                    let by = self.made.get(&returned.tap_file);
                    assert!(by.is_some_and(|listed| listed.contains(&original)), "it is in that TAP file");
                    ids.push(returned.adjustment.row().unwrap().frame.cdr_id);
                    ControlFlow::Continue(())
                })
                .unwrap(),
        }
        ids
    }

    fn sent(&self, id: CdrId) -> &Sent {
        self.sent.iter().find(|sent| sent.id == id).unwrap()
    }

    /// Lets two days pass and settles them.
    pub fn settle(&mut self) {
        self.make();
        self.step(&Act::Pass(48));
        self.open_due();
        self.make();
    }

    /// Holds every file against what must be true; says what there was.
    pub fn check(&self) -> Seen {
        let mut seen = Seen::default();
        for (id, selected) in &self.selected {
            let export = self.store.export(*id).unwrap().unwrap();
            assert_eq!(self.select(&export), *selected, "a file can be made again at any time");
        }
        for sent in &self.sent {
            self.check_record(sent, &mut seen);
        }
        seen
    }

    /// Files of a kind that hold `id`.
    fn files_with(&self, id: CdrId, key: &SeriesKey) -> Vec<Export> {
        let files = self.store.series(key).unwrap();
        let holds =
            files.iter().filter(|file| self.made.get(&file.id).is_some_and(|made| made.contains(&id)));
        holds.map(|file| self.store.export(file.id).unwrap().unwrap()).collect()
    }

    /// How the last time in quarantine ended: none if it never was there, else when it was resubmitted, if it was.
    #[allow(clippy::option_option)]
    fn last_episode(&self, id: CdrId) -> Option<Option<u64>> {
        self.entries.iter().rev().find(|entry| entry.record == id).map(|entry| entry.resubmitted)
    }

    fn check_record(&self, sent: &Sent, seen: &mut Seen) {
        let key = Self::key(sent.operator, ExportType::Tap);
        let files = self.files_with(sent.id, &key);
        assert!(files.len() <= 1, "{} is in {} files", sent.id, files.len());
        let last = *self.store.state().exports.reached(&key).unwrap();
        let is_reached = sent.day <= last.day && sent.priced_in.is_some_and(|hour| hour <= last.upto);
        let episode = self.last_episode(sent.id);
        let waits = match episode {
            None => !is_reached,
            Some(None) => true,
            Some(Some(resubmitted)) => !is_reached || resubmitted >= last.ordinal,
        };
        assert_eq!(files.is_empty(), waits, "{} of {} priced in {:?}", sent.id, sent.day, sent.priced_in);
        let original = self.store.row_by_id(sent.id).unwrap().unwrap();
        let file = files.first();
        for row in std::iter::once(sent.id).chain(sent.adjustments.iter().map(|(id, ..)| *id)) {
            let stored = self.store.row_by_id(row).unwrap().unwrap();
            assert_eq!(self.store.tap_file_of(&key, &stored).unwrap(), file.map(|file| file.id));
        }
        seen.in_quarantine += usize::from(episode == Some(None));
        let Some(file) = file else { return };
        assert!(sent.day <= file.pins.settlement_day && sent.priced_in.unwrap() <= file.cut.upto);
        seen.listed += 1;
        seen.late += usize::from(sent.day < file.pins.settlement_day);
        seen.priced_late += usize::from(sent.priced_at != Some(original.ordinal()));
        seen.after_quarantine += usize::from(episode.is_some());
        for (adjustment, hour, ordinal) in &sent.adjustments {
            let is_carried = *ordinal <= sent.priced_at.unwrap();
            let returned = self.check_adjustment(*adjustment, *hour, is_carried, sent, file);
            seen.returned += usize::from(returned);
            seen.returned_after_quarantine += usize::from(returned && episode.is_some());
        }
    }

    /// Asked the other way round, an adjustment is in the file that returns it, from when that was encoded.
    fn check_batch(&self, id: CdrId, file: Option<&Export>, tap_file: &Export) {
        let row = self.store.row_by_id(id).unwrap().unwrap();
        let line = self.store.line(&row).unwrap();
        let lines = self.store.lines(&[row.clone(), line[0].clone()]).unwrap();
        for many in &lines {
            let ordinals = |line: &[StoredRow]| line.iter().map(StoredRow::ordinal).collect::<Vec<_>>();
            assert_eq!(ordinals(many), ordinals(&line), "one line, however it is read");
        }
        let found = self.store.rap_batches(SERIES, &[(&row, &lines[0])]).unwrap();
        let expected = file.map(|file| RapBatch {
            file: file.id,
            tap_file: tap_file.id,
            batched_at: file.encoded_at.expect("it is made"),
        });
        assert_eq!(found, [expected], "{id}");
    }

    /// True if a RAP file returns the adjustment.
    fn check_adjustment(
        &self,
        id: CdrId,
        hour: Hour,
        is_carried: bool,
        sent: &Sent,
        tap_file: &Export,
    ) -> bool {
        let key = Self::key(sent.operator, ExportType::Rap);
        let files = self.files_with(id, &key);
        assert!(files.len() <= 1, "{id} is returned {} times", files.len());
        let last = *self.store.state().exports.reached(&key).unwrap();
        let is_reached = hour <= last.upto && tap_file.cut.ordinal < last.ordinal;
        let waits = match self.last_episode(id) {
            _ if is_carried => true,
            None => !is_reached,
            Some(None) => true,
            Some(Some(resubmitted)) => !is_reached || resubmitted >= last.ordinal,
        };
        self.check_batch(id, files.first(), tap_file);
        assert_eq!(files.is_empty(), waits, "{id} of {hour}, {} in {:?}", sent.id, tap_file.cut);
        let before = files.first().is_none_or(|file| tap_file.cut.ordinal < file.cut.ordinal);
        assert!(before, "{id} is returned before its original is listed");
        !files.is_empty()
    }
}

/// Whether a file can't express a record: of both alone, so that it is the same whoever makes the file.
fn is_unfit(record: CdrId, file: CdrId) -> bool {
    sha256(&[record.0, file.0].concat())[0] < 30
}

fn message(message_id: Uuid, event_at: Millis) -> Sms<'static> {
    Sms {
        message_id,
        calling_party: "BANK",
        called_party: "+93701234567",
        recording_entity: "E",
        service_center: "+93700000010",
        message_reference: "1",
        event_at,
        local_offset_minutes: OFFSET_MINUTES,
        charge_type: ChargeType::A2p,
        billing_indicator: BillingIndicator::Unknown,
        direction: Direction::Mt,
        encoding: Encoding::Gsm7,
        final_state: FinalState::Delivered,
        segment_count: 1,
        ..Sms::BLANK
    }
}

fn price(sms: &mut Sms<'_>, amount: Money) {
    (sms.charge_amount, sms.charge_currency) = (Some(amount), Some("AFN"));
    (sms.tap_tariff_class, sms.tariff_version) = (Some("A001"), Some("p-1"));
    sms.billing_indicator = BillingIndicator::Chargeable;
}
