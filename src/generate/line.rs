//! One receipt: drawn from its own random numbers, and written as JSON.

use cdr_core::Millis;

use super::random::Random;
use super::tables::{
    ABROAD, Charge, DOMESTIC, DOMESTIC_CHARGES, FAILURES, FINAL_STATES, INBOUND_CHARGES, LATIN_SENDERS,
    LOCAL_SENDERS, NON_FINAL_STATES, OPERATOR_SHARES, OPERATORS, OUTBOUND_CHARGES, Operator, SUBSCRIBERS,
    TENANTS,
};
use super::{LineKind, Malformation};

/// A telephone number: a prefix and the digits that follow it.
#[derive(Debug, Clone, Copy)]
struct Number {
    prefix: &'static str,
    digits: u32,
    rest: u64,
}

#[derive(Debug, Clone, Copy)]
enum Sender {
    Name(&'static str),
    Number(Number),
}

/// A receipt before it is written.
pub(super) struct Receipt {
    random: Random,
    message_id: [u64; 2],
    tenant: Option<u64>,
    operator: &'static Operator,
    status: &'static str,
    charge: Charge,
    from: Sender,
    to: Number,
    ported_from: Option<Number>,
    imsi: Option<u64>,
    encoding: &'static str,
    segments: u64,
    submitted_ms: i64,
    final_ms: i64,
    failure: Option<&'static str>,
}

impl Receipt {
    /// Draws the receipt of an event at `final_ms`; the same numbers give the same receipt.
    pub(super) fn new(random: &Random, final_ms: i64, kind: LineKind) -> Self {
        let mut random = random.clone();
        let message_id = [random.next(), random.next()];
        let place = random.weighted(&OPERATOR_SHARES);
        let operator = &OPERATORS[place];
        let charge = match operator.id {
            "INTL_IN" => random.weighted(&INBOUND_CHARGES),
            "INTL_OUT" => random.weighted(&OUTBOUND_CHARGES),
            _ => random.weighted(&DOMESTIC_CHARGES),
        };
        let by_tenant = matches!(charge.0, "A2P" | "BROADCAST") || (charge.0 == "MT" && random.percent(50));
        let tenant = by_tenant.then(|| skewed(&mut random, TENANTS));
        let from = match tenant {
            Some(tenant) => Sender::Name(sender_of(tenant)),
            None if charge.0 == "INTERNATIONAL_MT" => Sender::Number(abroad(&mut random)),
            None => Sender::Number(subscriber(&mut random, operator)),
        };
        let to =
            if operator.id == "INTL_OUT" { abroad(&mut random) } else { subscriber(&mut random, operator) };
        let ported_from = (operator.id != "INTL_OUT" && random.percent(3)).then(|| ported(&mut random, to));
        let imsi = (!operator.mnc.is_empty() && random.percent(94)).then_some(to.rest);
        let status = match kind {
            LineKind::NonFinal => random.pick(&NON_FINAL_STATES),
            _ => random.weighted(&FINAL_STATES),
        };
        let failure = match status {
            "FAILED" => Some(random.pick(&FAILURES)),
            "EXPIRED" => Some("VALIDITY_EXPIRED"),
            _ => None,
        };
        let encoding = encoding_of(&mut random, from);
        let segments = segments_of(&mut random, encoding);
        let submitted_ms = final_ms - duration_ms(&mut random, status);
        Self {
            random,
            message_id,
            tenant,
            operator,
            status,
            charge,
            from,
            to,
            ported_from,
            imsi,
            encoding,
            segments,
            submitted_ms,
            final_ms,
            failure,
        }
    }

    /// Appends the receipt, or what a malformation leaves of it.
    pub(super) fn write(mut self, kind: LineKind, out: &mut Vec<u8>) {
        let start = out.len();
        let fault = if let LineKind::Malformed(fault) = kind { Some(fault) } else { None };
        let operator =
            if fault == Some(Malformation::UnknownOperator) { "NO_SUCH_NET" } else { self.operator.id };
        out.extend_from_slice(b"{\"schemaVersion\":\"1\",\"messageId\":\"");
        push_uuid(out, self.message_id);
        match self.tenant {
            Some(tenant) => {
                out.extend_from_slice(b"\",\"tenantId\":\"");
                let mut of_tenant = Random::new(tenant, 0x7E4A);
                push_uuid(out, [of_tenant.next(), of_tenant.next()]);
                out.push(b'"');
            }
            None => out.extend_from_slice(b"\",\"tenantId\":null"),
        }
        push_text(out, "operatorId", operator);
        push_text(out, "status", self.status);
        push_text(out, "direction", self.charge.1);
        push_text(out, "chargeType", self.charge.0);
        match self.from {
            Sender::Name(name) => push_text(out, "from", name),
            Sender::Number(number) => push_number(out, "from", Some(number)),
        }
        if fault == Some(Malformation::BadNumber) {
            push_text(out, "to", "0093-no-number");
        } else {
            push_number(out, "to", Some(self.to));
        }
        push_number(out, "originalServedSubscriberId", self.ported_from);
        self.push_imsi(out);
        push_text(out, "serviceCenterAddress", self.operator.service_center);
        if fault != Some(Malformation::MissingField) {
            out.extend_from_slice(b",\"messageReference\":\"");
            push_hex(out, self.random.next(), 4 + self.message_id[1] % 13);
            out.push(b'"');
        }
        out.extend_from_slice(b",\"segmentCount\":");
        let segments = if fault == Some(Malformation::BadSegmentCount) { 0 } else { self.segments };
        push_decimal(out, segments, 1);
        push_text(out, "encoding", self.encoding);
        push_instant(out, "submittedAt", self.submitted_ms);
        if kind != LineKind::NonFinal {
            push_instant(out, "finalAt", self.final_ms);
            if fault == Some(Malformation::BadInstant) {
                // "…:SS.mmmZ\"": the seconds stand 8 bytes before the end.
                let end = out.len();
                out[end - 8..end - 6].copy_from_slice(b"60");
            }
        }
        match self.failure {
            Some(failure) => push_text(out, "failureCode", failure),
            None => out.extend_from_slice(b",\"failureCode\":null"),
        }
        out.extend_from_slice(b",\"traceId\":\"");
        push_hex(out, self.random.next(), 16);
        push_hex(out, self.random.next(), 16);
        out.push(b'"');
        if self.random.percent(5) {
            out.extend_from_slice(b",\"route\":{\"hop\":\"r7\",\"weights\":[1,2.5]}");
        }
        out.push(b'}');
        if fault == Some(Malformation::BrokenJson) {
            let keep = (out.len() - start) / 2;
            out.truncate(start + keep);
            while std::str::from_utf8(&out[start..]).is_err() {
                out.pop();
            }
        }
    }

