//! Which records a file lists: a function of rows and cuts alone, so that any replica makes the same file again.
//!
//! A TAP file takes every sealed original of its operator that no file before it took, whose local event date is the
//! settlement day or earlier. A record without a price waits for the row that gives it one; that row is what its entry
//! carries. A quarantined record is left out until it is resubmitted; then the next file takes it. A RAP file takes
//! the other adjustments, once their original's TAP file is opened.

use super::Cut;
use super::quarantine::Episode;
use crate::time::{Day, Hour};
use bincode::{Decode, Encode};

/// What decides whether a TAP file lists a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFacts {
    /// Local date of its event.
    pub day: Day,
    /// Hour of the first row of its line that has a price; none while there is none.
    pub priced_in: Option<Hour>,
}

/// How far a file reaches, and how far its series was before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Reach {
    /// How far the file before it reached, or the day that had nothing for a file.
    pub before: Option<Cut>,
    /// How far the file reaches.
    pub cut: Cut,
}

impl Cut {
    /// True if the file of this cut, or one before it, can list the record; quarantine apart.
    fn reaches(&self, facts: &RecordFacts) -> bool {
        facts.day <= self.day && facts.priced_in.is_some_and(|hour| hour <= self.upto)
    }
}

/// True if the TAP file that reaches to `cut`, and follows the one that reached to `before`, lists the record.
/// `episodes` are the record's times in quarantine, oldest first.
pub fn tap_takes(before: Option<&Cut>, cut: &Cut, facts: &RecordFacts, episodes: &[Episode]) -> bool {
    takes(before, cut, |cut| cut.reaches(facts), episodes)
}

/// True if `cut` is the first that reaches something, or the first after that was resubmitted.
fn takes(before: Option<&Cut>, cut: &Cut, reached: impl Fn(&Cut) -> bool, episodes: &[Episode]) -> bool {
    if !reached(cut) {
        return false;
    }
    let since = match episodes.iter().rev().find(|episode| episode.opened < cut.ordinal) {
        None => 0,
        Some(last) => match last.resubmitted {
            Some(at) if at < cut.ordinal => at,
            _ => return false,
        },
    };
    !before.is_some_and(|before| before.ordinal > since && reached(before))
}

/// Which of a series' TAP files lists the record: its position in `files`, which ascend.
pub fn tap_file_of(files: &[Reach], facts: &RecordFacts, episodes: &[Episode]) -> Option<usize> {
    file_of(files, |cut| cut.reaches(facts), episodes)
}

/// Which of a series' files holds what is reached, if the last one that took it could.
fn file_of(files: &[Reach], reached: impl Fn(&Cut) -> bool, episodes: &[Episode]) -> Option<usize> {
    // The first file that reaches it, or the first that does so after it was resubmitted for the last time.
    let since = std::iter::once(0).chain(episodes.iter().filter_map(|episode| episode.resubmitted));
    let candidates =
        since.map(|at| files.partition_point(|file| file.cut.ordinal <= at || !reached(&file.cut)));
    let taken = candidates.filter(|at| {
        let file = files.get(*at);
        file.is_some_and(|file| takes(file.before.as_ref(), &file.cut, &reached, episodes))
    });
    // A file that took it and could not list it put it into quarantine afterwards.
    taken.max().filter(|at| episodes.iter().all(|episode| episode.opened < files[*at].cut.ordinal))
}

/// What decides whether a RAP file returns an adjustment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdjustmentFacts {
    /// Hour of the adjustment.
    pub bucket: Hour,
    /// Where the original's TAP file begins in the log; none while there is no such file.
    pub listed_at: Option<u64>,
    /// True for the row that the TAP entry carries, and rows before it.
    pub is_listed: bool,
}

/// True if the RAP file that reaches to `cut`, and follows the one that reached to `before`, returns the adjustment.
/// `episodes` are its own times in quarantine, oldest first.
pub fn rap_takes(before: Option<&Cut>, cut: &Cut, facts: &AdjustmentFacts, episodes: &[Episode]) -> bool {
    takes(before, cut, |cut| facts.reached_by(cut), episodes)
}

/// Which of a series' RAP files returns the adjustment: its position in `files`, which ascend.
pub fn rap_file_of(files: &[Reach], facts: &AdjustmentFacts, episodes: &[Episode]) -> Option<usize> {
    file_of(files, |cut| facts.reached_by(cut), episodes)
}

