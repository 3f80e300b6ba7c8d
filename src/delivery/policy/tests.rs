#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

const REGULATOR: Route = Route { primary: ChannelKind::Sftp, fallback: Some(ChannelKind::Api) };
const ALONE: Route = Route { primary: ChannelKind::Sftp, fallback: None };
const START: i64 = 1_776_690_000_000;

fn at(minutes: i64) -> Millis {
    Millis(START + minutes * MINUTE_MS)
}

fn sftp(minutes: i64, class: ErrorClass) -> Attempt {
    Attempt { at: at(minutes), channel: ChannelKind::Sftp, outcome: Outcome::Failed(class) }
}

fn api(minutes: i64, class: ErrorClass) -> Attempt {
    Attempt { channel: ChannelKind::Api, ..sftp(minutes, class) }
}

fn away(minutes: &[i64]) -> Vec<Attempt> {
    minutes.iter().map(|minute| sftp(*minute, ErrorClass::Unreachable)).collect()
}

/// The middle of the jitter.
const EVEN: u64 = 200;

fn next(route: Route, attempts: &[Attempt]) -> Next {
    let now = attempts.last().map_or(at(0), |last| last.at);
    decide(route, attempts, now, EVEN).next
}

/// Makes attempts as decided, each of `takes_ms`, until `minutes` are over or nothing is left to do.
fn live(
    route: Route,
    minutes: i64,
    takes_ms: i64,
    random: u64,
    mut outcome: impl FnMut(usize, ChannelKind, Millis) -> Outcome,
) -> Vec<Attempt> {
    let (mut now, mut attempts) = (at(0), Vec::new());
    while let Next::At(due, channel) =
        decide(route, &attempts, now, random.wrapping_add(attempts.len() as u64)).next
    {
        now = Millis(now.max(due).0 + takes_ms);
        if now > at(minutes) {
            break;
        }
        attempts.push(Attempt { at: now, channel, outcome: outcome(attempts.len(), channel, now) });
    }
    attempts
}

#[test]
fn sftp_is_first_and_is_tried_again_soon() {
    let begin = decide(REGULATOR, &[], at(3), 0);
    assert_eq!(begin.next, Next::At(at(3), ChannelKind::Sftp));
    assert_eq!((begin.alarms, begin.exhausted_after), (vec![], None));
    assert_eq!(next(REGULATOR, &away(&[0])), Next::At(at(1), ChannelKind::Sftp));
    assert_eq!(next(REGULATOR, &away(&[0, 1])), Next::At(at(3), ChannelKind::Sftp));
    let full = [sftp(0, ErrorClass::Full)];
    assert_eq!(next(REGULATOR, &full), Next::At(at(1), ChannelKind::Sftp));
}

#[test]
fn three_failures_in_15_minutes_open_the_fallback() {
    assert_eq!(next(REGULATOR, &away(&[0, 1, 3])), Next::At(at(3), ChannelKind::Api));
    assert_eq!(next(REGULATOR, &away(&[0, 7, 15])), Next::At(at(15), ChannelKind::Api));
    // Uploads that break after ten minutes each are not that dense ...
    assert_eq!(next(REGULATOR, &away(&[0, 8, 16])), Next::At(at(20), ChannelKind::Sftp));
    assert_eq!(next(REGULATOR, &away(&[0, 20, 59])), Next::At(at(63), ChannelKind::Sftp));
    // ... but do not go on for ever either.
    assert_eq!(next(REGULATOR, &away(&[0, 20, 40, 60])), Next::At(at(60), ChannelKind::Api));
    // The dense ones may come later than the first.
    assert_eq!(next(REGULATOR, &away(&[0, 20, 24, 32])), Next::At(at(32), ChannelKind::Api));
    // What this side can't read says nothing of the channel.
    let mut own = away(&[0, 1]);
    own.insert(1, sftp(0, ErrorClass::Source));
    assert_eq!(next(REGULATOR, &own), Next::At(at(3), ChannelKind::Sftp));
}

