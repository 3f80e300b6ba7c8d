//! The fold over rows: open bucket, partitions, streams, operators, keys.
//!
//! Apply, replay and restore share this one path: [`LedgerState::append`] takes each row in, and
//! [`LedgerState::close_hour`] seals. Its size follows operators, streams and keys, never history.

use crate::canonical::{MAX_INTEGER, to_jcs};
use crate::chain;
use crate::command::{ClockKind, OutboxPlace, Rejection, Source};
use crate::export::books::Books;
use crate::export::fold::{Exports, RowPlace};
use crate::hash::{Hash, sha256};
use crate::job::{JobStep, Jobs, Place};
use crate::key::{self, Algorithm, KeyRecord};
use crate::merkle::Frontier;
use crate::row::{Frame, Record, Row, SYSTEM_OPERATOR, System, SystemKind};
use crate::seal::{OperatorSeal, Seal, StreamStatement};
use crate::setting::Settings;
use crate::time::{Hour, Millis};
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

pub use crate::tally::Tally;

/// Everything that the next command needs to know, besides earlier rows.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct LedgerState {
    /// Scalars that change with every command.
    pub head: Head,
    /// Settings; none before initialisation.
    pub cluster: Option<Cluster>,
    /// Operators ever registered, in order of registration; the index never changes.
    pub registry: Arc<Vec<Operator>>,
    /// Operators in force in the open hour, ascending by id.
    pub partitions: Vec<Partition>,
    /// Stream epochs ever known, ascending by name.
    pub streams: Vec<Stream>,
    /// Signing keys ever registered, oldest first.
    pub keys: Arc<Vec<KeyRecord>>,
    /// Bulk jobs.
    pub jobs: Jobs,
    /// Regulator-facing settings.
    pub settings: Settings,
    /// Settlement files.
    pub exports: Exports,
}

/// Scalars that change with every command.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct Head {
    /// Fencing term in force.
    pub fence_term: u64,
    /// Time of the last row or seal.
    pub last_recorded_at: Millis,
    /// Hour that is open.
    pub open_hour: Hour,
    /// Rows of the open hour.
    pub open_rows: u64,
    /// Rows of all hours.
    pub row_count: u64,
    /// National chain of the last sealed hour.
    pub national_chain: Hash,
    /// Hash of the last seal.
    pub prev_seal_hash: Hash,
    /// First hour of the ledger.
    pub first_hour: Hour,
    /// First sealed hour whose seal names a key and has no signature yet, or the open hour.
    pub next_unsigned: Hour,
    /// Up to where events are published.
    pub published: OutboxPlace,
}

/// Settings, fixed for a ledger's life (the generation rises by restore only).
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Cluster {
    /// Name; part of every genesis hash.
    pub cluster_id: String,
    /// Raised by every restore.
    pub generation: u64,
    /// IANA name of the settlement zone.
    pub zone: String,
    /// What drives time.
    pub clock: ClockKind,
    /// How long `messageId` decides what is a duplicate, in hours.
    pub dedup_horizon_hours: u32,
    /// Key of the keyed hashes of client-chosen ids.
    pub hash_key: [u8; 16],
}

/// An operator and what it needs in rows; the body of an `operator` row.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Operator {
    /// First hour in force.
    pub effective_from: Hour,
    /// Its id.
    pub operator_id: String,
    /// TAP recording entity.
    pub recording_entity: String,
}

/// An operator's part of the open hour.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Partition {
    /// The operator.
    pub operator_id: String,
    /// Its index in the registry.
    pub operator: u16,
    /// Root of its hour before.
    pub prev_root: Hash,
    /// Chain of its hour before.
    pub prev_chain: Hash,
    /// What the next row's `chainHashPrev` will be.
    pub last_hash: Hash,
    /// Tree over the open hour's rows.
    pub frontier: Frontier,
    /// Counts and sums of the open hour's rows.
    pub tally: Tally,
}

/// The body of a `stream` row: an inbound stream or a new epoch of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamRecord {
    /// When the bus says the stream was created, RFC 3339 with the precision the bus gives.
    pub created: String,
    /// First sequence of the epoch.
    pub first_sequence: u64,
    /// Why the epoch was opened.
    pub reason: String,
    /// `NAME`, or `NAME#2` for a second epoch.
    pub stream: String,
}

