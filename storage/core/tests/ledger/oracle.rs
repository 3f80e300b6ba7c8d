//! An independent ledger: written from the format's description alone, with `serde_json` and `sha2`.
//!
//! It keeps rows as plain JSON and, when asked, recomputes every hash of every hour from the first row on.
//! Nothing here calls the crate under test.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

pub type Digest32 = [u8; 32];

const HOUR_MS: i64 = 3_600_000;

pub fn sha(parts: &[&[u8]]) -> Digest32 {
    Sha256::digest(parts.concat()).into()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// RFC 8785 of a value without fractions.
pub fn jcs(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_by_key(|key| key.encode_utf16().collect::<Vec<u16>>());
            let fields: Vec<String> =
                keys.into_iter().map(|key| format!("{}:{}", quoted(key), jcs(&map[key]))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(jcs).collect::<Vec<_>>().join(",")),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out + "\""
}

/// All levels of the padded tree, leaves first.
fn levels(leaves: &[Digest32]) -> Vec<Vec<Digest32>> {
    let mut level = leaves.to_vec();
    level.resize(leaves.len().next_power_of_two(), [0; 32]);
    let mut levels = vec![level];
    while levels[levels.len() - 1].len() > 1 {
        let parents = levels[levels.len() - 1].chunks(2).map(|pair| sha(&[&pair[0], &pair[1]])).collect();
        levels.push(parents);
    }
    levels
}

pub fn padded_root(leaves: &[Digest32]) -> Digest32 {
    levels(leaves)[leaves.len().next_power_of_two().trailing_zeros() as usize][0]
}

/// The inclusion proof of a leaf, as JSON.
pub fn inclusion(leaves: &[Digest32], index: usize) -> Value {
    let levels = levels(leaves);
    let siblings: Vec<String> =
        (0..levels.len() - 1).map(|level| hex(&levels[level][(index >> level) ^ 1])).collect();
    json!({"leafIndex": index, "siblings": siblings})
}

/// Date and time of day, counted year by year.
fn civil(ms: i64) -> (i64, i64, i64, i64) {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut days, mut year) = (ms.div_euclid(86_400_000), 1970);
    while days >= 365 + i64::from(leap(year)) {
        days -= 365 + i64::from(leap(year));
        year += 1;
    }
    let february = 28 + i64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1, ms.rem_euclid(86_400_000))
}

fn date_time(ms: i64) -> String {
    let (year, month, day, time) = civil(ms);
    let (h, m, s) = (time / HOUR_MS, time / 60_000 % 60, time / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}")
}

pub fn instant(ms: i64) -> String {
    format!("{}.{:03}Z", date_time(ms), ms % 1000)
}

pub fn local_instant(ms: i64, offset_minutes: i64) -> String {
    let sign = if offset_minutes < 0 { '-' } else { '+' };
    let (hours, minutes) = (offset_minutes.abs() / 60, offset_minutes.abs() % 60);
    format!("{}.{:03}{sign}{hours:02}:{minutes:02}", date_time(ms + offset_minutes * 60_000), ms % 1000)
}

pub fn hour_text(hour: i64) -> String {
    format!("{}Z", date_time(hour * HOUR_MS))
}

pub fn uuid(bits: [u8; 16]) -> String {
    let h = hex(&bits);
    format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
}

/// `cdr_` and the bits in Crockford base 32.
pub fn cdr_id(bits: [u8; 16]) -> String {
    let mut value = u128::from_be_bytes(bits);
    let mut digits = Vec::new();
    for _ in 0..26 {
        digits.push(char::from(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[(value % 32) as usize]));
        value /= 32;
    }
    format!("cdr_{}", digits.into_iter().rev().collect::<String>())
}

/// Whether an adjustment may follow a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    Yes,
    Unknown,
    Voided,
    Superseded,
}

/// What a receipt meets.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Meets {
    Nothing,
    Recorded,
    /// It corrects the row with this id.
    Waiting(String),
}

/// What became of one message of a stream.
#[derive(Clone, Debug)]
pub enum Fate {
    /// A final state: the fields that its row gets from the message.
    Final(Map<String, Value>),
    Ignored,
    DeadLettered,
    Missing,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    first: i64,
    last: i64,
    fates: BTreeMap<&'static str, i64>,
}

#[derive(Clone, Debug, Default)]
struct HourBook {
    sealed_at: Option<i64>,
    signer: Option<String>,
    rows: Vec<Map<String, Value>>,
    streams: BTreeMap<String, Counts>,
}

/// The book of everything that was accepted, by hour.
#[derive(Clone, Debug)]
pub struct Oracle {
    pub cluster_id: String,
    pub open_hour: i64,
    first_hour: i64,
    last_at: i64,
    horizon_hours: i64,
    operators: Vec<(i64, String)>,
    /// First hour, first hour no longer, name.
    keys: Vec<(i64, Option<i64>, String)>,
    hours: BTreeMap<i64, HourBook>,
}

