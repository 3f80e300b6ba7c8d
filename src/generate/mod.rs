//! Realistic delivery receipts for one settlement day: for demonstrations, tests and load.
//!
//! [`Generator`] yields lines in the order of their arrival on the bus; [`generate`] writes them as NDJSON. Every line
//! follows from the options alone, so the same options give the same bytes. The shares of [`Shares`] are exact (rounded
//! to whole lines), not merely likely. Memory is bounded: a line that arrives later is kept as the few numbers from which
//! it is made again.

mod line;
mod random;
mod tables;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};

use cdr_core::Millis;

use line::Receipt;
use random::Random;
use tables::{HOUR_WEIGHTS, OPERATORS};

/// Which part of the lines is out of the ordinary, in lines per 100,000.
///
/// The kinds exclude one another: a duplicate repeats an ordinary line.
pub struct Shares;

impl Shares {
    /// Lines that repeat an earlier one, 1 s to 30 min after it.
    pub const DUPLICATE: u64 = 1_000;
    /// Lines that arrive 1-6 h after their event.
    pub const LATE: u64 = 500;
    /// Lines with a state that is not final.
    pub const NON_FINAL: u64 = 2_000;
    /// Lines that can't become a record, alternating among the kinds of [`Malformation`].
    pub const MALFORMED: u64 = 100;
    /// What the others are parts of.
    pub const WHOLE: u64 = 100_000;
}

/// Later lines that may be pending at once. A day of 200 million lines stays below it; beyond, lines that would arrive
/// later arrive at once.
const MAX_PENDING: usize = 250_000;

/// Offset of the settlement zone Asia/Kabul, which knows no summer time.
const ZONE: &str = "+04:30";

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerateOptions {
    /// First instant of the settlement day: midnight in Kabul, milliseconds since the epoch.
    day_start_ms: i64,
    records: u64,
    seed: u64,
}

impl GenerateOptions {
    /// Options for `records` lines of settlement day `day` (`YYYY-MM-DD`); `None` if that is not a date since 1970.
    pub fn new(day: &str, records: u64, seed: u64) -> Option<Self> {
        let start = Millis::parse(&format!("{day}T00:00:00{ZONE}")).filter(|_| day.len() == 10)?;
        Some(Self { day_start_ms: start.0, records, seed })
    }

    /// First instant of the settlement day, milliseconds since the epoch.
    pub fn day_start_ms(&self) -> i64 {
        self.day_start_ms
    }
}

/// A way in which a line can't be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Malformation {
    /// The JSON breaks off.
    BrokenJson,
    /// `messageReference` is not there.
    MissingField,
    /// The operator is not registered.
    UnknownOperator,
    /// `to` is not E.164.
    BadNumber,
    /// `finalAt` has a second 60.
    BadInstant,
    /// `segmentCount` is 0.
    BadSegmentCount,
}

impl Malformation {
    /// Every kind, in the order in which they alternate.
    pub const ALL: [Self; 6] = [
        Self::BrokenJson,
        Self::MissingField,
        Self::UnknownOperator,
        Self::BadNumber,
        Self::BadInstant,
        Self::BadSegmentCount,
    ];
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LineKind {
    /// A final receipt.
    Final,
    /// A final receipt long after its event.
    Late,
    /// The bytes of an earlier final receipt again.
    Duplicate,
    /// A receipt of a state that is not final.
    NonFinal,
    /// Not to be recorded.
    Malformed(Malformation),
}

/// A line and when it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedLine {
    /// Arrival on the bus, milliseconds since the epoch; never falls.
    pub arrival_ms: i64,
    /// The line without its end.
    pub json: Vec<u8>,
    /// What it is.
    pub kind: LineKind,
}

/// How many lines of which kind there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// All lines.
    pub lines: u64,
    /// Final receipts that arrived at once.
    pub finals: u64,
    /// Final receipts that arrived late.
    pub late: u64,
    /// Repetitions.
    pub duplicates: u64,
    /// States that are not final.
    pub non_final: u64,
    /// Not to be recorded.
    pub malformed: u64,
    /// First instant of the earliest and of the last arrival, milliseconds since the epoch; 0 without lines.
    pub first_arrival_ms: i64,
    /// See `first_arrival_ms`.
    pub last_arrival_ms: i64,
}