/// Position and counters of a stream epoch.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Stream {
    /// Name of the epoch.
    pub name: String,
    /// When the bus says the stream was created.
    pub created: String,
    /// Last sequence that is accounted for.
    pub position: u64,
    /// SHA-256 of the message at `position`.
    pub digest: Hash,
    /// Position when the open hour began.
    pub hour_start: u64,
    /// Rows of the open hour.
    pub appended: u64,
    /// Known messages of the open hour.
    pub duplicate: u64,
    /// Non-final messages of the open hour.
    pub ignored: u64,
    /// Dead letters of the open hour.
    pub dead_lettered: u64,
    /// Deleted sequences of the open hour.
    pub missing: u64,
}

/// An hour that was just closed.
#[derive(Clone, Debug, PartialEq)]
pub struct ClosedHour {
    /// The seal.
    pub seal: Seal,
    /// Its canonical bytes.
    pub canonical: Vec<u8>,
    /// Its hash.
    pub seal_hash: Hash,
    /// Ordinal of the hour's first row, counted over all hours.
    pub first_ordinal: u64,
    /// Counts and sums of each operator, in the seal's order.
    pub tallies: Vec<Tally>,
}

/// A subtree that a row completed, at a level that is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subtree {
    /// Registry index of the operator.
    pub operator: u16,
    /// Level: 8, 16, …
    pub level: u32,
    /// Index at that level.
    pub index: u64,
    /// Its root.
    pub hash: Hash,
}

/// Levels between cached subtree roots: one root for 256 leaves, one for 65,536, …
pub const SUBTREE_LEVELS: u32 = 8;

impl Stream {
    /// A stream epoch that begins after `position`.
    pub fn new(name: String, created: String, position: u64) -> Self {
        Self {
            name,
            created,
            position,
            digest: [0; 32],
            hour_start: position,
            appended: 0,
            duplicate: 0,
            ignored: 0,
            dead_lettered: 0,
            missing: 0,
        }
    }

    /// What became of every sequence in the open hour.
    pub fn statement(&self) -> StreamStatement {
        StreamStatement {
            appended: self.appended,
            dead_lettered: self.dead_lettered,
            duplicate: self.duplicate,
            first_sequence: self.hour_start + 1,
            ignored: self.ignored,
            last_sequence: self.position,
            missing: self.missing,
            received: self.position - self.hour_start - self.missing,
            stream: self.name.clone(),
        }
    }

    fn next_hour(&mut self) {
        self.hour_start = self.position;
        (self.appended, self.duplicate, self.ignored) = (0, 0, 0);
        (self.dead_lettered, self.missing) = (0, 0);
    }
}

/// Name and number of a stream epoch: `NAME` is 1, `NAME#2` is 2.
pub fn stream_epoch(name: &str) -> Option<(&str, u32)> {
    match name.split_once('#') {
        None => (!name.is_empty()).then_some((name, 1)),
        Some((base, number)) => {
            let epoch = number.parse().ok()?;
            (epoch >= 2 && !base.is_empty() && format!("{base}#{epoch}") == name).then_some((base, epoch))
        }
    }
}

/// Hours by which duplicates are recognised for longer than the horizon: one for events ahead of the clock, one for
/// batches that cross the end of an hour.
const DEDUP_SPARE_HOURS: u32 = 2;

impl LedgerState {
    /// A ledger that begins in `first_hour`, with the system's own partition in force.
    pub fn begin(cluster: Cluster, fence_term: u64, now: Millis) -> Self {
        let first_hour = now.hour();
        let genesis = chain::national_genesis(&cluster.cluster_id);
        let mut state = Self {
            head: Head {
                fence_term,
                last_recorded_at: now,
                open_hour: first_hour,
                first_hour,
                next_unsigned: first_hour,
                national_chain: genesis,
                prev_seal_hash: genesis,
                ..Head::default()
            },
            cluster: Some(cluster),
            streams: [Source::Api, Source::Internal]
                .map(|source| Stream::new(source.as_str().to_owned(), String::new(), 0))
                .into(),
            ..Self::default()
        };
        state.register(Operator {
            effective_from: first_hour,
            operator_id: SYSTEM_OPERATOR.to_owned(),
            recording_entity: String::new(),
        });
        state
    }

    /// First bucket in which a message's earlier record makes it a duplicate, while the open hour is open.
    ///
    /// A receipt is taken in unless its event is older than the horizon or more than an hour ahead of the clock. So a
    /// message that was recorded up to one hour less the horizon ago may come again; and while its batch is on the way
    /// into the log, the hour may end. Hence two hours to spare.
    pub fn dedup_since(&self) -> Hour {
        let horizon = self.cluster.as_ref().map_or(0, |cluster| cluster.dedup_horizon_hours);
        Hour(self.head.open_hour.0.saturating_sub(horizon).saturating_sub(DEDUP_SPARE_HOURS))
    }

