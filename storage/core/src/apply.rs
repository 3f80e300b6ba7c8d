//! The one decision function: what follows from a command.
//!
//! [`apply`] reads the state, asks the view what it can't know itself, and returns what is to be written.
//! It changes nothing. Whoever calls it writes the [`Transition`] in one atomic step.

use crate::adjust::{self, Predecessor, Superseded};
use crate::audit::{self, Request};
use crate::canonical::{MAX_INTEGER, row_hash};
use crate::command::{
    Append, Command, DraftItem, Envelope, Ingest, Ingested, Initialize, MOST_BILLS, OutboxPlace, Reconcile,
    Rejection, Reply, SignSeal, Source,
};
use crate::export::Export;
use crate::export::books::{Books, Named, named};
use crate::export::quarantine::Quarantined;
use crate::hash::Hash;
use crate::id::{CdrId, Uuid};
use crate::receipt::{Fate, Known, are_expired, fate, message_ids, sms_of};
use crate::row::{Place, Record, Row, SYSTEM_OPERATOR, Sms, System, SystemKind};
use crate::seal::verify_signature;
use crate::state::{ClosedHour, Cluster, LedgerState, Subtree};
use crate::time::{Hour, Millis};
use std::collections::HashSet;

/// The most hours that one command may seal: longer outages need a look at the clock first.
pub const MAX_HOURS_AT_ONCE: u32 = 24 * 400;

/// What `apply` has to know of earlier rows.
pub trait View {
    /// For every id: what is known of that message, if there is an original CDR (no adjustment) of it in a bucket of
    /// `since` or later? The answer is exact: replicas must decide alike.
    ///
    /// # Errors
    /// If the rows can't be read; nothing is decided then.
    fn known(&self, ids: &[Uuid], since: Hour) -> Result<Vec<Known>, ViewError>;

    /// Hash of the seal of `hour`, if that hour is sealed.
    ///
    /// # Errors
    /// If the seal can't be read.
    fn seal_hash(&self, hour: Hour) -> Result<Option<Hash>, ViewError>;

    /// What an adjustment needs to know of the CDR or adjustment with this id, if there is one.
    ///
    /// # Errors
    /// If the rows can't be read.
    fn predecessor(&self, id: CdrId) -> Result<Option<Predecessor>, ViewError>;

    /// The request that was taken in under `key`, if any was.
    ///
    /// # Errors
    /// If it can't be read.
    fn request(&self, key: &Hash) -> Result<Option<Request>, ViewError>;

    /// The settlement file with this id, if there is one.
    ///
    /// # Errors
    /// If it can't be read.
    fn export(&self, id: CdrId) -> Result<Option<Export>, ViewError>;

    /// The quarantine entry with this id, if there is one.
    ///
    /// # Errors
    /// If it can't be read.
    fn quarantined(&self, id: CdrId) -> Result<Option<Quarantined>, ViewError>;

    /// True if the record waits in the series' quarantine.
    ///
    /// # Errors
    /// If that can't be read.
    fn waits_in_quarantine(&self, series: &str, cdr_id: &str) -> Result<bool, ViewError>;
}

/// Earlier rows could not be read, or the entry itself is damaged: the node must stop serving.
#[derive(Debug, thiserror::Error)]
#[error("earlier rows can't be read: {0}")]
pub struct ViewError(pub String);

/// A row that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRow<'a> {
    /// Number of the row over all hours, from 0.
    pub ordinal: u64,
    /// Registry index of its operator.
    pub operator: u16,
    /// Its position among the operator's rows of the hour, from 0.
    pub leaf_index: u64,
    /// Its hash.
    pub row_hash: Hash,
    /// The row.
    pub row: Row<'a>,
    /// The draft's encoding, to be stored as it is.
    pub draft_bytes: &'a [u8],
    /// What an adjustment takes the place of.
    pub supersedes: Option<Superseded>,
}

/// What follows from a command; written in one atomic step.
#[derive(Clone, Debug)]
pub struct Transition<'a> {
    /// The state afterwards.
    pub state: LedgerState,
    /// What of the state changed.
    pub changes: Changes,
    /// Hours that were closed, before any row was appended.
    pub closed: Vec<ClosedHour>,
    /// Rows that were appended, all in the state's open hour.
    pub rows: Vec<NewRow<'a>>,
    /// Cached subtrees that the rows completed.
    pub subtrees: Vec<Subtree>,
    /// Settlement files and quarantine entries that rows changed.
    pub books: Books,
    /// A signature to be stored beside the seal of an hour.
    pub signature: Option<SignSeal>,
    /// Billing's events, to be held against the records.
    pub reconcile: Option<Reconcile<'a>>,
    /// The answer.
    pub reply: Reply,
}

