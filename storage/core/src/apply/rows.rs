//! Commands that append rows.

use super::transition::NewRow;
use super::view::View;
use super::{Step, Stop, illegal};
use crate::adjust::{self, Superseded};
use crate::audit;
use crate::canonical::{MAX_INTEGER, row_hash};
use crate::command::{Append, DraftItem, Ingest, Ingested, Rejection, Reply, Source};
use crate::export::books::{Named, named};
use crate::id::CdrId;
use crate::receipt::{Fate, Known, are_expired, fate, message_ids, sms_of};
use crate::row::{Place, Record, Row, SYSTEM_OPERATOR, Sms, System, SystemKind};
use crate::time::Millis;
use std::collections::HashSet;

impl<'a> Step<'a> {
    pub(super) fn ingest(
        &mut self,
        view: &impl View,
        ingest: &Ingest<'a>,
        now: Millis,
    ) -> Result<Reply, Stop> {
        let at = self.check_stream(ingest)?;
        let items = ingest.drafts.decode()?;
        check_sums(ingest, &items)?;
        self.close_until(now)?;
        let known = self.known(view, &items)?;
        let (mut in_batch, mut followed) = (HashSet::with_capacity(items.len()), HashSet::new());
        let (mut appended, mut duplicate) = (0, 0);
        self.transition.rows.reserve(items.len());
        for (item, known) in items.into_iter().zip(known) {
            let sms = sms_of(&item.draft).ok_or_else(|| illegal("an inbound stream carries CDRs only"))?;
            let supersedes = match fate(sms, known) {
                _ if in_batch.contains(&sms.message_id) => None,
                Err(rejection) => return Err(rejection.into()),
                Ok(Fate::Duplicate) => None,
                Ok(Fate::Original) => Some(None),
                Ok(Fate::Correction) => Some(Some(follow(view, &item, sms, &mut followed)?)),
            };
            let Some(supersedes) = supersedes else {
                duplicate += 1;
                continue;
            };
            in_batch.insert(sms.message_id);
            let sequence = ingest.first + u64::from(item.offset);
            self.push_row(item, ingest.stream, sequence, now, supersedes)?;
            appended += 1;
        }
        let stream = &mut self.transition.state.streams[at];
        stream.position = ingest.last;
        stream.digest = ingest.last_digest;
        stream.appended += appended;
        stream.duplicate += duplicate;
        stream.ignored += ingest.ignored;
        stream.dead_lettered += ingest.dead_lettered;
        stream.missing += ingest.missing;
        self.transition.changes.head = true;
        self.transition.changes.stream(at);
        Ok(Reply::Ingested(Ingested {
            appended,
            duplicate,
            bucket_hour: self.transition.state.head.open_hour.0,
            position: ingest.last,
        }))
    }

    fn check_stream(&self, ingest: &Ingest<'_>) -> Result<usize, Stop> {
        let state = &self.transition.state;
        let unknown = || Rejection::UnknownStream { stream: ingest.stream.to_owned() };
        let (base, _) = crate::state::stream_epoch(ingest.stream).ok_or_else(unknown)?;
        let latest = state.latest_epoch(base).ok_or_else(unknown)?;
        if latest.name != ingest.stream || latest.created.is_empty() {
            return Err(unknown().into());
        }
        if latest.position + 1 != ingest.first || ingest.last < ingest.first {
            let (stream, position) = (ingest.stream.to_owned(), latest.position);
            return Err(Rejection::Position { stream, position, first: ingest.first }.into());
        }
        if ingest.last > MAX_INTEGER {
            return Err(illegal(format!(
                "sequence {} of stream {} is over 2^53",
                ingest.last, ingest.stream
            )));
        }
        state.stream(ingest.stream).ok_or_else(|| unknown().into())
    }