    /// SHA-256 over the whole state: equal on replicas that applied the same entries.
    ///
    /// # Errors
    /// [`crate::codec::CodecError`].
    pub fn digest(&self) -> Result<Hash, crate::codec::CodecError> {
        crate::codec::encode("ledger state", self).map(|bytes| sha256(&bytes))
    }

    /// Position of an operator among those in force.
    pub fn partition(&self, operator_id: &str) -> Option<usize> {
        self.partitions.binary_search_by(|p| p.operator_id.as_str().cmp(operator_id)).ok()
    }

    /// Position of a stream epoch.
    pub fn stream(&self, name: &str) -> Option<usize> {
        self.streams.binary_search_by(|s| s.name.as_str().cmp(name)).ok()
    }

    /// The latest epoch of an inbound stream.
    pub fn latest_epoch(&self, base: &str) -> Option<&Stream> {
        self.streams
            .iter()
            .filter_map(|s| stream_epoch(&s.name).filter(|(name, _)| *name == base).map(|(_, n)| (n, s)))
            .max_by_key(|(n, _)| *n)
            .map(|(_, s)| s)
    }

    /// The registered signing key of this name.
    pub fn key(&self, key_id: &str) -> Option<&KeyRecord> {
        self.keys.iter().find(|key| key.key_id == key_id)
    }

    /// The key that signs the seal of `hour`: the one that began last among those that cover it.
    pub fn signing_key(&self, hour: Hour) -> Option<&KeyRecord> {
        key::signing_key(&self.keys, hour)
    }

    /// Moves on to `hour` as the next to be signed, or to the first after it whose seal names a key. The keys of
    /// a sealed hour never change, so that nothing has to be remembered of its seal.
    pub(crate) fn unsigned_from(&mut self, mut hour: Hour) {
        while hour < self.head.open_hour && self.signing_key(hour).is_none() {
            hour = hour.next();
        }
        self.head.next_unsigned = hour;
    }

    /// Takes a row in that belongs next: chain, tree, counters, and what a system row means. `books` hold what
    /// [`crate::export::books::named`] says that it names, and afterwards what became of it. Reports the cached subtrees
    /// that it completes.
    ///
    /// # Errors
    /// [`Rejection`] if the row does not belong here; the state is then unchanged.
    pub fn append(
        &mut self,
        row: &Row<'_>,
        row_hash: Hash,
        books: &mut Books,
        mut completed: impl FnMut(Subtree),
    ) -> Result<(), Rejection> {
        let operator_id = row.frame.operator_id;
        let unknown = || Rejection::UnknownOperator { operator_id: operator_id.to_owned() };
        let is_system = matches!(row.record, Record::System(_));
        if self.partition(operator_id).is_none() || is_system != (operator_id == SYSTEM_OPERATOR) {
            return Err(unknown());
        }
        if let Record::System(system) = &row.record {
            self.fold_system(&row.frame, system, books)?;
        }
        // Looked up after the fold: an operator row of the first hour moves the partitions.
        let index = self.partition(operator_id).ok_or_else(unknown)?;
        let partition = &mut self.partitions[index];
        let operator = partition.operator;
        partition.frontier.push_with(row_hash, |level, index, hash| {
            if level % SUBTREE_LEVELS == 0 {
                completed(Subtree { operator, level, index, hash: *hash });
            }
        });
        partition.last_hash = row_hash;
        if let Record::Sms(sms) = &row.record {
            partition.tally.add(sms);
        }
        self.head.open_rows += 1;
        self.head.row_count += 1;
        self.head.last_recorded_at = row.frame.recorded_at;
        Ok(())
    }

