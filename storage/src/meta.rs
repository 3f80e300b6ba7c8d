//! The ledger state in column family `meta`, in pieces that are written only when they change.

use crate::error::{StoreError, database};
use crate::keys::{
    self, CF_META, META_CLUSTER, META_EXPORTS, META_FENCES, META_HEAD, META_KEYS, META_RAFT, META_REGISTRY,
    META_SETTINGS,
};
use crate::keys::{TAG_JOB, TAG_PARTITION, TAG_STREAM};
use crate::schema::{Db, column};
use cdr_core::LedgerState;
use cdr_core::apply::Changes;
use cdr_core::codec;
use cdr_core::job::{Job, Jobs};
use cdr_core::state::{Partition, Stream};
use rocksdb::{ColumnFamily, Direction, IteratorMode, WriteBatch};
use std::collections::BTreeSet;

/// What damage to the pieces of the state is called.
const STATE: &str = "the ledger state";

/// Pieces of the state that a write has to contain.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    all: bool,
    head: bool,
    partitions: BTreeSet<usize>,
    streams: BTreeSet<usize>,
    jobs: bool,
    settings: bool,
    exports: bool,
    fences: bool,
}

impl Dirty {
    pub fn add(&mut self, changes: &Changes) {
        self.all |= changes.all;
        self.head |= changes.head || !changes.partitions.is_empty() || !changes.streams.is_empty();
        self.partitions.extend(&changes.partitions);
        self.streams.extend(&changes.streams);
        self.jobs |= changes.jobs;
        self.settings |= changes.settings;
        self.exports |= changes.exports;
        self.fences |= changes.fences;
    }

    /// Puts the changed pieces of `state` into the batch and forgets them. `stored` is what the database has.
    pub fn write(
        &mut self,
        db: &Db,
        stored: &LedgerState,
        state: &LedgerState,
        batch: &mut WriteBatch,
    ) -> Result<(), StoreError> {
        let dirty = std::mem::take(self);
        let mut pieces = Pieces { meta: column(db, CF_META)?, batch };
        if dirty.settings {
            pieces.put(META_SETTINGS, "settings", &state.settings)?;
        }
        if dirty.exports {
            pieces.put(META_EXPORTS, "settlement files", &state.exports)?;
        }
        if dirty.fences {
            pieces.put(META_FENCES, "fences", &state.fences)?;
        }
        if dirty.jobs {
            pieces.jobs(&stored.jobs, &state.jobs)?;
        }
        if dirty.all {
            return pieces.put_all(state);
        }
        if dirty.head {
            pieces.put(META_HEAD, "state head", &state.head)?;
        }
        // Positions are those of the last state: an operator that joins marks everything as changed.
        dirty
            .partitions
            .iter()
            .filter_map(|at| state.partitions.get(*at))
            .try_for_each(|p| pieces.partition(p))?;
        dirty.streams.iter().filter_map(|at| state.streams.get(*at)).try_for_each(|s| pieces.stream(s))
    }
}

struct Pieces<'a> {
    meta: &'a ColumnFamily,
    batch: &'a mut WriteBatch,
}

