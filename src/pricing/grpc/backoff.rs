//! Pauses between attempts: doubling, bounded, and spread so that replicas do not ask in step.

use std::time::Duration;

/// Longest pause after the first failure.
const FIRST: Duration = Duration::from_millis(50);
/// Longest pause of all.
const LONGEST: Duration = Duration::from_secs(5);

/// The pause after `failures` failures, from 1: between half and all of a bound that doubles; `random` chooses.
pub(super) fn pause(failures: u32, random: u32) -> Duration {
    let doubled = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let bound = FIRST.saturating_mul(doubled).min(LONGEST);
    spread(bound / 2, bound, random)
}

/// A time from `from` up to `upto`; `random` chooses.
pub(super) fn spread(from: Duration, upto: Duration, random: u32) -> Duration {
    let width = upto.saturating_sub(from).as_micros() as u64;
    from + Duration::from_micros((width as u128 * u128::from(random) / u128::from(u32::MAX)) as u64)
}

/// A random number; 0 if the system has none, which only means that pauses are not spread.
pub(super) fn random() -> u32 {
    getrandom::u32().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let most = |failures| pause(failures, u32::MAX).as_millis();
        assert_eq!([1, 2, 3, 7, 8, 40].map(most), [50, 100, 200, 3_200, 5_000, 5_000]);
        assert_eq!(pause(1, 0).as_millis(), 25);
        for random in (0..=u32::MAX).step_by(99_999_999) {
            let pause = pause(3, random).as_millis();
            assert!((100..=200).contains(&pause), "{pause}");
        }
    }
}