impl Summary {
    /// Records that must come of the lines: one for every final message id.
    pub fn records(&self) -> u64 {
        self.finals + self.late
    }

    fn count(&mut self, arrival_ms: i64, kind: LineKind) {
        if self.lines == 0 {
            self.first_arrival_ms = arrival_ms;
        }
        self.last_arrival_ms = arrival_ms;
        self.lines += 1;
        let counter = match kind {
            LineKind::Final => &mut self.finals,
            LineKind::Late => &mut self.late,
            LineKind::Duplicate => &mut self.duplicates,
            LineKind::NonFinal => &mut self.non_final,
            LineKind::Malformed(_) => &mut self.malformed,
        };
        *counter += 1;
    }
}

/// Writes all lines, each with a line end.
pub fn generate(options: &GenerateOptions, out: &mut impl Write) -> io::Result<Summary> {
    let mut generator = Generator::new(*options);
    let mut buffer = Vec::with_capacity(1 << 16);
    while generator.next_into(&mut buffer).is_some() {
        buffer.push(b'\n');
        if buffer.len() >= (1 << 16) - 2_048 {
            out.write_all(&buffer)?;
            buffer.clear();
        }
    }
    out.write_all(&buffer)?;
    out.flush()?;
    Ok(generator.summary())
}

/// A line that is still to come, by what it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pending {
    arrival_ms: i64,
    index: u64,
    final_ms: i64,
    repeats: bool,
}

/// A line at its turn.
#[derive(Debug, Clone, Copy)]
struct Base {
    index: u64,
    arrival_ms: i64,
    final_ms: i64,
    kind: LineKind,
    repeat_at_ms: Option<i64>,
}

/// Yields the lines of a day in the order of their arrival.
#[derive(Debug)]
pub struct Generator {
    options: GenerateOptions,
    random: Random,
    /// First-hand lines: all but the duplicates.
    bases: u64,
    next_index: u64,
    upcoming: Option<Base>,
    pending: BinaryHeap<Reverse<Pending>>,
    left: Left,
    /// Weights of the hours before each hour, in parts of the whole.
    before_hour: [f64; 25],
    hour: usize,
    summary: Summary,
}

/// How many of each kind are still to be placed among the first-hand lines.
#[derive(Debug, Clone, Copy)]
struct Left {
    duplicate: u64,
    late: u64,
    non_final: u64,
    malformed: u64,
}

impl Generator {
    /// A generator at its first line.
    pub fn new(options: GenerateOptions) -> Self {
        let share =
            |of: u64| (u128::from(options.records) * u128::from(of) / u128::from(Shares::WHOLE)) as u64;
        let left = Left {
            duplicate: share(Shares::DUPLICATE),
            late: share(Shares::LATE),
            non_final: share(Shares::NON_FINAL),
            malformed: share(Shares::MALFORMED),
        };
        let total: f64 = HOUR_WEIGHTS.iter().sum();
        let mut before_hour = [0.0; 25];
        for hour in 0..24 {
            before_hour[hour + 1] = before_hour[hour] + HOUR_WEIGHTS[hour] / total;
        }
        let mut generator = Self {
            options,
            random: Random::new(options.seed, options.day_start_ms as u64),
            bases: options.records - left.duplicate,
            next_index: 0,
            upcoming: None,
            pending: BinaryHeap::new(),
            left,
            before_hour,
            hour: 0,
            summary: Summary::default(),
        };
        generator.upcoming = generator.next_base();
        generator
    }

    /// What was yielded so far.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// Appends the next line to `out`, without its end.
    pub fn next_into(&mut self, out: &mut Vec<u8>) -> Option<(i64, LineKind)> {
        let due = match (self.pending.peek(), self.upcoming) {
            (Some(Reverse(pending)), Some(base)) => pending.arrival_ms < base.arrival_ms,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return None,
        };
        let (index, arrival_ms, final_ms, kind) = if due {
            let Reverse(line) = self.pending.pop()?;
            let kind = if line.repeats { LineKind::Duplicate } else { LineKind::Late };
            (line.index, line.arrival_ms, line.final_ms, kind)
        } else {
            let base = self.upcoming.take()?;
            self.upcoming = self.next_base();
            if let Some(arrival_ms) = base.repeat_at_ms {
                let Base { index, final_ms, .. } = base;
                self.pending.push(Reverse(Pending { arrival_ms, index, final_ms, repeats: true }));
            }
            (base.index, base.arrival_ms, base.final_ms, base.kind)
        };
        Receipt::new(&self.options_of(index), final_ms, kind).write(kind, out);
        self.summary.count(arrival_ms, kind);
        Some((arrival_ms, kind))
    }