/// A row's canonical text and hash.
pub struct HashedRow {
    pub row: Value,
    pub personal: Option<Value>,
    pub text: String,
    pub hash: Digest32,
}

/// A seal, its canonical text and hash.
pub struct HashedSeal {
    pub seal: Value,
    pub text: String,
    pub hash: Digest32,
}

/// Everything recomputed.
pub struct Chain {
    pub rows: Vec<HashedRow>,
    pub seals: Vec<HashedSeal>,
    /// Root and chain of every operator's last sealed hour.
    pub heads: BTreeMap<String, (Digest32, Digest32)>,
}

impl Oracle {
    pub fn new(cluster_id: &str, horizon_hours: i64, now: i64) -> Self {
        let first_hour = now / HOUR_MS;
        let mut first = HourBook::default();
        for name in ["api", "internal"] {
            first.streams.insert(name.to_owned(), Counts { first: 1, ..Counts::default() });
        }
        Self {
            cluster_id: cluster_id.to_owned(),
            open_hour: first_hour,
            first_hour,
            last_at: now,
            horizon_hours,
            operators: vec![(first_hour, "_system".to_owned())],
            keys: Vec::new(),
            hours: BTreeMap::from([(first_hour, first)]),
        }
    }

    fn open(&mut self) -> &mut HourBook {
        self.hours.entry(self.open_hour).or_default()
    }

    /// Seals what has ended at `now`; the time at which the next row is accepted.
    pub fn seal(&mut self, now: i64) -> i64 {
        let at = now.max(self.last_at);
        while self.open_hour < at / HOUR_MS {
            let hour = self.open_hour;
            let signer = self.signer(hour);
            let closing = self.open();
            closing.sealed_at = Some(at);
            closing.signer = signer;
            let mut next = HourBook::default();
            for (name, counts) in &closing.streams {
                let counts = Counts { first: counts.last + 1, last: counts.last, ..Counts::default() };
                next.streams.insert(name.clone(), counts);
            }
            self.open_hour += 1;
            self.hours.insert(self.open_hour, next);
            self.last_at = at;
        }
        at
    }

    /// Of the keys that cover the hour, the one that began last; of several, the one registered last.
    fn signer(&self, hour: i64) -> Option<String> {
        let mut covering: Vec<_> =
            self.keys.iter().filter(|(from, to, _)| *from <= hour && to.is_none_or(|to| hour < to)).collect();
        covering.sort_by_key(|(from, _, _)| *from);
        covering.last().map(|(_, _, id)| id.clone())
    }

    pub fn position(&self, stream: &str) -> i64 {
        self.hours[&self.open_hour].streams[stream].last
    }

    pub fn has_stream(&self, stream: &str) -> bool {
        self.hours[&self.open_hour].streams.contains_key(stream)
    }

    pub fn open_rows(&self) -> usize {
        self.hours[&self.open_hour].rows.len()
    }

    pub fn in_force(&self, operator_id: &str) -> bool {
        self.operators.iter().any(|(from, id)| id == operator_id && *from <= self.open_hour)
    }

    /// Takes a stretch of a stream in; returns how many rows and how many duplicates it gave.
    pub fn ingest(&mut self, now: i64, stream: &str, fates: &[Fate]) -> (u64, u64) {
        let at = self.seal(now);
        let since = self.since(at);
        let (mut appended, mut duplicate) = (0, 0);
        for fate in fates {
            let sequence = self.count(stream, None);
            let name = match fate {
                Fate::Ignored => "ignored",
                Fate::DeadLettered => "deadLettered",
                Fate::Missing => "missing",
                Fate::Final(fields) if self.is_new(fields, since) => {
                    self.push(fields.clone(), at, stream, sequence);
                    appended += 1;
                    "appended"
                }
                Fate::Final(_) => {
                    duplicate += 1;
                    "duplicate"
                }
            };
            self.count(stream, Some(name));
        }
        (appended, duplicate)
    }

    /// First hour whose originals make a message known. Two hours to spare: for events ahead of the clock, and for
    /// batches that cross the end of an hour.
    fn since(&self, at: i64) -> i64 {
        (at / HOUR_MS - self.horizon_hours - 2).max(0)
    }

    /// Takes originals in whose receipt did not come; how many, and how many were known already.
    pub fn expire(&mut self, now: i64, rows: Vec<Map<String, Value>>) -> (u64, u64) {
        let at = self.seal(now);
        let since = self.since(at);
        let (mut appended, mut duplicate) = (0, 0);
        for fields in rows {
            if self.meets(&fields["messageId"], since) == Meets::Nothing {
                let sequence = self.count("internal", None);
                self.push(fields, at, "internal", sequence);
                self.count("internal", Some("appended"));
                appended += 1;
            } else {
                duplicate += 1;
            }
        }
        (appended, duplicate)
    }

