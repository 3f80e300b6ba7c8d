#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};

use super::*;
use crate::dlr::{Dlr, Parsed, Reason, parse};
use cdr_core::row::{ChargeType, Direction, Encoding, FinalState};

const DAY: &str = "2026-04-20";

fn lines(records: u64, seed: u64) -> (Vec<GeneratedLine>, Summary) {
    let mut generator = Generator::new(GenerateOptions::new(DAY, records, seed).unwrap());
    let lines = generator.by_ref().collect();
    (lines, generator.summary())
}

fn text(records: u64, seed: u64) -> (Vec<u8>, Summary) {
    let mut out = Vec::new();
    let summary = generate(&GenerateOptions::new(DAY, records, seed).unwrap(), &mut out).unwrap();
    (out, summary)
}

fn dlr(line: &GeneratedLine) -> Dlr<'_> {
    match parse(&line.json) {
        Parsed::Final(dlr) => *dlr,
        other => panic!("{} is {other:?}", String::from_utf8_lossy(&line.json)),
    }
}

#[test]
fn the_same_options_give_the_same_bytes() {
    let (first, summary) = text(5_000, 7);
    assert_eq!(text(5_000, 7), (first.clone(), summary));
    assert_ne!(text(5_000, 8).0, first);
    let (lines, of_lines) = lines(5_000, 7);
    let joined: Vec<u8> = lines.iter().flat_map(|line| line.json.iter().copied().chain([b'\n'])).collect();
    assert_eq!((joined, of_lines), (first, summary));
}

/// A change of these bytes changes every stored day: it must be meant.
#[test]
fn the_bytes_are_known() {
    use std::hash::Hasher;
    let mut sum = crc32fast::Hasher::new();
    sum.write(&text(20_000, 1).0);
    assert_eq!(sum.finalize(), 3_894_162_803);
}

#[test]
fn shares_are_exact() {
    for records in [0, 1, 7, 100, 100_000] {
        let (lines, summary) = lines(records, 3);
        assert_eq!((summary.lines, lines.len() as u64), (records, records));
        let share = |of: u64| records * of / Shares::WHOLE;
        assert_eq!(summary.duplicates, share(Shares::DUPLICATE));
        assert_eq!(summary.late, share(Shares::LATE));
        assert_eq!(summary.non_final, share(Shares::NON_FINAL));
        assert_eq!(summary.malformed, share(Shares::MALFORMED));
        let rest = summary.duplicates + summary.late + summary.non_final + summary.malformed;
        assert_eq!(summary.finals, records - rest);
    }
}

