//! Variants loaded, refused and added; files written and read back. Decoders that nobody here wrote: `tests/tap`.
#![allow(clippy::unwrap_used)]

use super::*;
use cdr_core::row::{
    Adjustment, AdjustmentType, BillingIndicator, ChargeType, Direction, Encoding, FinalState, Frame, Record,
    Row, Sms,
};
use cdr_core::{CdrId, Millis, Money, Uuid};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tap-schemas");

fn at(text: &str) -> Millis {
    Millis::parse(text).unwrap()
}

fn header() -> FileHeader {
    let time = |text| LocalTime::new(at(text), 270);
    FileHeader {
        recording_entity: "4120101".to_owned(),
        sender: "41201".to_owned(),
        recipient: "AFGRA".to_owned(),
        sequence: 42,
        settlement_day: "2026-04-20".parse().unwrap(),
        created: time("2026-04-20T20:00:00.000Z"),
        cut_off: time("2026-04-20T19:30:00.000Z"),
        available: time("2026-04-20T20:10:00.000Z"),
        test: false,
        exchange_rates: BTreeMap::new(),
    }
}

fn sms() -> Sms<'static> {
    Sms {
        message_id: Uuid([1; 16]),
        tenant_id: None,
        calling_party: "AzizBank",
        called_party: "+93701234567",
        original_served_subscriber: None,
        recording_entity: "4120101",
        service_center: "+93701000000",
        message_reference: "ref-1",
        event_at: at("2026-04-20T13:00:00.123Z"),
        local_offset_minutes: 270,
        submitted_at: None,
        charge_amount: Money::parse("0.5"),
        charge_currency: Some("AFN"),
        tap_tariff_class: Some("A042"),
        tariff_version: Some("t-1"),
        charge_type: ChargeType::A2p,
        billing_indicator: BillingIndicator::Chargeable,
        direction: Direction::Mt,
        encoding: Encoding::Gsm7,
        final_state: FinalState::Delivered,
        segment_count: 1,
        failure_code: None,
        imsi: None,
        adjustment: None,
    }
}

