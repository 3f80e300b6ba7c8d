//! Walking over an hour's row pages, past those that can't be read.

use super::tree::MAX_STEPS;
use crate::error::StoreError;
use crate::hours::HourSpan;
use crate::keys::{self, CF_ROWS};
use crate::page::PageHeader;
use crate::schema::{Db, column};
use rocksdb::{DBRawIterator, ReadOptions};
use std::ops::Range;

/// What comes next.
pub(crate) enum Step {
    /// A page; its bytes are [`PageWalk::bytes`].
    Page(PageHeader),
    /// These sequences are missing or can't be read.
    Missing { sequences: Range<u64>, why: String },
}

/// Pages whose first sequence lies in a range of an hour; rows missing behind the last of them are reported too.
pub(crate) struct PageWalk<'a> {
    pages: DBRawIterator<'a>,
    span: HourSpan,
    range: Range<u64>,
    /// Where the next page must begin; unknown before the first page of a range in the middle.
    expected: Option<u64>,
    /// Why the pages from `expected` on can't be read.
    trouble: Option<String>,
    ready: Option<PageHeader>,
    started: bool,
    done: bool,
}

impl<'a> PageWalk<'a> {
    pub fn new(db: &'a Db, span: HourSpan, range: Range<u64>) -> Result<Self, StoreError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_readahead_size(1 << 20);
        let pages = db.raw_iterator_cf_opt(column(db, CF_ROWS)?, options);
        let expected = (range.start <= 1).then_some(1);
        Ok(Self { pages, span, range, expected, trouble: None, ready: None, started: false, done: false })
    }

    /// Like [`PageWalk::new`], but from the page on that holds the first sequence of the range.
    pub fn covering(db: &'a Db, span: HourSpan, range: Range<u64>) -> Result<Self, StoreError> {
        let mut walk = Self::new(db, span, range)?;
        walk.pages.seek_for_prev(keys::page(span.hour, walk.range.start));
        let holder = walk.pages.key().and_then(keys::parse_page).filter(|(hour, _)| *hour == span.hour);
        let header =
            holder.zip(walk.pages.value()).and_then(|(place, page)| PageHeader::parse(place, page).ok());
        if let Some(header) = header
            && header.first_sequence + header.count as u64 > walk.range.start
        {
            walk.range.start = header.first_sequence;
            walk.expected = Some(header.first_sequence);
        }
        Ok(walk)
    }

    /// Bytes of the page that the last step named.
    pub fn bytes(&self) -> &[u8] {
        self.pages.value().unwrap_or_default()
    }

    pub fn step(&mut self) -> Option<Step> {
        if let Some(header) = self.ready.take() {
            return Some(Step::Page(header));
        }
        while !self.done {
            self.advance();
            let Some((sequence, header)) = self.next_page() else {
                self.done = true;
                return self.missing_before(self.end_or_next());
            };
            match header {
                Ok(header) => {
                    let missing = self.missing_before(sequence);
                    self.expected = Some(sequence + header.count as u64);
                    if missing.is_some() {
                        self.ready = Some(header);
                        return missing;
                    }
                    return Some(Step::Page(header));
                }
                Err(why) => {
                    let missing = self.missing_before(sequence);
                    self.expected = Some(sequence);
                    self.trouble = Some(why);
                    if missing.is_some() {
                        return missing;
                    }
                }
            }
        }
        None
    }

    fn advance(&mut self) {
        if self.started {
            self.pages.next();
        } else {
            self.started = true;
            self.pages
                .seek(keys::page(self.span.hour, if self.range.start <= 1 { 0 } else { self.range.start }));
        }
    }

    /// The page under the iterator, if it is of this range; blocks that can't be read are stepped over.
    fn next_page(&mut self) -> Option<(u64, Result<PageHeader, String>)> {
        let mut steps = 0;
        while let Err(error) = self.pages.status() {
            self.trouble.get_or_insert_with(|| error.into_string());
            steps += 1;
            if steps > MAX_STEPS {
                return None;
            }
            let from = self.expected.unwrap_or(self.range.start);
            self.pages.seek(keys::page(self.span.hour, from + steps));
        }
        let (hour, sequence) = keys::parse_page(self.pages.key()?)?;
        if hour != self.span.hour || sequence >= self.range.end {
            return None;
        }
        Some((sequence, PageHeader::parse((hour, sequence), self.pages.value()?)))
    }

    /// Sequence at which the page behind this range begins, or the hour ends.
    fn end_or_next(&self) -> u64 {
        let next = self.pages.key().and_then(keys::parse_page).filter(|(hour, _)| *hour == self.span.hour);
        next.map_or(self.span.rows + 1, |(_, sequence)| sequence)
    }

    /// What is wrong between the last page and one that begins at `sequence`.
    fn missing_before(&mut self, sequence: u64) -> Option<Step> {
        let trouble = self.trouble.take();
        let expected = match (self.expected, &trouble) {
            (Some(expected), _) => expected,
            (None, Some(_)) => self.range.start,
            (None, None) => return None,
        };
        if expected == sequence && trouble.is_none() {
            return None;
        }
        let why = trouble.unwrap_or_else(|| {
            let why = if expected < sequence { "they are missing" } else { "they are stored twice" };
            why.to_owned()
        });
        Some(Step::Missing { sequences: expected.min(sequence)..expected.max(sequence), why })
    }
}
