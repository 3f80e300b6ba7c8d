//! A page of a list, looked for under a budget of time: full, unless nothing is left or the budget is used up. Then it may
//! be short, even empty, and says where to go on.

use super::answer::ListWriter;
use super::error::ApiError;
use cdr_core::{CdrId, Hour};
use std::time::{Duration, Instant};

/// Place of a row: its hour and its number there.
pub(in crate::api) type RowPlace = (Hour, u64);

/// Fills a page by bounded queries: `look` appends what it finds behind a place, about as much as there is room for, and
/// says behind which place to go on, if there is more. Gives where the next page begins.
///
/// # Errors
/// What `look` says.
pub(in crate::api) fn fill<T>(
    items: &mut Vec<T>,
    mut behind: Option<RowPlace>,
    limit: usize,
    budget: Duration,
    mut look: impl FnMut(&mut Vec<T>, Option<RowPlace>, usize) -> Result<Option<RowPlace>, ApiError>,
) -> Result<Option<RowPlace>, ApiError> {
    let started = Instant::now();
    loop {
        let room = limit - items.len();
        behind = look(items, behind, room)?;
        if behind.is_none() || items.len() >= limit || started.elapsed() >= budget {
            return Ok(behind);
        }
    }
}

/// A page that is filled by a walk over things with an id of their own, in their order.
pub(in crate::api) struct Walk<T> {
    found: Vec<T>,
    limit: usize,
    until: Instant,
    looked_at: Option<CdrId>,
    has_more: bool,
}

impl<T> Walk<T> {
    /// An empty page.
    pub(in crate::api) fn new(limit: usize, budget: Duration) -> Self {
        let until = Instant::now() + budget;
        Self { found: Vec::new(), limit, until, looked_at: None, has_more: false }
    }

    /// Takes the next thing if it `fits`; false if the walk shall end before it. At least one thing is looked at.
    pub(in crate::api) fn offer(&mut self, id: CdrId, thing: T, fits: impl FnOnce(&T) -> bool) -> bool {
        self.has_more =
            self.found.len() == self.limit || self.looked_at.is_some() && Instant::now() >= self.until;
        if self.has_more {
            return false;
        }
        self.looked_at = Some(id);
        if fits(&thing) {
            self.found.push(thing);
        }
        true
    }

    /// What was found, and the id behind which the list goes on, if it does.
    pub(in crate::api) fn end(self) -> (Vec<T>, Option<CdrId>) {
        (self.found, self.looked_at.filter(|_| self.has_more))
    }
}

/// Closes a list whose length is its total if it is the whole: the first page, and nothing behind it.
pub(in crate::api) fn close(list: ListWriter, is_first: bool, next: Option<&str>) -> Vec<u8> {
    let total = (is_first && next.is_none()).then(|| list.len() as u64);
    list.finish(next, total)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Numbers up to `upto`, two a query.
    fn numbers(upto: u64, limit: usize, budget: Duration) -> (Vec<u64>, Option<RowPlace>) {
        let mut items = Vec::new();
        let next = fill(&mut items, None, limit, budget, |items, behind, room| {
            let first = behind.map_or(1, |(_, number)| number + 1);
            let last = (first + 1).min(upto).min(first + room as u64 - 1);
            items.extend(first..=last);
            Ok((last < upto).then_some((Hour(0), last)))
        });
        (items, next.unwrap())
    }

    #[test]
    fn a_page_is_filled_until_it_is_full_or_nothing_is_left() {
        assert_eq!(numbers(5, 3, LONG), (vec![1, 2, 3], Some((Hour(0), 3))));
        assert_eq!(numbers(5, 5, LONG), (vec![1, 2, 3, 4, 5], None));
        assert_eq!(numbers(5, 9, LONG), (vec![1, 2, 3, 4, 5], None));
        assert_eq!(numbers(5, 5, Duration::ZERO), (vec![1, 2], Some((Hour(0), 2))), "one query at least");
    }

    #[test]
    fn a_walk_ends_before_what_has_no_room() {
        let walk = |limit, budget| {
            let mut walk = Walk::new(limit, budget);
            for number in 1..=5 {
                if !walk.offer(CdrId([number; 16]), number, |number| number % 2 == 1) {
                    break;
                }
            }
            walk.end()
        };
        assert_eq!(walk(2, LONG), (vec![1, 3], Some(CdrId([3; 16]))));
        assert_eq!(walk(3, LONG), (vec![1, 3, 5], None));
        assert_eq!(walk(3, Duration::ZERO), (vec![1], Some(CdrId([1; 16]))), "one is looked at");
    }

    #[test]
    fn only_a_whole_list_has_its_length_as_total() {
        let closed = |is_first, next| String::from_utf8(close(ListWriter::new(), is_first, next)).unwrap();
        assert_eq!(closed(true, None), "{\"items\":[],\"total\":0}");
        assert_eq!(closed(false, None), "{\"items\":[]}");
        assert_eq!(closed(true, Some("c")), "{\"items\":[],\"nextCursor\":\"c\"}");
    }
}