/// Which parts of the state a transition changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Everything: settings, registry, keys, every partition and stream.
    pub all: bool,
    /// The head alone, or with the partitions and streams below.
    pub head: bool,
    /// Positions of changed partitions, ascending.
    pub partitions: Vec<usize>,
    /// Positions of changed streams.
    pub streams: Vec<usize>,
    /// Jobs.
    pub jobs: bool,
    /// Settings.
    pub settings: bool,
    /// How far settlement files are.
    pub exports: bool,
}

impl Changes {
    /// What a system row of this kind can change beyond its partition.
    fn note(&mut self, kind: SystemKind) {
        match kind {
            SystemKind::Operator | SystemKind::Key | SystemKind::Stream => self.all = true,
            SystemKind::Job => self.jobs = true,
            SystemKind::Config => self.settings = true,
            SystemKind::Export | SystemKind::Delivery => self.exports = true,
            _ => {}
        }
    }

    fn stream(&mut self, at: usize) {
        if !self.streams.contains(&at) {
            self.streams.push(at);
        }
    }
}

/// What follows from `envelope`. A refused command leaves everything as it is and answers
/// [`Reply::Rejected`].
///
/// # Errors
/// [`ViewError`] if earlier rows can't be read or the entry is damaged: the caller must stop, because its
/// replica can no longer follow the others.
pub fn apply<'a>(
    state: &LedgerState,
    view: &impl View,
    envelope: &Envelope<'a>,
) -> Result<Transition<'a>, ViewError> {
    let mut step = Step::new(state);
    match step.run(view, envelope) {
        Ok(reply) => {
            step.transition.reply = reply;
            Ok(step.transition)
        }
        Err(Stop::Rejected(rejection)) => {
            let mut unchanged = Step::new(state).transition;
            unchanged.reply = Reply::Rejected(rejection);
            Ok(unchanged)
        }
        Err(Stop::View(error)) => Err(error),
    }
}

/// Why a step ends early.
enum Stop {
    Rejected(Rejection),
    View(ViewError),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<ViewError> for Stop {
    fn from(error: ViewError) -> Self {
        Self::View(error)
    }
}

impl From<crate::codec::CodecError> for Stop {
    fn from(error: crate::codec::CodecError) -> Self {
        Self::View(ViewError(error.to_string()))
    }
}

fn illegal(why: impl Into<String>) -> Stop {
    Stop::Rejected(Rejection::Illegal { why: why.into() })
}

/// A transition in the making.
struct Step<'a> {
    transition: Transition<'a>,
    scratch: Vec<u8>,
}

impl<'a> Step<'a> {
    fn new(state: &LedgerState) -> Self {
        Self {
            transition: Transition {
                state: state.clone(),
                changes: Changes::default(),
                closed: Vec::new(),
                rows: Vec::new(),
                subtrees: Vec::new(),
                books: Books::default(),
                signature: None,
                reconcile: None,
                reply: Reply::None,
            },
            scratch: Vec::new(),
        }
    }

    fn run(&mut self, view: &impl View, envelope: &Envelope<'a>) -> Result<Reply, Stop> {
        if envelope.command == Command::Fence {
            return self.fence(envelope.term);
        }
        let fence = self.transition.state.head.fence_term;
        if envelope.term != fence {
            return Err(Rejection::Fenced { term: envelope.term, fence }.into());
        }
        if let Command::Initialize(initialize) = &envelope.command {
            return self.initialize(view, initialize, envelope.now);
        }
        if self.transition.state.cluster.is_none() {
            return Err(Rejection::NotInitialized.into());
        }
        let now = self.transition.state.head.last_recorded_at.max(envelope.now);
        match &envelope.command {
            Command::Ingest(ingest) => self.ingest(view, ingest, now),
            Command::Append(append) => self.append(view, append, now),
            Command::Published(place) => Ok(self.published(*place)),
            Command::Seal => Ok(Reply::Sealed { hours: self.close_until(now)? }),
            Command::SignSeal(sign) => self.sign(view, sign),
            Command::Reconcile(reconcile) => self.reconcile(reconcile),
            Command::Fence | Command::Initialize(_) => Err(illegal("handled above")),
        }
    }

    fn fence(&mut self, term: u64) -> Result<Reply, Stop> {
        let head = &mut self.transition.state.head;
        if term < head.fence_term {
            return Err(Rejection::Fenced { term, fence: head.fence_term }.into());
        }
        head.fence_term = term;
        self.transition.changes.head = true;
        Ok(Reply::Fenced { term })
    }

