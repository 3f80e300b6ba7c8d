//! Settlement files of a replica alone, for tests of what makes, checks and delivers them.

use crate::export::{ENCODER_VERSION, ExportFiles, REGULATOR, header};
use crate::test_support::node::{OPERATOR, TestNode, message_id};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cdr_core::canonical::to_jcs;
use cdr_core::command::{Append, Command, DraftsBuffer, Reply, Source};
use cdr_core::export::step::ExportStep;
use cdr_core::export::{Export, ExportPins, ExportType, FileSignature, SeriesKey};
use cdr_core::row::{Adjustment, AdjustmentType, BillingIndicator, Draft, Drawn, Record, Sms, SystemKind};
use cdr_core::time::{Day, HOUR_MS};
use cdr_core::{CdrId, Hour, Millis, Money};
use cdr_tap::Variants;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// Schema variant of the files.
pub const VARIANT: &str = "atra-tap-v2";

/// A leading replica that makes settlement files of operator [`OPERATOR`].
pub struct TestSettlement {
    pub node: TestNode,
    pub files: ExportFiles,
    pub dir: TempDir,
}

impl TestSettlement {
    /// With the records of the messages 1 to `count`, of which none has a price.
    pub async fn begin(count: u64) -> Self {
        let node = TestNode::with_records(count).await;
        let dir = tempfile::tempdir().unwrap();
        let variants = Variants::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tap-schemas")).unwrap();
        let store = node.proposer.store().clone();
        let files = ExportFiles::new(store, Arc::new(variants), dir.path().join("files"));
        Self { node, files, dir }
    }

    /// Corrects the last row of a message; the correction's id.
    pub async fn correct(&self, number: u64, change: impl Fn(&mut Sms<'_>)) -> CdrId {
        let rows = self.node.proposer.store().rows_of_message(message_id(number)).unwrap();
        let row = rows.last().unwrap().row().unwrap();
        let mut sms = row.sms().unwrap().clone();
        sms.adjustment = Some(Adjustment {
            of: row.frame.cdr_id,
            kind: AdjustmentType::Correction,
            reason: Some("why"),
            void_reason: None,
            ticket_id: None,
            issued_by: Some("somebody"),
            approver: None,
        });
        change(&mut sms);
        let Drawn { version, cdr_id, salt } = self.node.proposer.draw().unwrap();
        let mut drafts = DraftsBuffer::default();
        let draft =
            Draft { version, cdr_id, operator_id: OPERATOR, trace_id: "t", salt, record: Record::Sms(sms) };
        drafts.push(0, &draft).unwrap();
        let append = Append { source: Source::Internal, drafts: drafts.drafts() };
        let reply = self.node.proposer.propose(Command::Append(append)).await.unwrap();
        assert!(matches!(reply, Reply::Appended { .. }), "{reply:?}");
        cdr_id
    }

    /// Gives a message a price in afghanis.
    pub async fn price(&self, number: u64, amount: &str) -> CdrId {
        let amount = Money::parse(amount);
        self.correct(number, |sms| {
            (sms.charge_amount, sms.charge_currency) = (amount, Some("AFN"));
            (sms.tap_tariff_class, sms.tariff_version) = (Some("A042"), Some("t-1"));
            sms.billing_indicator = BillingIndicator::Chargeable;
        })
        .await
    }

    /// Ends the open hour.
    pub async fn pass_hour(&self) {
        let clock = self.node.proposer.clock();
        clock.observe(Millis(clock.now().0 + HOUR_MS));
        let reply = self.node.proposer.propose(Command::Seal).await.unwrap();
        assert!(!matches!(reply, Reply::Rejected(_)), "{reply:?}");
    }

    /// What the next file of a kind would be pinned to.
    pub fn pins(&self, export_type: ExportType) -> ExportPins {
        let (state, now) = (self.node.proposer.state(), self.node.proposer.clock().now());
        let variant = self.files.variants().get(VARIANT).unwrap();
        let format = match export_type {
            ExportType::Tap => &variant.tap,
            ExportType::Rap => &variant.rap,
        };
        let reached = state.exports.reached(&key(export_type)).copied();
        let last = state.exports.last_number(REGULATOR, export_type, "4120101");
        let mut pins = ExportPins {
            created_at: now,
            created_offset_minutes: 270,
            cut_off_at: now,
            cut_off_offset_minutes: 270,
            encoder_version: ENCODER_VERSION,
            exchange_rates: BTreeMap::new(),
            export_type,
            file_name: String::new(),
            file_sequence_number: format.numbering().next(last).unwrap(),
            from_bucket: state.head.first_hour,
            operator_id: OPERATOR.to_owned(),
            recipient: format.recipient().to_owned(),
            recording_entity: "4120101".to_owned(),
            schema_hash: variant.hash,
            schema_variant: VARIANT.to_owned(),
            sender_roaming_partner: format.sender("4120101"),
            series: REGULATOR.to_owned(),
            settlement_day: reached.map_or(Day::local(now, 270), |reached| reached.day.next()),
            upto_bucket: Hour(state.head.open_hour.0 - 1),
        };
        pins.file_name = format.file_name(&header(&pins));
        pins
    }

    /// Opens, encodes and signs a TAP file.
    pub async fn tap_file(&self) -> Export {
        let pins = self.pins(ExportType::Tap);
        self.append(&ExportStep::Opened(pins)).await;
        let opened = self.open_files().pop().unwrap();
        let made = self.files.make(&opened).unwrap();
        assert_eq!(made.unfit, []);
        let export_id = opened.name();
        self.append(&ExportStep::Encoded { export_id: export_id.clone(), content: made.content }).await;
        let signature = FileSignature {
            algorithm: "Ed25519".to_owned(),
            key_id: "k".to_owned(),
            signature: STANDARD.encode([7; 64]),
        };
        self.append(&ExportStep::Signed { export_id, signature }).await;
        self.export(opened.id)
    }

    /// Appends an `export` row.
    pub async fn append(&self, step: &impl Serialize) {
        let row = (SystemKind::Export, to_jcs(step));
        let reply = self.node.proposer.append_rows("test", vec![row]).await.unwrap();
        assert!(!matches!(reply, Reply::Rejected(_)), "{reply:?}");
    }

    /// Files with work left, oldest first.
    pub fn open_files(&self) -> Vec<Export> {
        self.node.proposer.state().exports.open().cloned().collect()
    }

    /// What is known of a file.
    pub fn export(&self, id: CdrId) -> Export {
        self.node.proposer.store().export(id).unwrap().unwrap()
    }
}

/// The series of a kind.
pub fn key(export_type: ExportType) -> SeriesKey {
    SeriesKey { series: REGULATOR.to_owned(), export_type, operator_id: OPERATOR.to_owned() }
}