impl AdjustmentFacts {
    /// True if the file of this cut, or one before it, can return the adjustment; quarantine apart.
    fn reached_by(&self, cut: &Cut) -> bool {
        !self.is_listed && self.bucket <= cut.upto && self.listed_at.is_some_and(|at| at < cut.ordinal)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(day: u32, upto: u32, ordinal: u64) -> Cut {
        Cut { day: Day(day), upto: Hour(upto), ordinal }
    }

    fn facts(day: u32, priced_in: Option<u32>) -> RecordFacts {
        RecordFacts { day: Day(day), priced_in: priced_in.map(Hour) }
    }

    /// Files one behind the other.
    fn files(cuts: &[Cut]) -> Vec<Reach> {
        let before = |at: usize| at.checked_sub(1).map(|at| cuts[at]);
        cuts.iter().enumerate().map(|(at, cut)| Reach { before: before(at), cut: *cut }).collect()
    }

    fn takers(cuts: &[Cut], facts: &RecordFacts, episodes: &[Episode]) -> Vec<usize> {
        let before = |at: usize| at.checked_sub(1).map(|at| &cuts[at]);
        (0..cuts.len()).filter(|at| tap_takes(before(*at), &cuts[*at], facts, episodes)).collect()
    }

    #[test]
    fn late_unpriced_and_quarantined_records_go_into_a_later_file() {
        let cuts = [cut(1, 30, 100), cut(2, 54, 200), cut(3, 78, 300)];
        assert_eq!(takers(&cuts, &facts(1, Some(29)), &[]), [0]);
        assert_eq!(takers(&cuts, &facts(1, Some(31)), &[]), [1], "late");
        assert_eq!(takers(&cuts, &facts(2, Some(29)), &[]), [1], "of the next day already");
        assert_eq!(takers(&cuts, &facts(1, None), &[]), [] as [usize; 0], "without a price");
        let failed = |opened, resubmitted| Episode { opened, resubmitted };
        let day_one = facts(1, Some(29));
        // Found unfit while the first file was made: that file's own selection does not know of it.
        assert_eq!(takers(&cuts, &day_one, &[failed(120, None)]), [0]);
        assert_eq!(takers(&cuts, &day_one, &[failed(90, None)]), [] as [usize; 0]);
        assert_eq!(takers(&cuts, &day_one, &[failed(120, Some(150))]), [0, 1]);
        assert_eq!(takers(&cuts, &day_one, &[failed(120, Some(150)), failed(210, Some(250))]), [0, 1, 2]);
        assert_eq!(
            tap_file_of(&files(&cuts), &day_one, &[failed(120, Some(150)), failed(210, Some(250))]),
            Some(2)
        );
        assert_eq!(tap_file_of(&files(&cuts), &day_one, &[failed(120, Some(150))]), Some(1));
        assert_eq!(tap_file_of(&files(&cuts), &day_one, &[failed(120, None)]), None, "no file could list it");
        assert_eq!(tap_file_of(&files(&cuts), &facts(4, Some(80)), &[]), None);
        // Resubmitted once it had a price, but before the hour of that price counted.
        assert_eq!(takers(&cuts, &facts(1, Some(60)), &[failed(110, Some(150))]), [2]);
    }

    #[test]
    fn adjustments_wait_for_their_originals_file() {
        let cuts = [cut(1, 30, 150), cut(2, 54, 250)];
        let returned = |bucket, listed_at, is_listed| {
            let facts = AdjustmentFacts { bucket: Hour(bucket), listed_at, is_listed };
            let takers: Vec<usize> = (0usize..2)
                .filter(|at| rap_takes(at.checked_sub(1).map(|b: usize| &cuts[b]), &cuts[*at], &facts, &[]))
                .collect();
            assert_eq!(rap_file_of(&files(&cuts), &facts, &[]), takers.first().copied());
            takers
        };
        assert_eq!(returned(28, Some(100), false), [0]);
        assert_eq!(returned(28, Some(200), false), [1], "its original is in a later TAP file");
        assert_eq!(returned(28, None, false), [] as [usize; 0]);
        assert_eq!(returned(40, Some(100), false), [1]);
        assert_eq!(returned(40, Some(100), true), [] as [usize; 0]);
        // A day that had nothing for a file moves the series on, too.
        let facts = AdjustmentFacts { bucket: Hour(28), listed_at: Some(100), is_listed: false };
        let behind = [Reach { before: Some(cuts[0]), cut: cuts[1] }];
        assert_eq!(rap_file_of(&behind, &facts, &[]), None);
        let resubmitted = Episode { opened: 120, resubmitted: Some(200) };
        assert_eq!(rap_file_of(&behind, &facts, &[resubmitted]), Some(0));
        let failed_again = Episode { opened: 260, resubmitted: None };
        assert_eq!(rap_file_of(&behind, &facts, &[resubmitted, failed_again]), None);
    }

    proptest! {
        /// Without quarantine every priced record is in exactly one file, once a file reaches it.
        #[test]
        fn exactly_once(
            steps in proptest::collection::vec((1u32..3, 0u32..30, 1u64..50), 1..12),
            day in 0u32..20,
            hour in 0u32..300,
        ) {
            let mut at = cut(0, 0, 0);
            let cuts: Vec<Cut> = steps.iter().map(|(days, hours, rows)| {
                at = cut(at.day.0 + days, at.upto.0 + hours, at.ordinal + rows);
                at
            }).collect();
            let facts = facts(day, Some(hour));
            let takers = takers(&cuts, &facts, &[]);
            let reached = cuts.iter().any(|cut| cut.reaches(&facts));
            prop_assert_eq!(takers.len(), usize::from(reached));
            prop_assert_eq!(takers.first().copied(), tap_file_of(&files(&cuts), &facts, &[]));
        }
    }
}