    fn options_of(&self, index: u64) -> Random {
        Random::new(self.options.seed ^ self.options.day_start_ms as u64, index.wrapping_add(1))
    }

    /// The next first-hand line that arrives at its turn; late ones on the way become pending.
    fn next_base(&mut self) -> Option<Base> {
        while self.next_index < self.bases {
            let base = self.draw();
            if base.kind != LineKind::Late {
                return Some(base);
            }
            let arrival_ms = base.final_ms + HOUR_MS + self.random.below(5 * HOUR_MS as u64) as i64;
            let Base { index, final_ms, .. } = base;
            self.pending.push(Reverse(Pending { arrival_ms, index, final_ms, repeats: false }));
        }
        None
    }

    fn draw(&mut self) -> Base {
        let index = self.next_index;
        let at_ms = self.options.day_start_ms + self.instant_of_day(index);
        self.next_index += 1;
        let transit_ms = 40 + self.random.below(400) as i64 + self.random.rare(20, 4_000) as i64;
        let final_ms = (at_ms - transit_ms).max(self.options.day_start_ms);
        let (kind, repeated) = self.draw_kind(self.bases - index);
        let room = self.pending.len() < MAX_PENDING;
        let wait_ms = 1_000 + self.random.below(30 * 60_000 - 1_000) as i64;
        let wait_ms = if room { wait_ms } else { 0 };
        let repeat_at_ms = repeated.then_some(at_ms + wait_ms);
        Base { index, arrival_ms: at_ms, final_ms, kind, repeat_at_ms }
    }

    /// Places the kinds so that exactly as many as configured are used up at the end.
    fn draw_kind(&mut self, bases_left: u64) -> (LineKind, bool) {
        let room = self.pending.len() < MAX_PENDING;
        let mut ticket = self.random.below(bases_left);
        let left = &mut self.left;
        let mut hit = |count: &mut u64| {
            let hit = ticket < *count;
            ticket = ticket.wrapping_sub(*count);
            *count -= u64::from(hit);
            hit
        };
        if hit(&mut left.duplicate) {
            return (LineKind::Final, true);
        }
        if hit(&mut left.late) {
            return (if room { LineKind::Late } else { LineKind::Final }, false);
        }
        if hit(&mut left.non_final) {
            return (LineKind::NonFinal, false);
        }
        if hit(&mut left.malformed) {
            let kinds = Malformation::ALL;
            return (LineKind::Malformed(kinds[(left.malformed % kinds.len() as u64) as usize]), false);
        }
        (LineKind::Final, false)
    }

    /// When line `index` falls within the day, by the load curve; rises with `index`.
    fn instant_of_day(&mut self, index: u64) -> i64 {
        let part = (index as f64 + self.random.unit()) / self.bases as f64;
        while self.hour < 23 && part >= self.before_hour[self.hour + 1] {
            self.hour += 1;
        }
        let (from, upto) = (self.before_hour[self.hour], self.before_hour[self.hour + 1]);
        let within = ((part - from) / (upto - from)).clamp(0.0, 1.0);
        let ms = (self.hour as f64 + within) * HOUR_MS as f64;
        (ms as i64).min(DAY_MS - 1)
    }
}

impl Iterator for Generator {
    type Item = GeneratedLine;

    fn next(&mut self) -> Option<GeneratedLine> {
        let mut json = Vec::with_capacity(768);
        let (arrival_ms, kind) = self.next_into(&mut json)?;
        Some(GeneratedLine { arrival_ms, json, kind })
    }
}

/// Ids of the operators that occur, as a registry must hold them.
pub fn operator_ids() -> impl Iterator<Item = &'static str> {
    OPERATORS.iter().map(|operator| operator.id)
}

#[cfg(test)]
mod tests;