#[test]
fn six_retries_of_the_fallback_take_an_hour_and_sftp_is_looked_after() {
    let failed = |_, _, _| Outcome::Failed(ErrorClass::Unreachable);
    let attempts = live(REGULATOR, 300, 0, EVEN, failed);
    let of = |channel| attempts.iter().filter(move |a| a.channel == channel).map(|a| a.at);
    let api: Vec<Millis> = of(ChannelKind::Api).collect();
    assert_eq!(api[0], at(3), "at once after the third failure");
    let hour = api[6].0 - api[0].0;
    assert!((48 * MINUTE_MS..=72 * MINUTE_MS).contains(&hour), "six retries take {hour} ms");
    let pauses: Vec<i64> = api.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    for (k, pause) in pauses[..6].iter().enumerate() {
        let base = FALLBACK_RETRIES_MS * (1 << k) / 63;
        assert!((base * 79 / 100..=base * 121 / 100).contains(pause), "pause {k}: {pause} ms");
    }
    for pause in &pauses[6..] {
        assert!((24 * MINUTE_MS..=36 * MINUTE_MS).contains(pause), "slow pause {pause} ms");
    }
    let sftp: Vec<i64> = of(ChannelKind::Sftp).map(|at| (at.0 - START) / MINUTE_MS).collect();
    assert_eq!(sftp[..7], [0, 1, 3, 18, 33, 48, 63]);
}

#[test]
fn whoever_succeeds_first_ends_it() {
    let back = |_, channel, now: Millis| match channel {
        ChannelKind::Sftp if now >= at(20) => Outcome::Delivered,
        _ => Outcome::Failed(ErrorClass::Unreachable),
    };
    let attempts = live(REGULATOR, 300, 0, EVEN, back);
    let last = attempts.last().unwrap();
    assert_eq!((last.channel, last.at, last.outcome), (ChannelKind::Sftp, at(33), Outcome::Delivered));
    let done = decide(REGULATOR, &attempts, at(500), 0);
    assert_eq!((done.next, done.alarms, done.exhausted_after), (Next::Done, vec![], None));
}

#[test]
fn what_needs_a_person_stops_at_once() {
    for class in ErrorClass::ALL.into_iter().filter(|class| class.stops()) {
        for attempt in [sftp(4, class), api(4, class)] {
            let mut attempts = away(&[0, 1, 3]);
            attempts.push(attempt);
            let decision = decide(REGULATOR, &attempts, at(600), 0);
            assert_eq!(decision.next, Next::Stopped(class));
            assert_eq!(decision.alarms, [Alarm::Failed(attempt.channel, class)]);
        }
    }
}

#[test]
fn a_certificate_is_reported_at_once_and_not_knocked_at_quickly() {
    let mut attempts = away(&[0, 1, 3]);
    attempts.push(api(3, ErrorClass::Certificate));
    let decision = decide(REGULATOR, &attempts, at(3), EVEN);
    assert_eq!(decision.alarms, [Alarm::Failed(ChannelKind::Api, ErrorClass::Certificate)]);
    assert_eq!(decision.next, Next::At(at(18), ChannelKind::Sftp), "SFTP may be back before");
    attempts.push(sftp(18, ErrorClass::Unreachable));
    assert_eq!(next(REGULATOR, &attempts), Next::At(at(33), ChannelKind::Sftp), "the preferred one of two");
    assert_eq!(decide(REGULATOR, &attempts, at(18), 0).next, Next::At(at(27), ChannelKind::Api));
}

#[test]
fn both_channels_failing_for_over_two_hours_exhaust() {
    let mut attempts = away(&[0, 1, 3]);
    assert_eq!(decide(REGULATOR, &attempts, at(600), 0).exhausted_after, None, "the fallback was not tried");
    attempts.push(api(4, ErrorClass::Unreachable));
    let decide_at = |minutes, plus| decide(REGULATOR, &attempts, Millis(at(minutes).0 + plus), 0);
    assert_eq!(decide_at(124, 0).exhausted_after, Some(at(124)), "counted from where both fail");
    assert_eq!(decide_at(124, 0).alarms, []);
    let exhausted = decide_at(124, 1);
    assert_eq!(exhausted.alarms, [Alarm::Exhausted]);
    assert!(matches!(exhausted.next, Next::At(..)), "it goes on");
    let alone = decide(ALONE, &away(&[0, 1]), Millis(at(120).0 + 1), 0);
    assert_eq!(alone.alarms, [Alarm::Exhausted]);
}

#[test]
fn a_channel_alone_is_tried_every_quarter_of_an_hour_in_the_end() {
    let failed = |_, _, _| Outcome::Failed(ErrorClass::Unreachable);
    let attempts = live(ALONE, 120, 0, 0, failed);
    let minutes: Vec<i64> = attempts.iter().map(|a| (a.at.0 - START) / MINUTE_MS).collect();
    assert_eq!(minutes, [0, 1, 3, 7, 15, 30, 45, 60, 75, 90, 105, 120]);
    assert!(attempts.iter().all(|attempt| attempt.channel == ChannelKind::Sftp));
}

