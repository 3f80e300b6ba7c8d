//! How the database is opened: column families, their options, and the format version.
//!
//! Writes never go to RocksDB's own log: the Raft log is it. `atomic_flush` makes what is on disk a prefix of
//! what was applied, in all column families alike.

use crate::error::{StoreError, database};
use crate::keys::{self, CF_INDEX, CF_LEAVES, CF_META, CF_ROWS, CF_SEALS, META_FORMAT};
use crate::options::StoreOptions;
use cdr_core::rules::{Build, NeedsBuild, Rules, Version};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DBCompressionType, Options, WriteOptions,
};
use std::path::Path;

/// The database handle that the modules of this crate share.
pub type Db = rocksdb::DB;

/// Version of everything below the store's directory, keys, values and files: the lowest that this build reads, and the
/// one of a new store. Higher ones come with rules ([`cdr_core::rules`]).
pub const DISK_FORMAT: u32 = Rules::FIRST.formats().disk;

/// The longest delay that RocksDB takes, 136 years.
const NEVER_SECONDS: &str = "4294967295";

/// The column family `name`.
///
/// # Errors
/// If the database has none: it was not opened by this crate.
pub fn column<'a>(db: &'a Db, name: &'static str) -> Result<&'a ColumnFamily, StoreError> {
    db.cf_handle(name).ok_or_else(|| StoreError::Unknown { what: format!("column family {name}") })
}

/// Options of every write: not to RocksDB's own log.
pub(crate) fn write_options() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}

/// Opens or creates the database in `path`; with its format version, which a new one gets here.
pub(crate) fn open(path: &Path, options: &StoreOptions) -> Result<(Db, u32), StoreError> {
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    let families = keys::COLUMN_FAMILIES
        .into_iter()
        .map(|name| ColumnFamilyDescriptor::new(name, family_options(name, options, &cache)));
    let db = Db::open_cf_descriptors(&database_options(options), path, families)
        .map_err(database("opening the database"))?;
    let format = check_format(&db, options.build)?;
    for name in keys::COLUMN_FAMILIES {
        // Whenever a snapshot is released, RocksDB would rewrite whole tables of the bottom level, only to clear
        // the sequence numbers in them: half of all bytes written.
        db.set_options_cf(column(&db, name)?, &[("bottommost_file_compaction_delay", NEVER_SECONDS)])
            .map_err(database("setting the options of a column family"))?;
    }
    Ok((db, format))
}

/// Opens the database in `path` for reading only.
pub(crate) fn open_read_only(path: &Path) -> Result<Db, StoreError> {
    Db::open_cf_for_read_only(&Options::default(), path, keys::COLUMN_FAMILIES, false)
        .map_err(database("opening a checkpoint"))
}

fn check_format(db: &Db, build: Build) -> Result<u32, StoreError> {
    const WHAT: &str = "the database's format key";
    let meta = column(db, CF_META)?;
    let found = db.get_cf(meta, META_FORMAT).map_err(database("reading the format version"))?;
    match found.as_deref().map(<[u8; 4]>::try_from) {
        Some(Ok(bytes)) => known_format(WHAT, u32::from_le_bytes(bytes), None, build),
        Some(Err(_)) => Err(unknown_format(WHAT, &format!("{found:?}"))),
        None => {
            let empty = db.iterator_cf(meta, rocksdb::IteratorMode::Start).next().is_none();
            if !empty {
                return Err(unknown_format(WHAT, "none"));
            }
            db.put_cf_opt(meta, META_FORMAT, DISK_FORMAT.to_le_bytes(), &write_options())
                .map_err(database("writing the format version"))?;
            Ok(DISK_FORMAT)
        }
    }
}

/// The format, if the build reads it; `needs` is the build that is said to.
pub(crate) fn known_format(
    what: &str,
    format: u32,
    needs: Option<Version>,
    build: Build,
) -> Result<u32, StoreError> {
    if format < DISK_FORMAT {
        return Err(unknown_format(what, &format.to_string()));
    }
    if format > build.rules.formats().disk {
        let needs = NeedsBuild { what: format!("disk format {format}"), needs, this: build.version };
        return Err(StoreError::NeedsBuild { what: what.to_owned(), needs });
    }
    Ok(format)
}

pub(crate) fn unknown_format(what: &str, found: &str) -> StoreError {
    StoreError::FormatVersion { what: what.to_owned(), found: found.to_owned(), supported: DISK_FORMAT }
}

fn database_options(options: &StoreOptions) -> Options {
    let mut out = Options::default();
    out.create_if_missing(true);
    out.create_missing_column_families(true);
    out.set_atomic_flush(true);
    out.set_db_write_buffer_size(options.write_buffer_bytes);
    out.set_max_background_jobs(options.max_background_jobs);
    out.set_bytes_per_sync(1 << 20);
    out.set_keep_log_file_num(4);
    out.set_max_log_file_size(8 << 20);
    out.set_max_open_files(512);
    out
}

fn family_options(name: &str, options: &StoreOptions, cache: &Cache) -> Options {
    let mut out = Options::default();
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_format_version(6);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_block_size(match name {
        CF_META | CF_SEALS => 4 << 10,
        CF_LEAVES => options.block_bytes.min(8 << 10),
        _ => options.block_bytes,
    });
    if name == CF_INDEX {
        // Every block of rows adds keys to each of the tables: a compaction rewrites whatever lies in level 1, so
        // it has to be rare, and a filter keeps look-ups from visiting every file that waits for it.
        table.set_bloom_filter(10.0, false);
        out.set_level_zero_file_num_compaction_trigger(16);
        out.set_level_zero_slowdown_writes_trigger(48);
        out.set_level_zero_stop_writes_trigger(64);
    }
    out.set_block_based_table_factory(&table);
    // Rows and hashes hardly compress, and compressing them costs more than the whole index.
    out.set_compression_type(match name {
        CF_SEALS => DBCompressionType::Lz4,
        _ => DBCompressionType::None,
    });
    out.set_write_buffer_size(match name {
        CF_ROWS => options.write_buffer_bytes / 2,
        CF_LEAVES | CF_INDEX => options.write_buffer_bytes / 4,
        _ => options.write_buffer_bytes / 16,
    });
    out.set_max_write_buffer_number(3);
    out.set_target_file_size_base(64 << 20);
    out.set_max_bytes_for_level_base(256 << 20);
    out
}
