//! When the next attempt to deliver a file is made, and by which channel: a pure function of the attempts so far.
//!
//! SFTP is tried first, after 1 and then 2 minutes again. Three failures within 15 minutes open the fallback
//! (US-CDR-014); so do failures that go on for an hour, because uploads that break late never fail three times in 15
//! minutes. The REST interface is then tried at once and, with doubling and jittered pauses, six times more over an
//! hour; from then on every 30 minutes. All the while SFTP is tried every 15 minutes, and whichever succeeds first ends
//! it. Nothing gives up: attempts go on until one succeeds, a failure needs a person ([`ErrorClass::stops`]), or
//! somebody ends the delivery. A file that comes later begins with SFTP again.
//!
//! The caller keeps the attempts of one delivery in order; a redrop begins with none. The last [`HISTORY`] are enough.

use super::error::{ChannelKind, ErrorClass};
use cdr_core::Millis;

/// This many of the newest attempts lead to the same decisions as all of them.
pub const HISTORY: usize = 64;

const MINUTE_MS: i64 = 60_000;
/// Failures of the primary channel that open the fallback ...
const FALLBACK_FAILURES: usize = 3;
/// ... if they lie within this time,
const FALLBACK_WINDOW_MS: i64 = 15 * MINUTE_MS;
/// or failures that go on for this long.
const FALLBACK_AFTER_MS: i64 = 60 * MINUTE_MS;
/// Pause after the primary channel's first failure; it doubles, up to
const FIRST_PAUSE_MS: i64 = MINUTE_MS;
/// the pause between attempts by the primary channel once the fallback is open.
const PRIMARY_PAUSE_MS: i64 = 15 * MINUTE_MS;
/// Retries of the fallback with doubling pauses, which together last an hour.
const FALLBACK_RETRIES: u32 = 6;
const FALLBACK_RETRIES_MS: i64 = 60 * MINUTE_MS;
/// Pause between attempts by the fallback after that.
const FALLBACK_PAUSE_MS: i64 = 30 * MINUTE_MS;
/// Longer than this all channels may not fail (US-CDR-014).
const EXHAUSTED_AFTER_MS: i64 = 120 * MINUTE_MS;
/// Attempts in a row for which this side could not read the file before it is reported.
const SOURCE_FAILURES: usize = 3;

/// The channels of a drop, in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Tried first, and again as soon as it may be back.
    pub primary: ChannelKind,
    /// Tried when the primary one fails.
    pub fallback: Option<ChannelKind>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has the file and its sidecars.
    Delivered,
    /// It has not.
    Failed(ErrorClass),
}

impl Outcome {
    /// `DELIVERED`, or the class of the failure.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "DELIVERED",
            Self::Failed(class) => class.as_str(),
        }
    }

    /// The outcome of that name.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "DELIVERED" { Some(Self::Delivered) } else { ErrorClass::parse(name).map(Self::Failed) }
    }
}

/// One attempt to deliver a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it ended.
    pub at: Millis,
    /// By which channel.
    pub channel: ChannelKind,
    /// How it ended.
    pub outcome: Outcome,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try this channel, as soon as the instant has come; it may lie in the past.
    At(Millis, ChannelKind),
    /// Nothing: the file is delivered.
    Done,
    /// Nothing until a person has looked and drops the file again.
    Stopped(ErrorClass),
}

/// What must be reported at once (SEV1). An alarm is among every decision for as long as its cause lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// A channel's newest attempt failed in a way that needs a person.
    Failed(ChannelKind, ErrorClass),
    /// Every channel has failed for more than two hours: `DELIVERY_CHANNELS_EXHAUSTED`.
    Exhausted,
}

/// What follows from the attempts so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is to be done.
    pub next: Next,
    /// What must be reported.
    pub alarms: Vec<Alarm>,
    /// After this instant [`Alarm::Exhausted`] holds, if nothing succeeds before; decide again then, too.
    pub exhausted_after: Option<Millis>,
}

/// Decides what is to be done at `now` after `attempts`, which are in order of time.
///
/// `random` spreads the retries of many files. It must be the same for the same attempts, or the next instant moves with
/// every question: take it, say, from a hash of the file's id and the number of attempts.
pub fn decide(route: Route, attempts: &[Attempt], now: Millis, random: u64) -> Decision {
    let (next, exhausted_after) = match attempts.last().map(|last| last.outcome) {
        Some(Outcome::Delivered) => {
            return Decision { next: Next::Done, alarms: Vec::new(), exhausted_after: None };
        }
        Some(Outcome::Failed(class)) if class.stops() => (Next::Stopped(class), None),
        Some(Outcome::Failed(_)) => (next_attempt(route, attempts, random), exhausted_after(route, attempts)),
        None => (Next::At(now, route.primary), None),
    };
    let mut alarms = alarms(route, attempts);
    if exhausted_after.is_some_and(|limit| now > limit) {
        alarms.push(Alarm::Exhausted);
    }
    Decision { next, alarms, exhausted_after }
}

fn later(at: Millis, by_ms: i64) -> Millis {
    Millis(at.0.saturating_add(by_ms))
}