    /// Seals the open hour at `sealed_at` and opens the next one.
    ///
    /// # Errors
    /// [`Rejection::Illegal`] if there is no ledger or the seal can't be written.
    pub fn close_hour(&mut self, sealed_at: Millis) -> Result<ClosedHour, Rejection> {
        let Some(cluster) = &self.cluster else { return Err(Rejection::NotInitialized) };
        let hour = self.head.open_hour;
        let empty = chain::empty_root(hour);
        let operators: Vec<OperatorSeal> = self.partitions.iter().map(|p| p.seal(&empty)).collect();
        let leaves: Vec<Hash> =
            operators.iter().map(|o| chain::national_leaf(&o.operator_id, &o.chain_hash)).collect();
        let bucket_root = crate::merkle::root(&leaves).unwrap_or(empty);
        let seal = Seal {
            format_version: 1,
            cluster_id: cluster.cluster_id.clone(),
            generation: cluster.generation,
            clock: cluster.clock,
            bucket_hour: hour,
            record_count: self.head.open_rows,
            bucket_root,
            chain_hash: chain::next_chain(&self.head.national_chain, &bucket_root),
            prev_chain_hash: self.head.national_chain,
            prev_seal_hash: self.head.prev_seal_hash,
            sealed_at,
            signer_key_id: self.signing_key(hour).map(|key| key.key_id.clone()),
            operators,
            completeness: self.streams.iter().map(Stream::statement).collect(),
        };
        let canonical = seal.canonical().map_err(|why| Rejection::Illegal { why })?;
        let closed = ClosedHour {
            seal_hash: sha256(&canonical),
            first_ordinal: self.head.row_count - self.head.open_rows,
            tallies: self.partitions.iter().map(|p| p.tally).collect(),
            canonical,
            seal,
        };
        self.open_next_hour(&closed, sealed_at);
        Ok(closed)
    }

    fn open_next_hour(&mut self, closed: &ClosedHour, sealed_at: Millis) {
        for (partition, sealed) in self.partitions.iter_mut().zip(&closed.seal.operators) {
            partition.prev_root = sealed.bucket_root;
            partition.prev_chain = sealed.chain_hash;
            partition.last_hash = sealed.bucket_root;
            partition.frontier = Frontier::default();
            partition.tally = Tally::default();
        }
        self.streams.iter_mut().for_each(Stream::next_hour);
        self.head.national_chain = closed.seal.chain_hash;
        self.head.prev_seal_hash = closed.seal_hash;
        self.head.last_recorded_at = sealed_at;
        self.head.open_hour = closed.seal.bucket_hour.next();
        self.head.open_rows = 0;
        self.unsigned_from(self.head.next_unsigned);
        let joining: Vec<usize> = (0..self.registry.len())
            .filter(|&i| self.registry[i].effective_from == self.head.open_hour)
            .collect();
        for i in joining {
            self.enter(i);
        }
    }

    /// Puts an operator into the registry, and into force if its hour is open.
    fn register(&mut self, operator: Operator) {
        let in_force = operator.effective_from == self.head.open_hour;
        Arc::make_mut(&mut self.registry).push(operator);
        if in_force {
            self.enter(self.registry.len() - 1);
        }
    }

    fn enter(&mut self, index: usize) {
        let operator_id = self.registry[index].operator_id.clone();
        let Err(at) = self.partitions.binary_search_by(|p| p.operator_id.cmp(&operator_id)) else { return };
        let cluster_id = self.cluster.as_ref().map_or("", |c| c.cluster_id.as_str());
        let genesis = chain::operator_genesis(cluster_id, &operator_id);
        self.partitions.insert(
            at,
            Partition {
                operator_id,
                operator: index as u16,
                prev_root: genesis,
                prev_chain: genesis,
                last_hash: genesis,
                frontier: Frontier::default(),
                tally: Tally::default(),
            },
        );
    }

    fn fold_system(
        &mut self,
        frame: &Frame<'_>,
        system: &System<'_>,
        books: &mut Books,
    ) -> Result<(), Rejection> {
        let place =
            RowPlace { id: frame.cdr_id, ordinal: self.head.row_count, recorded_at: frame.recorded_at };
        let (kind, body) = (system.kind, system.body);
        // The body enters the row's canonical bytes as it is.
        let value: Map<String, Value> = read_body(body)?;
        if to_jcs(&value).as_deref() != Ok(body.as_bytes()) {
            return Err(Rejection::Illegal {
                why: format!("the body of a {} row is not in RFC 8785 form", kind.as_str()),
            });
        }
        match kind {
            SystemKind::Operator => self.fold_operator(read_body(body)?),
            SystemKind::Key => self.fold_key(read_body(body)?),
            SystemKind::Stream => self.fold_stream(read_body(body)?),
            // A body without a key or a step means nothing to the state.
            SystemKind::Config if value.contains_key("configKey") => self.settings.fold(read_body(body)?),
            SystemKind::Job if value.contains_key("step") => self.fold_job(frame, read_body(body)?),
            SystemKind::Export if value.contains_key("step") => {
                books.export(&mut self.exports, place, read_body(body)?)
            }
            SystemKind::Delivery if value.contains_key("step") => {
                books.delivery(&mut self.exports, place, read_body(body)?)
            }
            SystemKind::Quarantine if value.contains_key("step") => books.quarantine(place, read_body(body)?),
            SystemKind::Audit => crate::audit::request_of(body)
                .map(|_| ())
                .map_err(|why| Rejection::Illegal { why: format!("audit row: {why}") }),
            _ => Ok(()),
        }
    }