    /// The id of the row that the next receipt of the message corrects, if there is one.
    pub fn waits(&self, now: i64, message_id: [u8; 16]) -> Option<String> {
        match self.meets(&uuid(message_id).into(), self.since(now.max(self.last_at))) {
            Meets::Waiting(last) => Some(last),
            Meets::Nothing | Meets::Recorded => None,
        }
    }

    /// Takes rows in that no stream carried.
    pub fn append(&mut self, now: i64, source: &str, rows: Vec<Map<String, Value>>) {
        let at = self.seal(now);
        for fields in rows {
            self.meaning_of(&fields);
            let sequence = self.count(source, None);
            self.push(fields, at, source, sequence);
            self.count(source, Some("appended"));
        }
    }

    /// Without a fate: steps the stream to its next sequence. With one: counts what became of it.
    fn count(&mut self, stream: &str, fate: Option<&'static str>) -> i64 {
        let counts = self.open().streams.get_mut(stream).expect("a known stream");
        match fate {
            Some(name) => *counts.fates.entry(name).or_default() += 1,
            None => counts.last += 1,
        }
        counts.last
    }

    /// Looks through every row there is.
    pub fn may_follow(&self, cdr_id: &str) -> Follow {
        let rows = || self.hours.values().flat_map(|book| &book.rows);
        let sms = |row: &&Map<String, Value>| row["cdrId"] == *cdr_id && row["recordType"] == "sms";
        match rows().find(sms) {
            None => Follow::Unknown,
            Some(row) if row["adjustmentType"] == "VOID" => Follow::Voided,
            Some(_) if rows().any(|row| row.get("adjustmentOf").is_some_and(|of| of == cdr_id)) => {
                Follow::Superseded
            }
            Some(_) => Follow::Yes,
        }
    }

    /// True if a receipt gives a row. One that was drafted as something else than the book calls for is a mistake of
    /// the test.
    fn is_new(&self, fields: &Map<String, Value>, since: i64) -> bool {
        let corrects = fields["adjustmentOf"].as_str();
        match (self.meets(&fields["messageId"], since), corrects) {
            (Meets::Nothing, None) => true,
            (Meets::Recorded, _) => false,
            (Meets::Waiting(_), None) => {
                assert_eq!(fields["finalState"], "EXPIRED", "it should have been a correction");
                false
            }
            (Meets::Waiting(last), Some(of)) => {
                assert_eq!(last, of, "it corrects another row");
                true
            }
            (Meets::Nothing, Some(of)) => panic!("nothing waits for a receipt, and {of} is corrected"),
        }
    }

    /// What a receipt of the message meets: looks through every row there is.
    fn meets(&self, message_id: &Value, since: i64) -> Meets {
        let recent = self.hours.range(since..).flat_map(|(_, book)| &book.rows);
        let mut originals =
            recent.filter(|row| row.get("messageId") == Some(message_id) && row["adjustmentOf"].is_null());
        let Some(mut last) = originals.next() else { return Meets::Nothing };
        if last["source"]["stream"] != "internal" || last["finalState"] != "EXPIRED" {
            return Meets::Recorded;
        }
        let rows = || self.hours.values().flat_map(|book| &book.rows);
        while let Some(next) = rows().find(|row| row.get("adjustmentOf") == Some(&last["cdrId"])) {
            let by_receipt = next["source"]["stream"] != "internal" && next["source"]["stream"] != "api";
            if by_receipt || next["adjustmentType"] == "VOID" {
                return Meets::Recorded;
            }
            last = next;
        }
        Meets::Waiting(last["cdrId"].as_str().expect("a row has an id").to_owned())
    }

    fn push(&mut self, mut row: Map<String, Value>, at: i64, stream: &str, sequence: i64) {
        self.last_at = at;
        row.insert("bucketHour".into(), hour_text(self.open_hour).into());
        row.insert("cdrSequence".into(), (self.open_rows() + 1).into());
        row.insert("recordedAt".into(), instant(at).into());
        row.insert("source".into(), json!({"sequence": sequence, "stream": stream}));
        self.open().rows.push(row);
    }

