//! Has this message been seen? A blocked Bloom filter in slices that expire by the hour.
//!
//! "No" is certain, "yes" is checked against the index and the row by the caller. Each key sets eight bits
//! of one 64-byte line. Only the fingerprint bits that survive in the largest runs are used, so that the
//! filter can be rebuilt from the message index alone.

use cdr_core::Hour;

/// Bits of memory that a key takes while its slice is within its capacity.
const BITS_PER_KEY: u64 = 12;

/// Memory and load of the filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterStats {
    /// Slices in use.
    pub slices: usize,
    /// Messages in them.
    pub keys: u64,
    /// Messages that the configured memory holds well.
    pub capacity: u64,
    /// Messages beyond the capacity of a slice: answers stay exact, but cost more look-ups.
    pub over_capacity: u64,
    /// Memory of the slices in use, in bytes.
    pub bytes: usize,
}

/// The filter of known messages.
pub(super) struct Filter {
    slices: Vec<Slice>,
    max_slices: usize,
    lines: usize,
    ignored_bits: u32,
    /// False while known messages are missing from it: then nothing can be answered with no.
    complete: bool,
}

struct Slice {
    lines: Vec<[u64; 8]>,
    keys: u64,
    newest: Hour,
}

impl Filter {
    /// An empty filter of `bytes` in `max_slices`, which ignores the low bits of fingerprints.
    pub fn new(bytes: usize, max_slices: usize, ignored_bits: u32) -> Self {
        let lines = (bytes / max_slices / 64).max(1);
        Self { slices: Vec::new(), max_slices, lines, ignored_bits, complete: true }
    }

    /// Says whether all messages that count were added.
    pub fn set_complete(&mut self, complete: bool) {
        self.complete = complete;
    }

    /// Takes a message of bucket `hour` in.
    pub fn add(&mut self, fingerprint: u64, hour: Hour) {
        let probe = Probe::new(fingerprint >> self.ignored_bits);
        let full = self.slice_capacity();
        if self.slices.last().is_none_or(|slice| slice.keys >= full) && self.slices.len() < self.max_slices {
            self.slices.push(Slice { lines: vec![[0; 8]; self.lines], keys: 0, newest: hour });
        }
        if let Some(slice) = self.slices.last_mut() {
            slice.add(&probe);
            slice.newest = slice.newest.max(hour);
        }
    }

    /// For every fingerprint, whether it may have been added. Without branches, so that the processor reads
    /// many lines at once.
    pub fn maybe(&self, fingerprints: &[u64]) -> Vec<bool> {
        let probes: Vec<Probe> =
            fingerprints.iter().map(|fingerprint| Probe::new(fingerprint >> self.ignored_bits)).collect();
        let mut seen = vec![!self.complete; probes.len()];
        for slice in &self.slices {
            for (seen, probe) in seen.iter_mut().zip(&probes) {
                *seen |= slice.has(probe);
            }
        }
        seen
    }

    /// Frees slices whose messages are all of hours before `before`.
    pub fn expire(&mut self, before: Hour) {
        self.slices.retain(|slice| slice.newest >= before);
    }

    /// Memory and load.
    pub fn stats(&self) -> FilterStats {
        let full = self.slice_capacity();
        FilterStats {
            slices: self.slices.len(),
            keys: self.slices.iter().map(|slice| slice.keys).sum(),
            capacity: full * self.max_slices as u64,
            over_capacity: self.slices.iter().map(|slice| slice.keys.saturating_sub(full)).sum(),
            bytes: self.slices.len() * self.lines * 64,
        }
    }

    fn slice_capacity(&self) -> u64 {
        (self.lines as u64 * 512 / BITS_PER_KEY).max(1)
    }
}

impl Slice {
    fn add(&mut self, probe: &Probe) {
        let at = probe.line(self.lines.len());
        for (word, bit) in self.lines[at].iter_mut().zip(probe.bits()) {
            *word |= bit;
        }
        self.keys += 1;
    }

    fn has(&self, probe: &Probe) -> bool {
        let line = &self.lines[probe.line(self.lines.len())];
        let missing = line.iter().zip(probe.bits()).fold(0, |missing, (word, bit)| missing | !word & bit);
        missing == 0
    }
}

/// Where the bits of a key are.
struct Probe {
    hash: u64,
}

impl Probe {
    /// Spreads the fingerprint's remaining bits over the word (the finisher of SplitMix64).
    fn new(bits: u64) -> Self {
        let mut hash = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self { hash: hash ^ (hash >> 31) }
    }

    fn line(&self, lines: usize) -> usize {
        ((u128::from(self.hash) * lines as u128) >> 64) as usize
    }

    fn bits(&self) -> [u64; 8] {
        let choice = self.hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
        std::array::from_fn(|word| 1 << ((choice >> (word * 6 + 16)) & 63))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(i: u64) -> u64 {
        i.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(29) ^ i << 40
    }

    #[test]
    fn what_was_added_is_found_and_little_else() {
        let mut filter = Filter::new(1 << 20, 4, 24);
        let capacity = filter.stats().capacity;
        for i in 0..capacity {
            filter.add(fingerprint(i), Hour(1));
        }
        let known: Vec<u64> = (0..capacity).map(fingerprint).collect();
        assert!(filter.maybe(&known).into_iter().all(|seen| seen));
        let foreign: Vec<u64> = (capacity..capacity + 100_000).map(fingerprint).collect();
        let false_positives = filter.maybe(&foreign).into_iter().filter(|&seen| seen).count();
        assert!(false_positives < 4_000, "{false_positives} of 100,000, four slices at 0.5% each");
        assert_eq!(filter.stats().over_capacity, 0);
    }

    #[test]
    fn slices_expire_by_hour_and_overflow_is_counted() {
        let mut filter = Filter::new(4 * 64, 4, 0);
        let slice = filter.stats().capacity / 4;
        for i in 0..slice * 5 {
            filter.add(fingerprint(i), Hour((i / slice) as u32));
        }
        assert_eq!((filter.stats().slices, filter.stats().over_capacity), (4, slice));
        filter.expire(Hour(2));
        assert_eq!(filter.stats().slices, 2);
        let kept: Vec<u64> = (slice * 2..slice * 5).map(fingerprint).collect();
        assert!(filter.maybe(&kept).into_iter().all(|seen| seen));
        filter.expire(Hour(9));
        assert_eq!(filter.stats().bytes, 0);
        assert_eq!(filter.maybe(&kept), vec![false; kept.len()]);
    }
}
