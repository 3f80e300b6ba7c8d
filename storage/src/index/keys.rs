//! Keys of column family `index`, and of `meta` under `index/`. Integers are big-endian; tags are never reused.
//!
//! | column family | key | value |
//! |---|---|---|
//! | `index` | `0x20` (cdrId), `0x21` (messageId), `0x22` (msisdnHashTo), `0x23` (adjustmentOf); level `u8`, first ordinal of the run `u64`, chunk `u32` | [`super::chunk`] |
//! | `index` | `0x24` (tenant), `0x25` (operator, kind); fingerprint, registry index or 2^16 + kind `u64`, first ordinal of the block `u64` | [`super::posting`] |
//! | `index` | `0x26`, first ordinal of the block `u64` | [`super::zone`] |
//! | `meta` | `index/head` | [`super::record::Head`] |
//! | `meta` | `index/run/`, first ordinal `u64`, level `u8` | [`super::record::Run`] |

/// Key of the head.
pub(super) const HEAD: &[u8] = b"index/head";
/// Prefix of run records.
pub(super) const RUN_PREFIX: &[u8] = b"index/run/";
/// First byte string after all run records.
pub(super) const RUN_END: &[u8] = b"index/run0";
/// Tag of event times.
pub(super) const TAG_ZONES: u8 = 0x26;

/// A hash index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// `cdrId`.
    CdrId,
    /// `messageId`.
    Message,
    /// `msisdnHashTo`.
    MsisdnTo,
    /// `adjustmentOf`.
    AdjustmentOf,
}

/// Number of hash indexes.
pub(super) const TABLES: usize = 4;

impl Table {
    /// Every table, in the order of their positions.
    pub const ALL: [Self; TABLES] = [Self::CdrId, Self::Message, Self::MsisdnTo, Self::AdjustmentOf];

    /// First byte of its keys.
    pub fn tag(self) -> u8 {
        0x20 + self as u8
    }

    /// Name of the field that it indexes.
    pub fn name(self) -> &'static str {
        match self {
            Self::CdrId => "cdrId",
            Self::Message => "messageId",
            Self::MsisdnTo => "msisdnHashTo",
            Self::AdjustmentOf => "adjustmentOf",
        }
    }
}

/// A kind of posting lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PostingKind {
    /// Rows of a tenant.
    Tenant,
    /// Rows of an operator.
    Operator,
}

impl PostingKind {
    /// Every kind, in the order of their positions.
    pub const ALL: [Self; 2] = [Self::Tenant, Self::Operator];

    /// First byte of its keys.
    pub fn tag(self) -> u8 {
        0x24 + self as u8
    }

    /// Name of the field that it indexes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenantId",
            Self::Operator => "operatorId",
        }
    }
}

/// Key of a chunk.
pub(super) fn chunk(table: Table, level: u8, first: u64, chunk: u32) -> [u8; 14] {
    let mut key = [table.tag(); 14];
    key[1] = level;
    key[2..10].copy_from_slice(&first.to_be_bytes());
    key[10..].copy_from_slice(&chunk.to_be_bytes());
    key
}

/// Level, first ordinal and chunk, from a chunk's key.
pub(super) fn parse_chunk(table: Table, key: &[u8]) -> Option<(u8, u64, u32)> {
    let (level, rest) = key.strip_prefix(&[table.tag()])?.split_first()?;
    let (first, chunk) = rest.split_first_chunk::<8>()?;
    Some((*level, u64::from_be_bytes(*first), u32::from_be_bytes(chunk.try_into().ok()?)))
}

/// Key of a posting list.
pub(super) fn posting(kind: PostingKind, name: u64, block: u64) -> [u8; 17] {
    let mut key = [kind.tag(); 17];
    key[1..9].copy_from_slice(&name.to_be_bytes());
    key[9..].copy_from_slice(&block.to_be_bytes());
    key
}

/// Name and first ordinal of the block, from a posting list's key.
pub(super) fn parse_posting(kind: PostingKind, key: &[u8]) -> Option<(u64, u64)> {
    let (name, block) = key.strip_prefix(&[kind.tag()])?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*name), u64::from_be_bytes(block.try_into().ok()?)))
}

/// Key of a block's event times.
pub(super) fn zones(block: u64) -> [u8; 9] {
    let mut key = [TAG_ZONES; 9];
    key[1..].copy_from_slice(&block.to_be_bytes());
    key
}

/// First ordinal of the block, from the key of its event times.
pub(super) fn parse_zones(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(&[TAG_ZONES])?.try_into().ok()?))
}

/// Key of a run record.
pub(super) fn run(level: u8, first: u64) -> Vec<u8> {
    let mut key = RUN_PREFIX.to_vec();
    key.extend_from_slice(&first.to_be_bytes());
    key.push(level);
    key
}

/// Level and first ordinal, from the key of a run record.
pub(super) fn parse_run(key: &[u8]) -> Option<(u8, u64)> {
    let (first, level) = key.strip_prefix(RUN_PREFIX)?.split_first_chunk::<8>()?;
    let [level] = level else { return None };
    Some((*level, u64::from_be_bytes(*first)))
}

/// A key in words.
pub(super) fn describe(key: &[u8]) -> String {
    for table in Table::ALL {
        if let Some((level, first, chunk)) = parse_chunk(table, key) {
            return format!("{} chunk {chunk} of run {first} (level {level})", table.name());
        }
    }
    for kind in PostingKind::ALL {
        if let Some((name, block)) = parse_posting(kind, key) {
            return format!("{} list {name:016x} of block {block}", kind.name());
        }
    }
    if let Some(block) = parse_zones(key) {
        return format!("event times of block {block}");
    }
    if let Some((level, first)) = parse_run(key) {
        return format!("run {first} (level {level})");
    }
    format!("with key {}", key.escape_ascii())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn golden_keys() {
        assert_eq!(chunk(Table::Message, 1, 2, 3), [0x21, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3]);
        assert_eq!(
            posting(PostingKind::Operator, 7, 8),
            [0x25, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8]
        );
        assert_eq!(zones(9), [0x26, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(run(1, 2), b"index/run/\0\0\0\0\0\0\0\x02\x01");
    }

    #[test]
    fn keys_round_trip_and_foreign_keys_are_refused() {
        for table in Table::ALL {
            assert_eq!(parse_chunk(table, &chunk(table, 2, 70, 5)), Some((2, 70, 5)));
            assert_eq!(parse_chunk(table, &chunk(table, 2, 70, 5)[..13]), None);
        }
        assert_eq!(parse_chunk(Table::CdrId, &chunk(Table::Message, 2, 70, 5)), None);
        for kind in PostingKind::ALL {
            assert_eq!(parse_posting(kind, &posting(kind, 3, 64)), Some((3, 64)));
        }
        assert_eq!(parse_zones(&zones(64)), Some(64));
        assert_eq!(parse_run(&run(2, 64)), Some((2, 64)));
        assert_eq!(parse_run(b"index/run/short"), None);
    }
}
