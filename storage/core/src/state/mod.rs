//! The fold over rows: open bucket, partitions, streams, operators, keys.
//!
//! Apply, replay and restore share this one path: [`LedgerState::append`] applies each row, and
//! [`LedgerState::close_hour`] seals. Its size follows operators, streams and keys, never history.

mod fold;
mod stream;

pub use crate::tally::Tally;
pub use stream::{Stream, StreamRecord, stream_epoch};

use crate::chain;
use crate::command::{Acknowledged, ClockKind, OutboxPlace, Rejection, Source};
use crate::export::books::Books;
use crate::export::fold::Exports;
use crate::hash::{Hash, sha256};
use crate::history::Mark;
use crate::job::Jobs;
use crate::key::{self, KeyRecord};
use crate::merkle::Frontier;
use crate::row::{Record, Row, SYSTEM_OPERATOR};
use crate::rules::Rules;
use crate::seal::{FORMAT_VERSION, OperatorSeal, Seal};
use crate::setting::Settings;
use crate::time::{Hour, Millis};
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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
    /// The last fences, each with the history after it: where leaders began.
    pub fences: Arc<Vec<Mark>>,
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
    /// The last command, and the history after it.
    pub applied: Mark,
    /// How far each voter has acknowledged committed entries, ascending by node: a replica whose log ends before that
    /// has lost what it promised to keep.
    pub acknowledged: Vec<Acknowledged>,
    /// Rules in force.
    pub rules: Rules,
}

impl Head {
    /// Adds what a leader knows of its voters. Nothing is ever taken back.
    pub(crate) fn acknowledge(&mut self, voters: &[Acknowledged]) {
        for voter in voters {
            match self.acknowledged.binary_search_by_key(&voter.node, |known| known.node) {
                Ok(at) => self.acknowledged[at].index = self.acknowledged[at].index.max(voter.index),
                Err(at) => self.acknowledged.insert(at, *voter),
            }
        }
    }
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
    /// A DLR is accepted unless its event is older than the horizon or more than an hour ahead of the clock. So a
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

    /// Applies the row that comes next: chain, tree, counters, and what a system row means. `books` hold what
    /// [`crate::export::books::named`] names for it, and afterwards what became of it. Reports the cached subtrees
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
            format_version: FORMAT_VERSION,
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
