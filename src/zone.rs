//! The settlement zone's local time.

use cdr_core::time::Day;
use cdr_core::{LedgerState, Millis};
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

/// Minutes east of UTC in `zone` (an IANA name) at an instant; 0 in a zone that this machine does not know.
pub fn offset_minutes(zone: &str, at: Millis) -> i16 {
    TimeZone::get(zone).map_or(0, |zone| (zone.to_offset(timestamp(at)).seconds() / 60) as i16)
}

/// The next instant after `at` at which the clocks in `zone` show `time`.
///
/// # Errors
/// If the zone is unknown, or the instant too late to be written.
pub fn next_local(zone: &str, time: Time, at: Millis) -> Result<Millis, jiff::Error> {
    let zone = TimeZone::get(zone)?;
    let now = timestamp(at).to_zoned(zone.clone());
    let mut day = now.date();
    loop {
        let candidate = day.to_datetime(time).to_zoned(zone.clone())?;
        if candidate > now {
            return Ok(Millis(candidate.timestamp().as_millisecond()));
        }
        day = day.tomorrow()?;
    }
}

/// The latest instant up to `at` at which the clocks in `zone` showed `time`, and its local day.
///
/// # Errors
/// If the zone is unknown, or there is none.
pub fn latest_local(zone: &str, time: Time, at: Millis) -> Result<(Day, Millis), jiff::Error> {
    let today = Day::local(at, offset_minutes(zone, at));
    let began = local_time(zone, today, time)?;
    if began <= at {
        return Ok((today, began));
    }
    let before = Day(today.0.saturating_sub(1));
    Ok((before, local_time(zone, before, time)?))
}

/// The instant at which the clocks in `zone` show `time` on `day`; where they skip it, the first one after.
///
/// # Errors
/// If the zone is unknown, or the day out of its range.
pub fn local_time(zone: &str, day: Day, time: Time) -> Result<Millis, jiff::Error> {
    let local = date(day).to_datetime(time).to_zoned(TimeZone::get(zone)?)?;
    Ok(Millis(local.timestamp().as_millisecond()))
}

/// True if every adjustment that the RAP file of `day` has to return is in a sealed hour: `cut_off` of the day after is
/// over, and so is the hour in which it was.
///
/// # Errors
/// If the ledger's zone is unknown, or the day out of its range.
pub fn is_cut_off(state: &LedgerState, day: Day, cut_off: Time, now: Millis) -> Result<bool, jiff::Error> {
    let zone = state.cluster.as_ref().map_or("UTC", |cluster| &cluster.zone);
    let at = local_time(zone, day.next(), cut_off)?;
    Ok(now >= at && Millis(at.0 - 1).hour() < state.head.open_hour)
}

/// A day as the calendar has it.
pub fn date(day: Day) -> Date {
    timestamp(day.start_utc()).to_zoned(TimeZone::UTC).date()
}

fn timestamp(at: Millis) -> Timestamp {
    Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_next_cut_off() {
        let next = |at: &str| {
            let at = Millis::parse(at).unwrap();
            next_local("Asia/Kabul", Time::constant(2, 30, 0, 0), at).unwrap().to_string()
        };
        assert_eq!(next("2026-04-21T09:10:00Z"), "2026-04-21T22:00:00.000Z");
        assert_eq!(next("2026-04-21T21:59:59.999Z"), "2026-04-21T22:00:00.000Z");
        assert_eq!(next("2026-04-21T22:00:00Z"), "2026-04-22T22:00:00.000Z");
        assert_eq!(offset_minutes("Asia/Kabul", Millis(0)), 270);
        assert_eq!(offset_minutes("Nowhere/Else", Millis(0)), 0);
    }
}