/// `first_ms` doubled for every failure after the first, at most `longest_ms`.
fn doubled(first_ms: i64, failures: usize, longest_ms: i64) -> i64 {
    let doublings = failures.saturating_sub(1).min(20);
    (first_ms << doublings).min(longest_ms)
}

/// 80 to 120 % of `pause_ms`.
fn jittered(pause_ms: i64, random: u64) -> i64 {
    pause_ms * (800 + (random % 401) as i64) / 1_000
}

/// Failures of one channel for which it is to blame.
fn failures(attempts: &[Attempt], channel: ChannelKind) -> Vec<(Millis, ErrorClass)> {
    let blamed = |attempt: &Attempt| match attempt.outcome {
        Outcome::Failed(class) if attempt.channel == channel && class.blames_channel() => {
            Some((attempt.at, class))
        }
        _ => None,
    };
    attempts.iter().filter_map(blamed).collect()
}

/// Attempts at the end for which this side could not read the file.
fn unread(attempts: &[Attempt]) -> usize {
    let unread = |attempt: &&Attempt| attempt.outcome == Outcome::Failed(ErrorClass::Source);
    attempts.iter().rev().take_while(unread).count()
}

fn next_attempt(route: Route, attempts: &[Attempt], random: u64) -> Next {
    let unread = unread(attempts);
    if let (Some(last), 1..) = (attempts.last(), unread) {
        return Next::At(later(last.at, doubled(FIRST_PAUSE_MS, unread, PRIMARY_PAUSE_MS)), last.channel);
    }
    let primary = failures(attempts, route.primary);
    let primary_pause = |open| {
        if open { PRIMARY_PAUSE_MS } else { doubled(FIRST_PAUSE_MS, primary.len(), PRIMARY_PAUSE_MS) }
    };
    let primary_due = |open| primary.last().map(|(at, _)| later(*at, primary_pause(open)));
    let begin = attempts.last().map_or(Millis(0), |last| last.at);
    let Some(fallback) = route.fallback else {
        return Next::At(primary_due(false).unwrap_or(begin), route.primary);
    };
    let tried = failures(attempts, fallback);
    if tried.is_empty() && !opens_fallback(&primary) {
        return Next::At(primary_due(false).unwrap_or(begin), route.primary);
    }
    let primary_due = primary_due(true).unwrap_or(begin);
    let fallback_due = tried.last().map_or(begin, |(at, class)| {
        later(*at, jittered(fallback_pause(tried.len() as u32, *class), random))
    });
    if primary_due <= fallback_due {
        Next::At(primary_due, route.primary)
    } else {
        Next::At(fallback_due, fallback)
    }
}

/// True if failures of the primary channel open the fallback.
fn opens_fallback(primary: &[(Millis, ErrorClass)]) -> bool {
    let dense = |window: &[(Millis, ErrorClass)]| {
        window[FALLBACK_FAILURES - 1].0.0 - window[0].0.0 <= FALLBACK_WINDOW_MS
    };
    let lasting = match (primary.first(), primary.last()) {
        (Some((first, _)), Some((last, _))) => last.0 - first.0 >= FALLBACK_AFTER_MS,
        _ => false,
    };
    lasting || primary.windows(FALLBACK_FAILURES).any(dense)
}

/// Pause after the fallback's `failures`-th failure, before jitter.
fn fallback_pause(failures: u32, class: ErrorClass) -> i64 {
    // What only a person can correct is not retried quickly.
    let by_itself = matches!(class, ErrorClass::Unreachable | ErrorClass::Full);
    if failures > FALLBACK_RETRIES || !by_itself {
        return FALLBACK_PAUSE_MS;
    }
    // Pauses of 1, 2, 4, ... parts of the hour.
    let parts = (1_i64 << FALLBACK_RETRIES) - 1;
    FALLBACK_RETRIES_MS * (1 << (failures - 1)) / parts
}

/// The instant after which all channels have failed for too long; `None` while one of them has not failed.
fn exhausted_after(route: Route, attempts: &[Attempt]) -> Option<Millis> {
    let first = |channel| failures(attempts, channel).first().map(|(at, _)| *at);
    let primary = first(route.primary)?;
    let both = match route.fallback {
        Some(fallback) => primary.max(first(fallback)?),
        None => primary,
    };
    Some(later(both, EXHAUSTED_AFTER_MS))
}

/// Alarms of the channels' newest attempts.
fn alarms(route: Route, attempts: &[Attempt]) -> Vec<Alarm> {
    let newest = |channel| attempts.iter().rev().find(|attempt| attempt.channel == channel);
    let alarm = |channel| match newest(channel)?.outcome {
        Outcome::Failed(class) if class.needs_person() => Some(Alarm::Failed(channel, class)),
        Outcome::Failed(ErrorClass::Source) if unread(attempts) >= SOURCE_FAILURES => {
            Some(Alarm::Failed(channel, ErrorClass::Source))
        }
        _ => None,
    };
    [Some(route.primary), route.fallback].into_iter().flatten().filter_map(alarm).collect()
}

#[cfg(test)]
mod tests;