    fn initialize(
        &mut self,
        view: &impl View,
        initialize: &Initialize<'a>,
        now: Millis,
    ) -> Result<Reply, Stop> {
        if let Some(cluster) = &self.transition.state.cluster {
            return Err(Rejection::AlreadyInitialized { cluster_id: cluster.cluster_id.clone() }.into());
        }
        if !crate::id::is_name(initialize.cluster_id) {
            return Err(illegal("the cluster's name must match [A-Za-z0-9_-]{1,16}"));
        }
        let cluster = Cluster {
            cluster_id: initialize.cluster_id.to_owned(),
            generation: 1,
            zone: initialize.zone.to_owned(),
            clock: initialize.clock,
            dedup_horizon_hours: initialize.dedup_horizon_hours,
            hash_key: initialize.hash_key,
        };
        self.transition.state = LedgerState::begin(cluster, self.transition.state.head.fence_term, now);
        self.transition.changes.all = true;
        self.append_rows(view, Source::Internal, initialize.rows.decode()?, now)?;
        Ok(Reply::Initialized)
    }

    /// Closes every hour that ended at or before `now`; returns how many.
    fn close_until(&mut self, now: Millis) -> Result<u32, Stop> {
        let state = &mut self.transition.state;
        let (open, target) = (state.head.open_hour, now.hour());
        let hours = target.0.saturating_sub(open.0);
        if hours > MAX_HOURS_AT_ONCE {
            let (open, now) = (open.to_string(), target.to_string());
            return Err(Rejection::ClockJump { open, now, limit: MAX_HOURS_AT_ONCE }.into());
        }
        for _ in 0..hours {
            let closed = state.close_hour(now)?;
            self.transition.closed.push(closed);
            self.transition.changes.all = true;
        }
        Ok(hours)
    }

    fn ingest(&mut self, view: &impl View, ingest: &Ingest<'a>, now: Millis) -> Result<Reply, Stop> {
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

    fn append(&mut self, view: &impl View, append: &Append<'a>, now: Millis) -> Result<Reply, Stop> {
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

    fn append_rows(
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

    /// Brings what a row names into the books.
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

    /// What follows from billing's events concerns no row: whoever keeps the rows counts it.
    fn reconcile(&mut self, reconcile: &Reconcile<'a>) -> Result<Reply, Stop> {
        if reconcile.bills.len().max(reconcile.look_again.len()) > MOST_BILLS {
            return Err(illegal(format!("more than {MOST_BILLS} events of billing at once")));
        }
        for bill in &reconcile.bills {
            let operator_id = bill.operator_id;
            let registry = &self.transition.state.registry;
            if operator_id == SYSTEM_OPERATOR || registry.iter().all(|known| known.operator_id != operator_id)
            {
                return Err(Rejection::UnknownOperator { operator_id: operator_id.to_owned() }.into());
            }
            if bill.currency.len() != 3 || !bill.currency.bytes().all(|b| b.is_ascii_uppercase()) {
                return Err(illegal("a currency is three capital letters"));
            }
        }
        self.transition.reconcile = Some(reconcile.clone());
        Ok(Reply::Reconciled)
    }

    fn published(&mut self, place: OutboxPlace) -> Reply {
        let head = &mut self.transition.state.head;
        if place > head.published {
            head.published = place;
            self.transition.changes.head = true;
        }
        Reply::Published
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

    fn sign(&mut self, view: &impl View, sign: &SignSeal) -> Result<Reply, Stop> {
        let state = &mut self.transition.state;
        let refuse = |why: &str| Rejection::Signature { hour: sign.hour.to_string(), why: why.to_owned() };
        if sign.hour < state.head.next_unsigned {
            return Ok(Reply::Signed);
        }
        if sign.hour != state.head.next_unsigned || sign.hour >= state.head.open_hour {
            return Err(refuse("signatures are attached in order, to sealed hours").into());
        }
        let seal_hash = view.seal_hash(sign.hour)?.ok_or_else(|| refuse("there is no seal"))?;
        let key = state.signing_key(sign.hour).ok_or_else(|| refuse("no key covers the hour"))?;
        let public_key = key.public_key().ok_or_else(|| refuse("the key can't be used"))?;
        if !verify_signature(&seal_hash, &sign.signature, &public_key) {
            return Err(refuse("it is not by the key that the seal names").into());
        }
        state.unsigned_from(sign.hour.next());
        self.transition.changes.head = true;
        self.transition.signature = Some(sign.clone());
        Ok(Reply::Signed)
    }
}

/// The answer to a request that was taken in before; none if it is new.
fn repeated(view: &impl View, items: &[DraftItem<'_>]) -> Result<Option<CdrId>, Stop> {
    for item in items {
        let Record::System(system) = &item.draft.record else { continue };
        if system.kind != SystemKind::Audit {
            continue;
        }
        let Some(request) = audit::request_of(system.body).map_err(illegal)? else { continue };
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