fn row(sms: Sms<'_>) -> Row<'_> {
    Row {
        frame: Frame {
            bucket_hour: sms.event_at.hour(),
            sequence: 1,
            chain_prev: [0; 32],
            recorded_at: sms.event_at,
            source_stream: "DLR",
            source_sequence: 1,
            cdr_id: CdrId([3; 16]),
            operator_id: "AWCC",
            trace_id: "t",
        },
        record: Record::Sms(sms),
    }
}

fn shipped() -> Variants {
    Variants::load(Path::new(SHIPPED)).unwrap()
}

fn push(writer: &mut FileWriter, sms: Sms<'_>) -> Result<Taken, PushError> {
    let row = row(sms);
    writer.push(&row, row.sms().unwrap())
}

/// A copy of `atra-tap-v2` as the variant `mine` in a folder of its own.
struct Copy {
    dir: tempfile::TempDir,
}

impl Copy {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("mine");
        fs::create_dir(&folder).unwrap();
        for name in ["tap.asn1", "rap.asn1", "tap.toml", "rap.toml"] {
            fs::copy(Path::new(SHIPPED).join("atra-tap-v2").join(name), folder.join(name)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("mine").join(name)
    }

    /// Replaces the first `from` in a file, which must be there, and says on which line it stood.
    fn edit(&self, name: &str, from: &str, to: &str) -> usize {
        let text = fs::read_to_string(self.path(name)).unwrap();
        let start = text.find(from).unwrap_or_else(|| panic!("{name} has no {from}"));
        fs::write(self.path(name), text.replacen(from, to, 1)).unwrap();
        1 + text[..start].matches('\n').count()
    }

    fn load(&self) -> Result<Variants, SchemaError> {
        Variants::load(self.dir.path())
    }

    fn variant(&self) -> Arc<Variant> {
        Arc::clone(self.load().unwrap().get("mine").unwrap())
    }
}

#[test]
fn the_shipped_variants_load() {
    let variants = shipped();
    let names: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
    assert_eq!(names, ["atra-tap-v1", "atra-tap-v2", "tap-3-12-standard"]);
    for variant in variants.iter() {
        let is_standard = variant.name == "tap-3-12-standard";
        for kind in [FileKind::Tap, FileKind::Rap] {
            let numbering = variant.format(kind).numbering();
            assert_eq!((numbering.first, numbering.last), (1, 99_999));
            assert_eq!(numbering.wraps, is_standard);
            assert_eq!(numbering.per == Per::SenderAndRecipient, is_standard);
        }
    }
    let name = |variant: &str, kind, test| {
        variants.get(variant).unwrap().format(kind).file_name(&FileHeader { test, ..header() })
    };
    assert_eq!(name("atra-tap-v2", FileKind::Tap, false), "TAP_4120101_41201_00000042.20260420.tap");
    assert_eq!(name("atra-tap-v1", FileKind::Rap, false), "RAP_4120101_41201_00000042.20260420.rap");
    assert_eq!(name("tap-3-12-standard", FileKind::Tap, false), "CD41201AFGRA00042");
    assert_eq!(name("tap-3-12-standard", FileKind::Tap, true), "TD41201AFGRA00042");
    assert_eq!(name("tap-3-12-standard", FileKind::Rap, false), "RC41201AFGRA00042");
    assert_eq!(name("tap-3-12-standard", FileKind::Rap, true), "RT41201AFGRA00042");
    let tap = &variants.get("atra-tap-v2").unwrap().tap;
    assert_eq!((tap.sender("4122001").as_str(), tap.recipient(), tap.currency()), ("41220", "AFGRA", "AFN"));
}

#[test]
fn a_variant_is_a_folder_and_its_hash_follows_every_byte() {
    let copy = Copy::new();
    let first = copy.variant();
    assert_eq!(first.hash, shipped().get("atra-tap-v2").unwrap().hash, "the name is no part of the hash");
    copy.edit("tap.toml", "\"MR\", \"ET\"", "\"MR\"");
    copy.edit("tap.toml", "tag = \"ET\"", "tag = \"EX\"");
    let second = copy.variant();
    assert_ne!(second.hash, first.hash);
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = Vec::new();
    let mut writer = FileWriter::new(second, &header(), dir.path()).unwrap();
    push(&mut writer, sms()).unwrap();
    writer.finish(&mut bytes).unwrap();
    let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("EX=2026-04-20T13:00:00.123Z") && !has("ET="));
    fs::write(copy.path("README.md"), "This variant is ours.\n").unwrap();
    assert_ne!(copy.variant().hash, first.hash);
}

/// One change to a variant, and a part of what the refusal says. The line is that of the change unless `0` is given.
struct Broken(&'static str, &'static str, &'static str, Option<usize>, &'static str);

#[test]
fn broken_and_ambiguous_schemas_are_refused_by_file_and_line() {
    let same = None;
    let cases = [
        // Modules.
        Broken(
            "tap.asn1",
            "Charge ::= [APPLICATION 62] AbsoluteAmount",
            "Charge ::= [APPLICATION",
            Some(266),
            "ASN.1",
        ),
        Broken(
            "tap.asn1",
            "Code ::= INTEGER",
            "Code ::= INTEGER\nCharge ::= INTEGER",
            Some(327),
            "defined twice: also at mine/tap.asn1:265",
        ),
        Broken(
            "tap.asn1",
            "LocalCurrency ::= [APPLICATION 135] Currency",
            "LocalCurrency ::= [APPLICATION 135] Curency",
            same,
            "Curency is neither defined here nor imported",
        ),
        Broken(
            "tap.asn1",
            "Recipient ::= [APPLICATION 182]",
            "Recipient ::= [APPLICATION 196]",
            Some(37),
            "both begin with the tag [APPLICATION 196]",
        ),
        Broken(
            "tap.asn1",
            "MobileTerminatedCall ::= [APPLICATION 10]",
            "MobileTerminatedCall ::= [APPLICATION 9]",
            Some(129),
            "both begin with the tag [APPLICATION 9]",
        ),
        Broken(
            "tap.asn1",
            "    recipient Recipient OPTIONAL,",
            "    sender Recipient OPTIONAL,",
            same,
            "sender is there twice",
        ),
        Broken("tap.asn1", "Code ::= INTEGER", "Code ::= BOOLEAN", same, "BOOLEAN is not supported"),
        Broken("tap.asn1", "Code ::= INTEGER", "Code ::= INTEGER (0..99)", same, "SIZE"),
        Broken("tap.asn1", "IMPLICIT TAGS", "AUTOMATIC TAGS", same, "IMPLICIT TAGS"),
        Broken("tap.asn1", "Code ::= INTEGER", "code INTEGER ::= 5", same, "defin"),
        Broken(
            "tap.asn1",
            "CurrencyConversionList ::= [APPLICATION 80] SEQUENCE OF CurrencyConversion",
            "CurrencyConversionList ::= [APPLICATION 80] SEQUENCE OF AccountingInfo",
            Some(79),
            "contains itself",
        ),
        Broken(
            "rap.asn1",
            "AbsoluteAmount, CallEventDetail,",
            "AbsoluteSum, CallEventDetail,",
            same,
            "AbsoluteSum is imported, but mine/tap.asn1 does not define it",
        ),
        Broken("rap.asn1", "FROM TAP-0312", "FROM TAP-0313", Some(9), "none of the modules"),
        Broken(
            "rap.asn1",
            "PlmnId, RapFileSequenceNumber",
            "RapFileSequenceNumber",
            Some(49),
            "PlmnId is neither",
        ),
        // Mappings as such.
        Broken("tap.toml", "kind = \"TAP_3_12\"", "kind = ", same, ""),
        Broken("tap.toml", "kind = \"TAP_3_12\"", "kind = \"TAP_3_13\"", same, "TAP_3_12 or RAP_1_5"),
        Broken("tap.toml", "kind = \"TAP_3_12\"", "kind = \"RAP_1_5\"", Some(1), "TAP_3_12 is expected"),
        Broken(
            "tap.toml",
            "root = \"DataInterChange\"",
            "root = \"DataInterchange\"",
            same,
            "no module defines DataInterchange",
        ),
        Broken(
            "tap.toml",
            "modules = [\"tap.asn1\"]",
            "modules = [\"tip.asn1\"]",
            same,
            "mine/tip.asn1 is missing",
        ),
        Broken("tap.toml", "BCDString = \"bcd\"", "BCDString = \"bdc\"", same, "ascii, bcd, digits, hex"),
        Broken(
            "tap.toml",
            "BCDString = \"bcd\"",
            "BcdString = \"bcd\"",
            Some(5),
            "no module defines BcdString",
        ),
        Broken(
            "tap.toml",
            "HexString = \"hex\"\n",
            "",
            Some(190),
            "says of none of TeleServiceCode, HexString",
        ),
        Broken("tap.toml", "{sequence:8}", "{number}", same, "{number} is no placeholder"),
        Broken("tap.toml", "_{sequence:8}", "", same, "two files would have one name"),
        Broken("tap.toml", "per = \"recordingEntity\"", "per = \"operator\"", same, "senderAndRecipient"),
        Broken("tap.toml", "last = 99999", "last = 100000", same, "not between 1 and 99999"),
        Broken("tap.toml", "currency = \"AFN\"", "currency = \"afs\"", same, "ISO 4217"),
        Broken("tap.toml", "decimal_places = 6", "decimal_places = 7", same, "not between 0 and 6"),
        Broken(
            "tap.toml",
            "decimal_places = 6",
            "decimal_places = 3",
            Some(0),
            "differ from those of tap.toml",
        ),
        Broken(
            "tap.toml",
            "[money.exchange_rates]",
            "[money.exchange_rates]\nUSD = \"-1\"",
            Some(33),
            "positive decimal number",
        ),
        Broken("tap.toml", "[empty]", "[vacant]", same, "unknown key"),
        // Paths, fields, conversions.
        Broken(
            "tap.toml",
            "\"batchControlInfo.sender\" =",
            "\"batchControlInfo.sendr\" =",
            same,
            "has no item sendr",
        ),
        Broken("tap.toml", "path = \"transferBatch\"", "path = \"transferBatsh\"", same, "no alternative"),
        Broken(
            "tap.toml",
            "{ from = \"file.sender\" }",
            "{ from = \"file.sendr\" }",
            same,
            "file.sendr is not a field",
        ),
        Broken(
            "tap.toml",
            "{ from = \"file.sender\" }",
            "{ from = \"cdrId\" }",
            same,
            "cdrId has no value here",
        ),
        Broken(
            "tap.toml",
            "{ from = \"file.sender\" }",
            "{ from = \"file.sender\", value = 3 }",
            same,
            "exactly one of",
        ),
        Broken(
            "tap.toml",
            "{ from = \"file.sender\" }",
            "{ from = \"file.sender\", as = \"upper\" }",
            same,
            "no such conversion",
        ),
        Broken(
            "tap.toml",
            "{ from = \"file.sender\" }",
            "{ from = \"file.sender\", as = \"bcd\" }",
            same,
            "does not become",
        ),
        Broken(
            "tap.toml",
            "{ from = \"file.sender\" }",
            "{ from = \"file.created\" }",
            same,
            "needs a conversion",
        ),
        Broken("tap.toml", "{ from = \"file.sender\" }", "{ value = 3 }", same, "must be a text"),
        Broken("tap.toml", "{ from = \"file.sender\" }", "{ value = \"412\" }", same, "3 octets, but 5 to 5"),
        Broken(
            "tap.toml",
            "specificationVersionNumber\" = { value = 3 }",
            "specificationVersionNumber\" = { value = \"3\" }",
            same,
            "must be a number",
        ),
        Broken(
            "tap.toml",
            "recEntityInfo[0].recEntityCode",
            "recEntityInfo.recEntityCode",
            same,
            "is a list",
        ),
        Broken(
            "tap.toml",
            "recEntityInfo[0].recEntityCode",
            "recEntityInfo[each offset].recEntityCode",
            Some(109),
            "mapped in two ways",
        ),
        Broken(
            "tap.toml",
            "\"recEntityCode\" = { value = 0 }",
            "\"recEntityCode[0]\" = { value = 0 }",
            same,
            "is no list",
        ),
        Broken(
            "tap.toml",
            "\"accountingInfo.tapCurrency\"",
            "\"accountingInfo.localCurrency\"",
            same,
            "duplicate key",
        ),
        Broken(
            "tap.toml",
            "\"callEventDetails\" = { each = \"call\" }\n",
            "",
            Some(59),
            "no item lists the call events",
        ),
        Broken(
            "tap.toml",
            "\"callEventDetails\" = { each = \"call\" }",
            "\"callEventDetails\" = { each = \"row\" }",
            same,
            "\"call\" is expected",
        ),
        Broken(
            "tap.toml",
            "EXPIRED = 1, DELIVERED",
            "DELIVERED",
            same,
            "EXPIRED of finalState is not mapped",
        ),
        Broken(
            "tap.toml",
            "EXPIRED = 1, DELIVERED",
            "EXPIRED = 1, BUFFERED = 3, DELIVERED",
            same,
            "no such value",
        ),
        Broken("tap.toml", "direction = [\"MO\"]", "direction = [\"OUT\"]", same, "never OUT"),
        Broken(
            "tap.toml",
            "when = { direction = [\"MO\"], imsi",
            "when = { direktion = [\"MO\"], imsi",
            same,
            "is not a field",
        ),
        Broken("tap.toml", "texts = \"record\"", "texts = \"records\"", same, "none named records"),
        Broken(
            "tap.toml",
            "{ tag = \"RE\", from = \"recordingEntity\"",
            "{ tag = \"ID\", from = \"recordingEntity\"",
            same,
            "two have the tag ID",
        ),
        Broken(
            "tap.toml",
            "when = { direction = [\"MO\"], imsi = \"present\" }\n",
            "",
            Some(173),
            "never reached",
        ),
        Broken(
            "tap.toml",
            "chargeDetailList[0].charge\" = { from = \"charge\" }",
            "chargeDetailList[0].charge\" = { value = 0 }",
            Some(149),
            "must come from charge",
        ),
        Broken(
            "tap.toml",
            "\"basicCallInformation.destination.calledNumber\" = ",
            "\"basicCallInformation.destination\" = ",
            same,
            "holds items",
        ),
        // Rule tables.
        Broken(
            "tap.toml",
            "    \"batchControlInfo.recipient\",",
            "    \"batchControlInfo.receiver\",",
            same,
            "the module has no item batchControlInfo.receiver",
        ),
        Broken(
            "tap.toml",
            "\"batchControlInfo.recipient\" = { from = \"file.recipient\" }\n",
            "",
            Some(62),
            "batchControlInfo.recipient has no source",
        ),
        Broken(
            "tap.toml",
            "    { tag = \"MR\", from = \"messageReference\", as = \"percent\" },\n",
            "",
            Some(43),
            "no text has the tag MR",
        ),
        Broken(
            "tap.toml",
            "\"basicCallInformation.chargeableSubscriber.simChargeableSubscriber.imsi\" = { from = \"imsi\" }\n",
            "",
            Some(153),
            "has no source",
        ),
        Broken(
            "rap.toml",
            "\"fileSequenceNumber\" = { from = \"tap.sequence\", width = 5 }\n",
            "",
            Some(109),
            "severeReturn.fileSequenceNumber is not OPTIONAL",
        ),
        Broken("rap.toml", "{ from = \"tap.call\" }", "{ from = \"cdrId\" }", Some(109), "tap.call"),
    ];
    for Broken(file, from, to, line, part) in cases {
        let copy = Copy::new();
        let changed = copy.edit(file, from, to);
        let error = match copy.load() {
            Err(error) => error,
            Ok(_) => panic!("{file}: {to:?} instead of {from:?} was taken"),
        };
        let expected = line.unwrap_or(changed);
        assert!(error.why.contains(part), "{to:?} instead of {from:?}: {error}, not {part:?}");
        assert_eq!(
            (error.file.as_str(), error.line),
            (format!("mine/{file}").as_str(), expected),
            "{from:?}: {error}"
        );
    }
}

#[test]
fn missing_and_stray_files_are_refused() {
    for (name, part) in [
        ("tap.toml", "tap.toml is missing"),
        ("rap.toml", "rap.toml is missing"),
        ("rap.asn1", "rap.asn1 is missing"),
    ] {
        let copy = Copy::new();
        fs::remove_file(copy.path(name)).unwrap();
        let error = copy.load().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let copy = Copy::new();
    fs::write(copy.path("old.asn1"), "").unwrap();
    assert!(copy.load().unwrap_err().to_string().contains("no mapping names this module"));
    let copy = Copy::new();
    fs::write(copy.path("tap.toml.bak"), "").unwrap();
    assert!(copy.load().unwrap_err().to_string().contains("nothing else"));
    let empty = tempfile::tempdir().unwrap();
    assert!(Variants::load(empty.path()).unwrap_err().to_string().contains("no variant"));
    assert!(Variants::load(&empty.path().join("nowhere")).is_err());
}

/// Writes the records as a TAP file of `variant`, and reads it back.
fn round(variant: &Arc<Variant>, records: &[Sms<'_>]) -> (FileSummary, Vec<u8>, Decoded, Vec<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = FileWriter::new(Arc::clone(variant), &header(), dir.path()).unwrap();
    for record in records {
        push(&mut writer, record.clone()).unwrap();
    }
    let mut bytes = Vec::new();
    let summary = writer.finish(&mut bytes).unwrap();
    let mut calls = Vec::new();
    let decoded = decode(variant, FileKind::Tap, &bytes[..], &mut |call| {
        calls.push(call.bytes.to_vec());
        Ok(())
    })
    .unwrap();
    (summary, bytes, decoded, calls)
}

#[test]
fn a_file_and_what_it_says() {
    for variant in shipped().iter() {
        let late = Sms { event_at: at("2026-04-20T18:59:59.999Z"), local_offset_minutes: 210, ..sms() };
        let own =
            Sms { direction: Direction::Mo, imsi: Some("412011234567890"), calling_party: "+93701", ..sms() };
        let (summary, bytes, decoded, calls) = round(variant, &[sms(), late, own]);
        assert_eq!((summary.calls, summary.total_charge), (3, 1_500_000));
        assert_eq!((decoded.calls, decoded.total_charge), (3, 1_500_000));
        assert_eq!(summary.bytes, bytes.len() as u64);
        assert_eq!((decoded.sha256, decoded.bytes), (summary.sha256, summary.bytes));
        assert_eq!(summary.sha256, cdr_core::hash::sha256(&bytes));
        assert_eq!((decoded.earliest, decoded.latest), (summary.earliest, summary.latest));
        assert_eq!(decoded.latest, Some(LocalTime::new(at("2026-04-20T18:59:59.000Z"), 210)));
        assert_eq!(decoded.sequence, Some(42));
        assert_eq!(decoded.sender.as_deref(), Some("41201"));
        assert_eq!((decoded.currency.as_deref(), decoded.decimal_places), (Some("AFN"), Some(6)));
        assert_eq!((decoded.created, decoded.cut_off), (Some(header().created), Some(header().cut_off)));
        assert!(!decoded.is_notification);
        let header = header();
        let mut encoder = CallEncoder::new(&variant.tap, &header).unwrap();
        let row = row(sms());
        assert_eq!(
            encoder.encode(&row, row.sms().unwrap()).unwrap().bytes,
            calls[0],
            "bytes do not depend on neighbours"
        );
    }
}

#[test]
fn an_empty_day_is_a_notification() {
    for variant in shipped().iter() {
        let (summary, bytes, decoded, calls) = round(variant, &[]);
        assert_eq!(bytes[0], 0x62);
        assert_eq!((summary.calls, decoded.calls, calls.len()), (0, 0, 0));
        assert!(decoded.is_notification && decoded.earliest.is_none());
        assert_eq!(decoded.sequence, Some(42));
    }
}

#[test]
fn a_record_that_does_not_fit_leaves_the_file_as_it_was() {
    let variant = Arc::clone(shipped().get("atra-tap-v2").unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut writer = FileWriter::new(Arc::clone(&variant), &header(), dir.path()).unwrap();
    push(&mut writer, sms()).unwrap();
    for (bad, field) in [
        (Sms { charge_amount: None, ..sms() }, "chargeAmount"),
        (Sms { charge_amount: Money::parse("-1"), ..sms() }, "chargeAmount"),
        (Sms { charge_currency: None, ..sms() }, "chargeCurrency"),
        (Sms { charge_currency: Some("USD"), ..sms() }, "chargeAmount"),
        (Sms { called_party: "+93ü", ..sms() }, "calledPartyAddress"),
        (Sms { local_offset_minutes: 7, ..sms() }, "eventTimeStamp"),
        (Sms { imsi: Some("4120112345678901234"), ..sms() }, "imsi"),
        (Sms { imsi: Some("412x"), ..sms() }, "imsi"),
        (Sms { imsi: Some("412011"), service_center: "smsc", ..sms() }, "serviceCenterAddress"),
    ] {
        match push(&mut writer, bad) {
            Err(PushError::Record(error)) => assert!(error.field.contains(field), "{error}"),
            other => panic!("{field}: {other:?}"),
        }
        assert_eq!(writer.calls(), 1);
    }
    let mut bytes = Vec::new();
    writer.finish(&mut bytes).unwrap();
    assert_eq!(bytes, round(&variant, &[sms()]).1);
}

#[test]
fn another_currency_is_converted_by_a_rate_that_the_file_names() {
    let variant = Arc::clone(shipped().get("atra-tap-v2").unwrap());
    let dir = tempfile::tempdir().unwrap();
    let rates = BTreeMap::from([("USD".to_owned(), "70.0000005".parse().unwrap())]);
    let header = FileHeader { exchange_rates: rates, ..header() };
    let mut writer = FileWriter::new(variant, &header, dir.path()).unwrap();
    let taken =
        push(&mut writer, Sms { charge_currency: Some("USD"), charge_amount: Money::parse("1"), ..sms() });
    // 70.0000005 has a half in the seventh place: to the even digit.
    assert_eq!(taken.unwrap().charge, 70_000_000);
    let mut bytes = Vec::new();
    writer.finish(&mut bytes).unwrap();
    for text in ["OC=USD", "OA=1.000000", "XR=USD:70.0000005"] {
        assert!(bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
    }
}

#[test]
fn charges_are_rounded_half_to_even_where_a_variant_has_fewer_places() {
    let copy = Copy::new();
    copy.edit("tap.toml", "decimal_places = 6", "decimal_places = 3");
    copy.edit("rap.toml", "decimal_places = 6", "decimal_places = 3");
    let variant = copy.variant();
    let charges = ["0.0005", "0.0015", "0.0025", "999999999999.999499"];
    let records: Vec<Sms<'_>> =
        charges.iter().map(|charge| Sms { charge_amount: Money::parse(charge), ..sms() }).collect();
    let (summary, _, decoded, _) = round(&variant, &records);
    assert_eq!(summary.total_charge, 2 + 2 + 999_999_999_999_999);
    assert_eq!(decoded.decimal_places, Some(3));
}

#[test]
fn headers_that_no_file_can_have() {
    let variant = Arc::clone(shipped().get("atra-tap-v2").unwrap());
    let dir = tempfile::tempdir().unwrap();
    let zero = BTreeMap::from([("USD".to_owned(), "0".parse().unwrap())]);
    for (header, part) in [
        (FileHeader { sequence: 0, ..header() }, "not between 1 and 99999"),
        (FileHeader { sequence: 100_000, ..header() }, "not between 1 and 99999"),
        (FileHeader { sender: "4120".to_owned(), ..header() }, "4 octets, but 5 to 5"),
        (FileHeader { recipient: "../..".to_owned(), ..header() }, "can't stand in a file name"),
        (FileHeader { recording_entity: String::new(), ..header() }, "can't stand in a file name"),
        (FileHeader { exchange_rates: zero, ..header() }, "a rate is positive"),
        (FileHeader { created: LocalTime::new(header().created.at, 1440), ..header() }, "no local time"),
    ] {
        let error = FileWriter::new(Arc::clone(&variant), &header, dir.path()).unwrap_err();
        assert!(matches!(error, FileError::Header(_)) && error.to_string().contains(part), "{error}");
    }
    assert!(matches!(
        FileWriter::new(variant, &header(), Path::new("/nowhere/at/all")),
        Err(FileError::Io { .. })
    ));
}

fn adjusted(kind: AdjustmentType, sms: Sms<'static>) -> Row<'static> {
    let adjustment = Adjustment {
        of: CdrId([3; 16]),
        kind,
        reason: Some("wrong tariff"),
        void_reason: (kind == AdjustmentType::Void).then_some("DUPLICATE_DLR"),
        ticket_id: Some("T-1"),
        issued_by: Some("u-1"),
        approver: None,
    };
    let mut row = row(Sms { adjustment: Some(adjustment), ..sms });
    row.frame.cdr_id = CdrId([9; 16]);
    row
}

#[test]
fn adjustments_return_the_call_event_as_it_was_listed() {
    for variant in shipped().iter() {
        let (_, _, _, calls) = round(variant, &[sms()]);
        let original = row(sms());
        let dir = tempfile::tempdir().unwrap();
        let tap_header = header();
        let header = FileHeader { sequence: 7, ..header() };
        let mut writer = RapWriter::new(Arc::clone(variant), &header, dir.path()).unwrap();
        let charge = |text| Sms { charge_amount: Money::parse(text), ..sms() };
        let rows = [
            adjusted(AdjustmentType::ReRate, charge("0.0384")),
            adjusted(AdjustmentType::Void, charge("0")),
            adjusted(AdjustmentType::Correction, Sms { tap_tariff_class: Some("B001"), ..sms() }),
        ];
        for adjustment in &rows {
            let taken = writer.push(&Returned {
                adjustment,
                original: &original,
                listed: original.sms().unwrap(),
                tap_variant: variant,
                tap_header: &tap_header,
            });
            assert_eq!(taken.unwrap().charge, 500_000);
        }
        let no_adjustment = Returned {
            adjustment: &original,
            original: &original,
            listed: original.sms().unwrap(),
            tap_variant: variant,
            tap_header: &tap_header,
        };
        assert!(matches!(writer.push(&no_adjustment), Err(PushError::Record(_))));
        let mut bytes = Vec::new();
        let summary = writer.finish(&mut bytes).unwrap();
        assert_eq!((summary.calls, summary.total_charge), (3, 1_500_000));
        let mut returned = Vec::new();
        let decoded = decode(variant, FileKind::Rap, &bytes[..], &mut |call| {
            returned.push((call.bytes.to_vec(), call.charge, call.at));
            Ok(())
        })
        .unwrap();
        assert_eq!((decoded.calls, decoded.total_charge, decoded.sequence), (3, 1_500_000, Some(7)));
        for ((bytes, charge, at), texts) in returned.iter().zip([
            ["RR=TARIFF_CHANGE", "NC=0.038400"],
            ["VC=01", "NC=0.000000"],
            ["RR=CORRECTED", "NT=B001"],
        ]) {
            let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
            assert!(has(&calls[0]), "the call event of the TAP file");
            assert!(texts.iter().all(|text| has(text.as_bytes())), "{texts:?}");
            assert!(has(b"AD=adj_14H4H") || has(b"AD=adj_"), "the adjustment's id");
            assert_eq!((*charge, at.unwrap().offset_minutes), (500_000, 270));
        }
    }
}

#[test]
fn a_rap_file_without_adjustments_is_not_written() {
    let variant = Arc::clone(shipped().get("atra-tap-v2").unwrap());
    let dir = tempfile::tempdir().unwrap();
    let writer = RapWriter::new(variant, &header(), dir.path()).unwrap();
    assert!(matches!(writer.finish(&mut Vec::new()), Err(FileError::Empty)));
}

#[test]
fn any_other_bytes_are_refused() {
    let variant = Arc::clone(shipped().get("atra-tap-v1").unwrap());
    let (_, bytes, _, _) = round(&variant, &[sms(), Sms { charge_amount: Money::parse("0.3"), ..sms() }]);
    let read = |bytes: &[u8]| decode(&variant, FileKind::Tap, bytes, &mut |_| Ok(()));
    assert!(read(&bytes).is_ok());
    assert!(
        read(&[&bytes[..], &[0]].concat()).unwrap_err().to_string().contains("something follows the file")
    );
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "cut at {length}");
    }
    assert!(decode(&variant, FileKind::Rap, &bytes[..], &mut |_| Ok(())).is_err());
    // A total, the count and a charge: the last bytes of their items.
    let find = |item: &[u8]| {
        let at = bytes.windows(item.len()).rposition(|window| window == item).unwrap();
        at + item.len()
    };
    let (total, count) = (find(&[0x5f, 0x83, 0x1f, 0x03]), find(&[0x5f, 0x2b, 0x01]));
    let charge = find(&[0x5f, 0x3e, 0x03]);
    for (at, part) in [(total, "total charge"), (count, "number of call events"), (charge, "total charge")] {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1;
        let error = read(&wrong).unwrap_err();
        assert!(matches!(error, DecodeError::Totals { .. }) && error.to_string().contains(part), "{error}");
    }
    let mut unknown = bytes.clone();
    let at = find(&[0x5f, 0x81, 0x44]) - 1;
    unknown[at] = 0x45;
    assert!(read(&unknown).unwrap_err().to_string().contains("has no item [APPLICATION 197]"));
    let stop = decode(&variant, FileKind::Tap, &bytes[..], &mut |call| {
        Err(DecodeError::Call { index: call.index, why: "enough".to_owned() })
    });
    assert!(stop.unwrap_err().to_string().contains("call event 0: enough"));
}