#[test]
fn a_file_that_cant_be_read_here_blames_no_channel() {
    let own = |minutes: &[i64]| -> Vec<Attempt> {
        minutes.iter().map(|minute| sftp(*minute, ErrorClass::Source)).collect()
    };
    assert_eq!(next(REGULATOR, &own(&[0])), Next::At(at(1), ChannelKind::Sftp));
    assert_eq!(decide(REGULATOR, &own(&[0, 1]), at(1), 0).alarms, []);
    let third = decide(REGULATOR, &own(&[0, 1, 3]), at(3), 0);
    assert_eq!(third.next, Next::At(at(7), ChannelKind::Sftp));
    assert_eq!(third.alarms, [Alarm::Failed(ChannelKind::Sftp, ErrorClass::Source)]);
    assert_eq!(third.exhausted_after, None);
}

#[test]
fn outcomes_are_read_back() {
    for class in ErrorClass::ALL {
        let outcome = Outcome::Failed(class);
        assert_eq!(Outcome::parse(outcome.as_str()), Some(outcome));
    }
    assert_eq!(Outcome::parse("DELIVERED"), Some(Outcome::Delivered));
    assert_eq!(Outcome::parse("delivered"), None);
}

fn blamed() -> impl Strategy<Value = ErrorClass> {
    prop::sample::select(vec![
        ErrorClass::Unreachable,
        ErrorClass::Full,
        ErrorClass::Setup,
        ErrorClass::Certificate,
    ])
}

proptest! {
    #[test]
    fn it_never_gives_up_and_never_hurries(
        classes in prop::collection::vec(blamed(), 1..20),
        takes_ms in prop::sample::select(vec![0, 10_000, 240_000, 1_800_000]),
        random: u64,
        alone: bool,
    ) {
        let route = if alone { ALONE } else { REGULATOR };
        let class = |i: usize, _, _| Outcome::Failed(classes[i % classes.len()]);
        let attempts = live(route, 3 * 24 * 60, takes_ms, random, class);
        prop_assert!(attempts.len() > 60, "{} attempts in three days", attempts.len());
        let gap = attempts.windows(2).map(|pair| pair[1].at.0 - pair[0].at.0).max().unwrap();
        prop_assert!(gap <= 15 * MINUTE_MS + takes_ms, "no attempt for {gap} ms");
        // Two hours fit into the history that is kept.
        let dense = attempts.windows(HISTORY).all(|w| w[HISTORY - 1].at.0 - w[0].at.0 > EXHAUSTED_AFTER_MS);
        prop_assert!(dense);
    }

    #[test]
    fn the_newest_attempts_lead_to_the_same_decision(
        classes in prop::collection::vec(blamed(), 1..20),
        takes_ms in prop::sample::select(vec![0, 10_000, 240_000, 1_800_000]),
        random: u64,
        alone: bool,
        later_ms in 0..7_200_000_i64,
    ) {
        let route = if alone { ALONE } else { REGULATOR };
        let class = |i: usize, _, _| Outcome::Failed(classes[i % classes.len()]);
        let attempts = live(route, 3 * 24 * 60, takes_ms, random, class);
        for end in (HISTORY + 1)..=attempts.len() {
            let (all, newest) = (&attempts[..end], &attempts[end - HISTORY..end]);
            let now = Millis(all[end - 1].at.0 + later_ms);
            let (full, short) = (decide(route, all, now, random), decide(route, newest, now, random));
            prop_assert_eq!((full.next, full.alarms), (short.next, short.alarms));
        }
    }

    #[test]
    fn any_history_has_a_decision(
        steps in prop::collection::vec((0..40_i64, prop::sample::select(ChannelKind::ALL.to_vec()),
            prop::sample::select(ErrorClass::ALL.to_vec())), 0..80),
        random: u64,
    ) {
        let mut minutes = 0;
        let attempts: Vec<Attempt> = steps
            .iter()
            .map(|(pause, channel, class)| {
                minutes += pause;
                Attempt { channel: *channel, ..sftp(minutes, *class) }
            })
            .collect();
        let decision = decide(REGULATOR, &attempts, at(minutes), random);
        match (decision.next, attempts.last()) {
            (Next::Stopped(class), Some(last)) => prop_assert!(last.outcome == Outcome::Failed(class) && class.stops()),
            (Next::At(due, _), Some(last)) => prop_assert!(due.0 - last.at.0 <= 36 * MINUTE_MS),
            (Next::At(due, channel), None) => prop_assert_eq!((due, channel), (at(0), ChannelKind::Sftp)),
            (next, _) => prop_assert!(false, "{next:?}"),
        }
    }
}