    fn meaning_of(&mut self, row: &Map<String, Value>) {
        let text = |name: &str| row["body"][name].as_str().unwrap_or_default().to_owned();
        let hour_or_none = |name: &str| {
            let wanted = text(name);
            (self.open_hour - 48..self.open_hour + 48).find(|h| hour_text(*h) == wanted)
        };
        let hour = |name: &str| hour_or_none(name).expect("a near hour");
        match row["recordType"].as_str() {
            Some("operator") => self.operators.push((hour("effectiveFrom"), text("operatorId"))),
            Some("key") => self.keys.push((hour("fromHour"), hour_or_none("toHour"), text("keyId"))),
            Some("stream") => {
                let before = row["body"]["firstSequence"].as_i64().expect("a sequence") - 1;
                let counts = Counts { first: before + 1, last: before, ..Counts::default() };
                self.open().streams.insert(text("stream"), counts);
            }
            _ => {}
        }
    }

    /// Recomputes everything from the first row on.
    pub fn recompute(&self) -> Chain {
        let genesis = sha(&[format!("GENESIS:{}", self.cluster_id).as_bytes()]);
        let (mut national, mut prev_seal) = (genesis, genesis);
        let mut chain = Chain { rows: Vec::new(), seals: Vec::new(), heads: BTreeMap::new() };
        for (&hour, book) in &self.hours {
            for (_, id) in self.operators.iter().filter(|(from, _)| *from <= hour) {
                let text = format!("GENESIS:{}:{id}", self.cluster_id);
                chain.heads.entry(id.clone()).or_insert([sha(&[text.as_bytes()]); 2].into());
            }
            let hashes = hash_rows(book, &mut chain);
            let Some(sealed_at) = book.sealed_at else { continue };
            let (mut operators, mut leaves) = (Vec::new(), Vec::new());
            let empty = sha(&[format!("EMPTY:{}", hour_text(hour)).as_bytes()]);
            for (id, head) in &mut chain.heads {
                let rows = hashes.get(id.as_str()).map_or(&[][..], Vec::as_slice);
                let root = if rows.is_empty() { empty } else { padded_root(rows) };
                let next = sha(&[&head.1, &root]);
                operators.push(json!({
                    "operatorId": id, "recordCount": rows.len(), "bucketRoot": hex(&root),
                    "chainHash": hex(&next), "prevBucketRoot": hex(&head.0), "prevChainHash": hex(&head.1),
                }));
                leaves.push(sha(&[id.as_bytes(), &[0], &next]));
                *head = (root, next);
            }
            let root = padded_root(&leaves);
            let next = sha(&[&national, &root]);
            let seal = json!({
                "formatVersion": 2, "clusterId": self.cluster_id, "generation": 1, "clock": "replay",
                "bucketHour": hour_text(hour), "recordCount": book.rows.len(), "bucketRoot": hex(&root),
                "chainHash": hex(&next), "prevChainHash": hex(&national), "prevSealHash": hex(&prev_seal),
                "sealedAt": instant(sealed_at), "signerKeyId": book.signer, "operators": operators,
                "completeness": book.streams.iter().map(statement).collect::<Vec<_>>(),
            });
            let text = jcs(&seal);
            (national, prev_seal) = (next, sha(&[text.as_bytes()]));
            chain.seals.push(HashedSeal { seal, text, hash: prev_seal });
        }
        assert_eq!(chain.seals.len() as i64, self.open_hour - self.first_hour);
        chain
    }
}

/// Links and hashes the rows of an hour; the hashes by operator.
fn hash_rows(book: &HourBook, chain: &mut Chain) -> BTreeMap<String, Vec<Digest32>> {
    let mut hashes: BTreeMap<String, Vec<Digest32>> = BTreeMap::new();
    for fields in &book.rows {
        let id = fields["operatorId"].as_str().expect("a row has an operator").to_owned();
        let before = hashes.entry(id.clone()).or_default();
        let mut row = fields.clone();
        let link = before.last().copied().unwrap_or_else(|| chain.heads[&id].0);
        row.insert("chainHashPrev".into(), hex(&link).into());
        let personal = row.remove("personal").filter(|personal| !personal.is_null());
        let commitment = personal.as_ref().map(|personal| hex(&sha(&[jcs(personal).as_bytes()])));
        row.insert("personalHash".into(), commitment.into());
        let row = Value::Object(row);
        let text = jcs(&row);
        let hash = sha(&[text.as_bytes()]);
        before.push(hash);
        chain.rows.push(HashedRow { row, personal, text, hash });
    }
    hashes
}

fn statement((name, counts): (&String, &Counts)) -> Value {
    let fate = |name| counts.fates.get(name).copied().unwrap_or_default();
    let received = ["appended", "duplicate", "ignored", "deadLettered"].into_iter().map(fate).sum::<i64>();
    json!({
        "appended": fate("appended"), "deadLettered": fate("deadLettered"), "duplicate": fate("duplicate"),
        "firstSequence": counts.first, "ignored": fate("ignored"), "lastSequence": counts.last,
        "missing": fate("missing"), "received": received, "stream": name,
    })
}