#[test]
fn every_line_is_of_its_kind() {
    let (lines, summary) = lines(100_000, 42);
    let start = GenerateOptions::new(DAY, 0, 0).unwrap().day_start_ms();
    assert_eq!(Millis(start).to_string(), "2026-04-19T19:30:00.000Z");
    let mut first_copy = HashMap::new();
    let mut reasons = HashMap::new();
    for line in &lines {
        assert!(!line.json.contains(&b'\n') && std::str::from_utf8(&line.json).is_ok());
        let delay_ms = |dlr: &Dlr<'_>| line.arrival_ms - dlr.final_at.0;
        match line.kind {
            LineKind::Final | LineKind::Late => {
                let dlr = dlr(line);
                assert!((start..start + DAY_MS).contains(&dlr.final_at.0));
                assert!(dlr.submitted_at.unwrap() < dlr.final_at);
                let expected = if line.kind == LineKind::Late { HOUR_MS..6 * HOUR_MS } else { 0..5_000 };
                assert!(expected.contains(&delay_ms(&dlr)), "{}", delay_ms(&dlr));
                assert_eq!(first_copy.insert(dlr.message_id, line), None);
            }
            LineKind::Duplicate => {
                let first = first_copy[&dlr(line).message_id];
                assert_eq!((&first.json, first.kind), (&line.json, LineKind::Final));
                assert!(line.arrival_ms >= first.arrival_ms + 1_000);
            }
            LineKind::NonFinal => assert!(matches!(parse(&line.json), Parsed::Ignored(_))),
            LineKind::Malformed(Malformation::UnknownOperator) => {
                let known: HashSet<_> = operator_ids().collect();
                assert!(!known.contains(&*dlr(line).operator_id));
            }
            LineKind::Malformed(fault) => {
                let Parsed::Malformed { reason } = parse(&line.json) else { panic!("{fault:?}") };
                *reasons.entry((fault, reason)).or_insert(0) += 1;
            }
        }
    }
    let field = |(fault, reason): &(Malformation, Reason)| match (fault, reason) {
        (Malformation::BrokenJson, Reason::NotJson) => "JSON",
        (Malformation::MissingField, Reason::Missing(field)) | (_, Reason::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let mut seen: Vec<_> = reasons.keys().map(field).collect();
    seen.sort_unstable();
    assert_eq!(seen, ["JSON", "finalAt", "messageReference", "segmentCount", "to"]);
    assert_eq!(first_copy.len() as u64, summary.records());
    assert!(lines.is_sorted_by_key(|line| line.arrival_ms));
    assert_eq!(summary.first_arrival_ms, lines[0].arrival_ms);
    assert_eq!(summary.last_arrival_ms, lines[lines.len() - 1].arrival_ms);
}

#[test]
fn the_day_looks_like_one() {
    let (lines, _) = lines(100_000, 42);
    let finals: Vec<_> = lines.iter().filter(|line| line.kind == LineKind::Final).map(dlr).collect();
    let start = GenerateOptions::new(DAY, 0, 0).unwrap().day_start_ms();
    let mut by_hour = [0u32; 24];
    let mut by_operator: HashMap<&str, u32> = HashMap::new();
    let mut tenants: HashMap<_, u32> = HashMap::new();
    for dlr in &finals {
        by_hour[((dlr.final_at.0 - start) / HOUR_MS) as usize] += 1;
        *by_operator.entry(&dlr.operator_id).or_default() += 1;
        if let Some(tenant) = dlr.tenant_id {
            *tenants.entry(tenant).or_default() += 1;
        }
        assert!(dlr.charge_type != ChargeType::P2p || dlr.tenant_id.is_none());
    }
    assert!(by_hour.iter().all(|count| *count > 100), "{by_hour:?}");
    assert!(by_hour[10] > 8 * by_hour[3], "{by_hour:?}");
    assert_eq!(by_operator.len(), 7);
    assert!(by_operator["AWCC"] > 5 * by_operator["INTL_OUT"], "{by_operator:?}");
    assert!(tenants.len() > 250, "{}", tenants.len());
    let busiest = *tenants.values().max().unwrap();
    assert!(u64::from(busiest) > 5 * finals.len() as u64 / 2 / tenants.len() as u64, "tenants are skewed");
    let all = |test: &dyn Fn(&Dlr<'_>) -> bool| finals.iter().filter(|dlr| test(dlr)).count();
    for charge in ChargeType::ALL {
        assert!(all(&|dlr| dlr.charge_type == *charge) > 500, "{charge:?}");
    }
    for encoding in Encoding::ALL {
        assert!(all(&|dlr| dlr.encoding == *encoding) > 1_000, "{encoding:?}");
    }
    for state in FinalState::ALL {
        assert!(all(&|dlr| dlr.final_state == *state) > 500, "{state:?}");
        assert!(
            all(&|dlr| dlr.final_state == *state
                && dlr.failure_code.is_some() == (*state == FinalState::Delivered))
                == 0
        );
    }
    assert!(all(&|dlr| !dlr.from.is_ascii()) > 2_000, "names in Dari and Pashto");
    assert!(all(&|dlr| dlr.from.starts_with('+')) > 10_000);
    assert!(
        (1_000..10_000).contains(&all(&|dlr| dlr.original_served_subscriber_id.is_some())),
        "ported numbers"
    );
    assert!(all(&|dlr| dlr.segment_count > 5) > 5);
    assert!(all(&|dlr| dlr.imsi.is_some()) > finals.len() / 2);
    assert!(all(&|dlr| dlr.direction == Direction::Mo) > 10_000);
}

#[test]
fn days_differ_and_must_be_dates() {
    let other = GenerateOptions::new("2026-04-21", 1_000, 7).unwrap();
    let ids = |options| -> HashSet<Vec<u8>> {
        Generator::new(options).map(|line| line.json[37..73].to_vec()).collect()
    };
    let here = ids(GenerateOptions::new(DAY, 1_000, 7).unwrap());
    assert!(here.len() > 950 && here.is_disjoint(&ids(other)));
    for day in ["2026-02-30", "2026-4-20", "", "20260420", "2026-04-20T00", "tomorrow"] {
        assert_eq!(GenerateOptions::new(day, 1, 1), None, "{day}");
    }
}

/// What is pending is bounded by the day's curve, not by the number of lines already out.
#[test]
fn pending_lines_stay_few() {
    let mut generator = Generator::new(GenerateOptions::new(DAY, 200_000, 5).unwrap());
    let (mut out, mut most) = (Vec::new(), 0);
    while generator.next_into(&mut out).is_some() {
        out.clear();
        most = most.max(generator.pending.len());
    }
    assert!(most > 10 && most < 1_000, "{most}");
    assert!(generator.pending.is_empty());
}