    pub(super) fn append(
        &mut self,
        view: &impl View,
        append: &Append<'a>,
        now: Millis,
    ) -> Result<Reply, Stop> {
        let items = append.drafts.decode()?;
        if let Some(answer) = repeated(view, &items)? {
            return Ok(Reply::Repeated { answer: answer.to_string() });
        }
        self.close_until(now)?;
        if are_expired(&items, append.source) {
            return self.append_expired(view, items, now);
        }
        let (bucket_hour, first_sequence) =
            (self.transition.state.head.open_hour.0, self.transition.state.head.open_rows + 1);
        self.append_rows(view, append.source, items, now)?;
        Ok(Reply::Appended { bucket_hour, first_sequence })
    }

    /// What is known of the messages of a batch.
    fn known(&self, view: &impl View, items: &[DraftItem<'_>]) -> Result<Vec<Known>, Stop> {
        let ids = message_ids(items).ok_or_else(|| illegal("system rows have no place among CDRs"))?;
        Ok(view.known(&ids, self.transition.state.dedup_since())?)
    }

    /// Originals of messages whose receipt did not come. One that is recorded already is dropped: only rows count in
    /// the source of the system's own.
    fn append_expired(
        &mut self,
        view: &impl View,
        items: Vec<DraftItem<'a>>,
        now: Millis,
    ) -> Result<Reply, Stop> {
        let known = self.known(view, &items)?;
        let mut in_batch = HashSet::with_capacity(items.len());
        let mut ingested = Ingested::default();
        for (item, known) in items.into_iter().zip(known) {
            let id = sms_of(&item.draft).map(|sms| sms.message_id);
            if known != Known::Nothing || !in_batch.insert(id) {
                ingested.duplicate += 1;
                continue;
            }
            ingested.position = self.push_own(item, Source::Internal, now, None)?;
            ingested.appended += 1;
        }
        ingested.bucket_hour = self.transition.state.head.open_hour.0;
        Ok(Reply::Ingested(ingested))
    }

    /// Appends a row of the system's own, behind those of the same source; its number there.
    fn push_own(
        &mut self,
        item: DraftItem<'a>,
        source: Source,
        now: Millis,
        supersedes: Option<Superseded>,
    ) -> Result<u64, Stop> {
        let name = source.as_str();
        let at = self.transition.state.stream(name).ok_or_else(|| illegal("no such source"))?;
        let stream = &mut self.transition.state.streams[at];
        stream.position += 1;
        stream.appended += 1;
        let sequence = stream.position;
        self.transition.changes.stream(at);
        self.push_row(item, name, sequence, now, supersedes)?;
        Ok(sequence)
    }

    pub(super) fn append_rows(
        &mut self,
        view: &impl View,
        source: Source,
        items: Vec<DraftItem<'a>>,
        now: Millis,
    ) -> Result<(), Stop> {
        let mut followed = HashSet::new();
        for item in items {
            let supersedes = match &item.draft.record {
                Record::System(system) if item.draft.operator_id == SYSTEM_OPERATOR => {
                    self.transition.changes.note(system.kind);
                    self.look_up(view, system)?;
                    None
                }
                Record::Sms(sms) if sms.adjustment.is_some() => {
                    Some(follow(view, &item, sms, &mut followed)?)
                }
                _ => return Err(illegal("only adjustments and rows of _system can be appended this way")),
            };
            self.push_own(item, source, now, supersedes)?;
        }
        Ok(())
    }

    /// Loads what a row names into the books.
    fn look_up(&mut self, view: &impl View, system: &System<'_>) -> Result<(), Stop> {
        let books = &mut self.transition.books;
        match named(system) {
            Some(Named::Export(id)) if !books.exports.contains_key(&id) => {
                books.exports.extend(view.export(id)?.map(|export| (id, export)));
            }
            Some(Named::Quarantined(id)) if !books.quarantine.contains_key(&id) => {
                books.quarantine.extend(view.quarantined(id)?.map(|entry| (id, entry)));
            }
            Some(Named::Record { series, cdr_id })
                if books.waits(&series, &cdr_id) || view.waits_in_quarantine(&series, &cdr_id)? =>
            {
                return Err(Rejection::AlreadyQuarantined { cdr_id }.into());
            }
            _ => {}
        }
        Ok(())
    }

    /// Gives a draft its place in the open hour, hashes it and takes it into the state.
    fn push_row(
        &mut self,
        item: DraftItem<'a>,
        source_stream: &'a str,
        source_sequence: u64,
        now: Millis,
        supersedes: Option<Superseded>,
    ) -> Result<(), Stop> {
        if let Record::Sms(sms) = &item.draft.record
            && !sms.event_at.has_local(sms.local_offset_minutes)
        {
            let (at, offset) = (sms.event_at, sms.local_offset_minutes);
            return Err(illegal(format!("the event of {at} has no local time {offset} minutes off UTC")));
        }
        let state = &mut self.transition.state;
        item.draft.allowed_under(state.head.rules)?;
        let at = state
            .partition(item.draft.operator_id)
            .ok_or_else(|| Rejection::UnknownOperator { operator_id: item.draft.operator_id.to_owned() })?;
        let partition = &state.partitions[at];
        let (operator, leaf_index) = (partition.operator, partition.frontier.count());
        let place = Place {
            bucket_hour: state.head.open_hour,
            sequence: state.head.open_rows + 1,
            chain_prev: partition.last_hash,
            recorded_at: now,
            source_stream,
            source_sequence,
        };
        let ordinal = state.head.row_count;
        let row = Row::from_draft(item.draft, place);
        let hash = row_hash(&row, &mut self.scratch);
        let (subtrees, books) = (&mut self.transition.subtrees, &mut self.transition.books);
        state.append(&row, hash, books, |subtree| subtrees.push(subtree))?;
        let partitions = &mut self.transition.changes.partitions;
        if let Err(slot) = partitions.binary_search(&at) {
            partitions.insert(slot, at);
        }
        let draft_bytes = item.bytes;
        self.transition.rows.push(NewRow {
            ordinal,
            operator,
            leaf_index,
            row_hash: hash,
            row,
            draft_bytes,
            supersedes,
        });
        Ok(())
    }
}

/// The answer to a request that was accepted before; none if it is new.
fn repeated(view: &impl View, items: &[DraftItem<'_>]) -> Result<Option<CdrId>, Stop> {
    for item in items {
        let Record::System(system) = &item.draft.record else { continue };
        if system.kind != SystemKind::Audit {
            continue;
        }
        let Some(request) = audit::request_of(system).map_err(illegal)? else { continue };
        match view.request(&request.key)? {
            Some(known) if known.body == request.body => return Ok(Some(known.answer)),
            Some(_) => return Err(Rejection::IdempotencyConflict.into()),
            None => {}
        }
    }
    Ok(None)
}

/// Checks an adjustment against the row that it follows; `followed` are those of the same command.
fn follow(
    view: &impl View,
    item: &DraftItem<'_>,
    sms: &Sms<'_>,
    followed: &mut HashSet<CdrId>,
) -> Result<Superseded, Stop> {
    let Some(adjustment) = &sms.adjustment else { return Err(illegal("it is no adjustment")) };
    let predecessor = view.predecessor(adjustment.of)?;
    let supersedes = adjust::check(&item.draft, sms, adjustment, predecessor.as_ref())?;
    if !followed.insert(adjustment.of) {
        return Err(Rejection::Superseded { cdr_id: adjustment.of.to_string() }.into());
    }
    Ok(supersedes)
}

/// Every sequence of the stretch must be accounted for, and each draft's offset must lie in it, ascending.
fn check_sums(ingest: &Ingest<'_>, items: &[DraftItem<'_>]) -> Result<(), Stop> {
    let span = ingest.last - ingest.first + 1;
    let others = ingest.ignored.checked_add(ingest.dead_lettered).and_then(|n| n.checked_add(ingest.missing));
    if others.and_then(|n| n.checked_add(items.len() as u64)) != Some(span) {
        return Err(illegal(format!("the batch {}..={} does not add up", ingest.first, ingest.last)));
    }
    let ascending = items.windows(2).all(|pair| pair[0].offset < pair[1].offset);
    if !ascending || items.last().is_some_and(|item| u64::from(item.offset) >= span) {
        return Err(illegal("the drafts are not in stream order"));
    }
    Ok(())
}