    fn push_imsi(&self, out: &mut Vec<u8>) {
        match self.imsi {
            Some(subscriber) => {
                out.extend_from_slice(b",\"imsi\":\"412");
                out.extend_from_slice(self.operator.mnc.as_bytes());
                push_decimal(out, subscriber, 10);
                out.push(b'"');
            }
            None => out.extend_from_slice(b",\"imsi\":null"),
        }
    }
}

/// Below `bound`, small values more often.
fn skewed(random: &mut Random, bound: u64) -> u64 {
    let unit = random.unit();
    ((unit * unit * unit * bound as f64) as u64).min(bound - 1)
}

fn sender_of(tenant: u64) -> &'static str {
    if tenant % 6 == 1 {
        LOCAL_SENDERS[(tenant / 6) as usize % LOCAL_SENDERS.len()]
    } else {
        LATIN_SENDERS[tenant as usize % LATIN_SENDERS.len()]
    }
}

fn subscriber(random: &mut Random, operator: &Operator) -> Number {
    let prefix = match random.pick(operator.prefixes) {
        "70" => "+9370",
        "71" => "+9371",
        "72" => "+9372",
        "73" => "+9373",
        "74" => "+9374",
        "76" => "+9376",
        "77" => "+9377",
        "78" => "+9378",
        _ => "+9379",
    };
    Number { prefix, digits: 7, rest: 1_000_000 + skewed(random, SUBSCRIBERS) }
}

fn abroad(random: &mut Random) -> Number {
    let (prefix, digits) = random.pick(&ABROAD);
    Number { prefix, digits, rest: random.below(10u64.pow(digits)) }
}

/// The number's range before it came to its present operator.
fn ported(random: &mut Random, number: Number) -> Number {
    let donor = &OPERATORS[random.below(DOMESTIC) as usize];
    Number { rest: number.rest, ..subscriber(random, donor) }
}

fn encoding_of(random: &mut Random, from: Sender) -> &'static str {
    match from {
        Sender::Name(name) if !name.is_ascii() => "UCS2",
        _ => random.weighted(&[(42, "UCS2"), (53, "GSM7"), (5, "GSM8_LATIN")]),
    }
}

fn segments_of(random: &mut Random, encoding: &str) -> u64 {
    if random.below(4_000) == 0 {
        return 6 + random.below(250);
    }
    if encoding == "UCS2" {
        random.weighted(&[(52, 1), (28, 2), (12, 3), (5, 4), (3, 5)])
    } else {
        random.weighted(&[(81, 1), (13, 2), (4, 3), (2, 4)])
    }
}

/// From submission to the final state.
fn duration_ms(random: &mut Random, status: &str) -> i64 {
    let ms = match status {
        "EXPIRED" => 24 * 3_600_000 + random.below(5_000),
        "FAILED" => 2_000 + random.below(600_000),
        _ => 300 + random.below(6_000) + random.rare(25, 4 * 3_600_000),
    };
    ms as i64
}

fn push_text(out: &mut Vec<u8>, key: &str, value: &str) {
    push_key(out, key);
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

fn push_key(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn push_number(out: &mut Vec<u8>, key: &str, number: Option<Number>) {
    push_key(out, key);
    let Some(Number { prefix, digits, rest }) = number else {
        out.extend_from_slice(b"null");
        return;
    };
    out.push(b'"');
    out.extend_from_slice(prefix.as_bytes());
    push_decimal(out, rest, digits as usize);
    out.push(b'"');
}

fn push_instant(out: &mut Vec<u8>, key: &str, ms: i64) {
    push_key(out, key);
    out.push(b'"');
    Millis(ms).push_utc(out);
    out.push(b'"');
}

/// Appends a number with at least this many digits.
fn push_decimal(out: &mut Vec<u8>, mut value: u64, digits: usize) {
    let mut text = [b'0'; 20];
    let mut at = text.len();
    while value > 0 || text.len() - at < digits {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&text[at..]);
}

/// Appends the lowest hexadecimal digits of `value`.
fn push_hex(out: &mut Vec<u8>, value: u64, digits: u64) {
    for at in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(value >> (at * 4)) as usize & 15]);
    }
}

/// Appends a random (version 4) UUID of these bits.
fn push_uuid(out: &mut Vec<u8>, [high, low]: [u64; 2]) {
    push_hex(out, high >> 32, 8);
    out.push(b'-');
    push_hex(out, high >> 16, 4);
    out.extend_from_slice(b"-4");
    push_hex(out, high, 3);
    out.push(b'-');
    push_hex(out, (low >> 48 & 0x3FFF) | 0x8000, 4);
    out.push(b'-');
    push_hex(out, low, 12);
}
