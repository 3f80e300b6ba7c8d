//! Files written and read back.

use super::*;
use cdr_core::hash::to_hex;
use cdr_core::row::{Adjustment, AdjustmentType};
use proptest::prelude::*;
use std::sync::LazyLock;

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
fn the_same_records_give_the_same_bytes() {
    let records: Vec<Sms<'_>> = (0..300)
        .map(|n| Sms { local_offset_minutes: [345, 270, 0][n % 3], segment_count: n as u8, ..sms() })
        .collect();
    for variant in shipped().iter() {
        let again = Variant::load(&Path::new(SHIPPED).join(&variant.name)).unwrap();
        assert_eq!(again.hash, variant.hash);
        assert_eq!(round(variant, &records).1, round(&Arc::new(again), &records).1);
    }
}

/// Hash of each shipped variant, and of a file that was made with it by encoder version 1.
const MADE_BEFORE: [(&str, &str, &str); 3] = [
    (
        "atra-tap-v1",
        "f3170bc585264503d427155abbbd6848620c56b30ad55194eb64963ced194b97",
        "779a70a2799046877ba85c60989d066747b59cb9c206acdbec938371ac801e46",
    ),
    (
        "atra-tap-v2",
        "6c6f469540235a2169c0f211232424b70fea82c7ba005cd921d45285321d5e25",
        "6a5e73c4cf745db138fbc615abe3ed457a315b04fb6691781cb039d6c9a6af3f",
    ),
    (
        "tap-3-12-standard",
        "2e8c332f943e044ef486814b0f3295cf0cd5c9bd2255054011c8e5b0ad0dda18",
        "ac67b3af1e5550392d513df8180e54ada665cf24a6d9d20b9a4ce66eea7f059e",
    ),
];

#[test]
fn files_are_made_as_before() {
    assert_eq!(ENCODER_VERSION, 1, "record what this version makes");
    let free = Sms { charge_amount: Money::parse("0"), charge_currency: None, ..sms() };
    let own =
        Sms { direction: Direction::Mo, imsi: Some("412011234567890"), calling_party: "+93701", ..sms() };
    let other = Sms { direction: Direction::Mt, calling_party: "هوا", ..own.clone() };
    let made: Vec<(String, String, String)> = shipped()
        .iter()
        .map(|variant| {
            let file = round(variant, &[sms(), free.clone(), own.clone(), other.clone()]).0.sha256;
            (variant.name.clone(), to_hex(&variant.hash), to_hex(&file))
        })
        .collect();
    let before: Vec<_> = MADE_BEFORE.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())).into();
    assert_eq!(
        made, before,
        "a schema changed: record both hashes. The encoder did: raise ENCODER_VERSION, too"
    );
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
fn a_full_disk_is_an_error_of_the_file() {
    let variant = Arc::clone(shipped().get("atra-tap-v2").unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut writer = FileWriter::new(variant, &header(), dir.path()).unwrap();
    push(&mut writer, sms()).unwrap();
    let mut full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert!(matches!(writer.finish(&mut full), Err(FileError::Io { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "spool files have no names");
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

fn adjusted(kind: AdjustmentType, sms: &Sms<'static>) -> Row<'static> {
    let adjustment = Adjustment {
        of: CdrId([3; 16]),
        kind,
        reason: Some("wrong tariff"),
        void_reason: (kind == AdjustmentType::Void).then_some("DUPLICATE_DLR"),
        ticket_id: Some("T-1"),
        issued_by: Some("u-1"),
        approver: None,
    };
    let mut row = row(Sms { adjustment: Some(adjustment), ..sms.clone() });
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
            adjusted(AdjustmentType::ReRate, &charge("0.0384")),
            adjusted(AdjustmentType::Void, &charge("0")),
            adjusted(AdjustmentType::Correction, &Sms { tap_tariff_class: Some("B001"), ..sms() }),
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
            assert!(has(CdrId([9; 16]).with_prefix("AD=adj_").as_bytes()), "the adjustment's id");
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testkit::cases(2000)))]

    /// Whatever the bytes are, reading them ends with an answer.
    #[test]
    fn changed_bytes_are_read_or_refused(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let (variant, bytes) = &*SAMPLE;
        let mut bytes = bytes.clone();
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        let mut calls = 0;
        let read = decode(variant, FileKind::Tap, &bytes[..], &mut |_| {
            calls += 1;
            Ok(())
        });
        if let Ok(decoded) = read {
            prop_assert_eq!(decoded.calls, calls);
            prop_assert_eq!(decoded.bytes, bytes.len() as u64);
        }
    }
}

static SAMPLE: LazyLock<(Arc<Variant>, Vec<u8>)> = LazyLock::new(|| {
    let variant = Arc::clone(shipped().get("atra-tap-v2").unwrap());
    let own =
        Sms { direction: Direction::Mo, imsi: Some("412011234567890"), calling_party: "+93701", ..sms() };
    let bytes = round(&variant, &[sms(), own]).1;
    (variant, bytes)
});