    fn fold_operator(&mut self, operator: Operator) -> Result<(), Rejection> {
        // The first hour's registry is part of its beginning; everyone else joins with an hour of notice.
        let beginning = self.head.open_hour == self.head.first_hour && !self.has_traffic();
        let from = operator.effective_from;
        let legal = crate::id::is_name(&operator.operator_id)
            && !operator.operator_id.starts_with('_')
            && self.registry.len() < usize::from(u16::MAX)
            && (from == self.head.open_hour.next() || beginning && from == self.head.open_hour)
            && self.registry.iter().all(|known| known.operator_id != operator.operator_id);
        if !legal {
            let why = format!(
                "operator {} can't join from {from}: it needs a new name of [A-Za-z0-9_-]{{1,16}} and the next hour",
                operator.operator_id
            );
            return Err(Rejection::Illegal { why });
        }
        self.register(operator);
        Ok(())
    }

    /// True once a row of any operator but the system's own is in the ledger.
    fn has_traffic(&self) -> bool {
        self.partitions.iter().any(|p| p.operator_id != SYSTEM_OPERATOR && p.frontier.count() > 0)
    }

    fn fold_key(&mut self, key: KeyRecord) -> Result<(), Rejection> {
        let cluster = self.cluster.as_ref().map_or("", |c| c.cluster_id.as_str());
        let known = self.key(&key.key_id).is_some();
        // The key of a sealed hour never changes: its seal names it.
        let covers_sealed =
            key.from_hour < self.head.open_hour && self.head.open_hour != self.head.first_hour;
        if known || covers_sealed || key.cluster_id != cluster || key.public_key().is_none() {
            let why = format!(
                "key {} is known already, covers sealed hours, is of another cluster, or no key of {}",
                key.key_id,
                Algorithm::ALL.map(Algorithm::as_str).join(" or ")
            );
            return Err(Rejection::Illegal { why });
        }
        Arc::make_mut(&mut self.keys).push(key);
        Ok(())
    }

    fn fold_job(&mut self, frame: &Frame<'_>, step: JobStep) -> Result<(), Rejection> {
        let at = Place { bucket_hour: frame.bucket_hour, cdr_sequence: frame.sequence };
        self.jobs.fold(frame.cdr_id, at, frame.recorded_at, step)
    }

    fn fold_stream(&mut self, record: StreamRecord) -> Result<(), Rejection> {
        let illegal = |why: &str| Rejection::Illegal { why: format!("stream {}: {why}", record.stream) };
        let (base, epoch) = stream_epoch(&record.stream).ok_or_else(|| illegal("no name of an epoch"))?;
        if [Source::Api, Source::Internal].iter().any(|own| own.as_str() == base) || record.created.is_empty()
        {
            return Err(illegal("the name is the system's own, or the creation time is missing"));
        }
        let latest = self.latest_epoch(base).and_then(|s| stream_epoch(&s.name)).map_or(0, |(_, n)| n);
        let at = match self.streams.binary_search_by(|s| s.name.cmp(&record.stream)) {
            Err(at) if epoch == latest + 1 && (1..=MAX_INTEGER).contains(&record.first_sequence) => at,
            _ => return Err(illegal("its epoch is not the next one, or its first sequence not in 1..2^53")),
        };
        self.streams.insert(at, Stream::new(record.stream, record.created, record.first_sequence - 1));
        Ok(())
    }
}

impl Partition {
    fn seal(&self, empty: &Hash) -> OperatorSeal {
        let bucket_root = self.frontier.root().unwrap_or(*empty);
        OperatorSeal {
            operator_id: self.operator_id.clone(),
            record_count: self.frontier.count(),
            bucket_root,
            chain_hash: chain::next_chain(&self.prev_chain, &bucket_root),
            prev_bucket_root: self.prev_root,
            prev_chain_hash: self.prev_chain,
        }
    }
}

fn read_body<'a, T: Deserialize<'a>>(body: &'a str) -> Result<T, Rejection> {
    serde_json::from_str(body).map_err(|e| Rejection::Illegal { why: format!("body: {e}") })
}