impl Pieces<'_> {
    fn put<T: bincode::Encode>(
        &mut self,
        key: &[u8],
        what: &'static str,
        value: &T,
    ) -> Result<(), StoreError> {
        self.batch.put_cf(self.meta, key, codec::encode(what, value)?);
        Ok(())
    }

    fn partition(&mut self, partition: &Partition) -> Result<(), StoreError> {
        self.put(&keys::partition(partition.operator), "open partition", partition)
    }

    fn stream(&mut self, stream: &Stream) -> Result<(), StoreError> {
        self.put(&keys::stream(&stream.name), "stream", stream)
    }

    /// Jobs that are new, have moved on, or are no longer kept.
    fn jobs(&mut self, stored: &Jobs, jobs: &Jobs) -> Result<(), StoreError> {
        let key = |place: cdr_core::job::Place| keys::job(place.bucket_hour, place.cdr_sequence);
        for job in stored.iter().filter(|job| jobs.get(job.id).is_none()) {
            self.batch.delete_cf(self.meta, key(job.asked_at));
        }
        for job in jobs.iter().filter(|job| stored.get(job.id) != Some(job)) {
            self.put(&key(job.asked_at), "job", job)?;
        }
        Ok(())
    }

    fn put_all(&mut self, state: &LedgerState) -> Result<(), StoreError> {
        self.put(META_HEAD, "state head", &state.head)?;
        self.put(META_CLUSTER, "cluster settings", &state.cluster)?;
        self.put(META_REGISTRY, "operator registry", &state.registry)?;
        self.put(META_KEYS, "signing keys", &state.keys)?;
        state.partitions.iter().try_for_each(|partition| self.partition(partition))?;
        state.streams.iter().try_for_each(|stream| self.stream(stream))
    }
}

/// The metadata of the Raft layer.
pub(crate) fn read_raft_meta(db: &Db) -> Result<Option<Vec<u8>>, StoreError> {
    db.get_cf(column(db, CF_META)?, META_RAFT).map_err(database("reading the Raft metadata"))
}

/// The state as of the last write.
pub(crate) fn read_state(db: &Db) -> Result<LedgerState, StoreError> {
    let meta = column(db, CF_META)?;
    let mut partitions: Vec<Partition> = read_tagged(db, meta, TAG_PARTITION)?;
    partitions.sort_by(|a, b| a.operator_id.cmp(&b.operator_id));
    Ok(LedgerState {
        head: read(db, meta, META_HEAD)?.unwrap_or_default(),
        cluster: read(db, meta, META_CLUSTER)?.unwrap_or_default(),
        registry: read(db, meta, META_REGISTRY)?.unwrap_or_default(),
        partitions,
        // Keys are the names, so these ascend as they must.
        streams: read_tagged(db, meta, TAG_STREAM)?,
        keys: read(db, meta, META_KEYS)?.unwrap_or_default(),
        settings: read(db, meta, META_SETTINGS)?.unwrap_or_default(),
        exports: read(db, meta, META_EXPORTS)?.unwrap_or_default(),
        fences: read(db, meta, META_FENCES)?.unwrap_or_default(),
        jobs: read_tagged::<Job>(db, meta, TAG_JOB)?.into_iter().collect(),
    })
}

fn read<T: bincode::Decode<()>>(db: &Db, meta: &ColumnFamily, key: &[u8]) -> Result<Option<T>, StoreError> {
    let value = db.get_cf(meta, key).map_err(database("reading the ledger state"))?;
    value.map(|bytes| decode(STATE, &bytes)).transpose()
}

fn read_tagged<T: bincode::Decode<()>>(db: &Db, meta: &ColumnFamily, tag: u8) -> Result<Vec<T>, StoreError> {
    let mut values = Vec::new();
    for item in db.iterator_cf(meta, IteratorMode::From(&[tag], Direction::Forward)) {
        let (key, value) = item.map_err(database("reading the ledger state"))?;
        if key.first() != Some(&tag) {
            break;
        }
        values.push(decode(STATE, &value)?);
    }
    Ok(values)
}

/// [`codec::decode`] for values that own what they hold.
pub(crate) fn decode<T: bincode::Decode<()>>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = |why: String| StoreError::Damaged { what: what.to_owned(), why };
    let Some((&codec::FORMAT_VERSION, rest)) = bytes.split_first() else {
        return Err(damaged(format!("its encoding version is not {}", codec::FORMAT_VERSION)));
    };
    let config = bincode::config::standard().with_limit::<{ 64 << 20 }>();
    let (value, used) = bincode::decode_from_slice(rest, config).map_err(|e| damaged(e.to_string()))?;
    if used == rest.len() { Ok(value) } else { Err(damaged("bytes are left over".to_owned())) }
}
