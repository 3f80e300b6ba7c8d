//! Binary SHA-256 trees whose leaves are padded to a power of two with 32 zero bytes (US-CDR-003).
//!
//! The given formula has no domain separation between leaves and nodes; a verifier therefore checks the
//! leaf index and the number of siblings against the sealed record count, so that no node can pass for a leaf.

use crate::hash::{Hash, hex_string, sha256};
use serde::{Deserialize, Serialize};

/// The padding leaf.
pub const ZERO_LEAF: Hash = [0; 32];

/// Levels that a count of 2^63 leaves can reach.
const MAX_LEVELS: usize = 64;

/// `sha256(left ‖ right)`.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    let mut both = [0; 64];
    both[..32].copy_from_slice(left);
    both[32..].copy_from_slice(right);
    sha256(&both)
}

/// Levels between the leaves and the root: `ceil(log2(count))`.
pub fn height(count: u64) -> u32 {
    if count <= 1 { 0 } else { 64 - (count - 1).leading_zeros() }
}

/// Root of the padded tree over `leaves`; `None` without leaves.
pub fn root(leaves: &[Hash]) -> Option<Hash> {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.push(*leaf);
    }
    frontier.root()
}

/// The right edge of a growing tree: what is needed to append leaves and to close the tree at any time,
/// in memory that grows with the logarithm of the count.
#[derive(Clone, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Frontier {
    count: u64,
    /// Complete left subtrees, largest first: one per set bit of `count`.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Leaves appended so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.push_with(leaf, |_, _, _| ());
    }

    /// Appends a leaf and reports every subtree that it completes: level (1 for two leaves), index at that
    /// level, root.
    pub fn push_with(&mut self, leaf: Hash, mut completed: impl FnMut(u32, u64, &Hash)) {
        let mut subtree = leaf;
        let mut level = 0;
        while self.count >> level & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            subtree = node(&left, &subtree);
            level += 1;
            completed(level, self.count >> level, &subtree);
        }
        self.peaks.push(subtree);
        self.count += 1;
    }

    /// Root of the padded tree; `None` without leaves.
    pub fn root(&self) -> Option<Hash> {
        let (mut peaks, mut level) = (self.peaks.iter().rev(), self.count.trailing_zeros());
        let mut subtree = *peaks.next()?;
        let mut zero = zero_subtree(level);
        while level < height(self.count) {
            subtree = if self.count >> level & 1 == 1 && level > self.count.trailing_zeros() {
                node(peaks.next()?, &subtree)
            } else {
                node(&subtree, &zero)
            };
            zero = node(&zero, &zero);
            level += 1;
        }
        Some(subtree)
    }
}

/// Root of a subtree of 2^`level` padding leaves.
pub fn zero_subtree(level: u32) -> Hash {
    (0..level.min(MAX_LEVELS as u32)).fold(ZERO_LEAF, |zero, _| node(&zero, &zero))
}

/// The place of a leaf, and the siblings from the leaf upwards in the padded tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InclusionProof {
    /// Position of the leaf, from 0.
    pub leaf_index: u64,
    /// Sibling at every level, from the leaf upwards.
    pub siblings: Vec<HexHash>,
}

/// A hash that is written in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HexHash(#[serde(with = "hex_string")] pub Hash);

impl InclusionProof {
    /// The proof for leaf `index` of `count`, taking the root of the complete or padded subtree at
    /// `(level, index)` from `subtree`; subtrees wholly beyond the leaves are not read.
    ///
    /// # Errors
    /// Whatever `subtree` fails with.
    pub fn build<E>(
        index: u64,
        count: u64,
        mut subtree: impl FnMut(u32, u64) -> Result<Hash, E>,
    ) -> Result<Self, E> {
        let mut siblings = Vec::with_capacity(height(count) as usize);
        for level in 0..height(count) {
            let sibling = (index >> level) ^ 1;
            let beyond = sibling.checked_shl(level).is_none_or(|first| first >= count);
            let hash = if beyond { zero_subtree(level) } else { subtree(level, sibling)? };
            siblings.push(HexHash(hash));
        }
        Ok(Self { leaf_index: index, siblings })
    }

    /// The proof for leaf `index` of `leaves`; `None` if there is no such leaf.
    pub fn from_leaves(index: u64, leaves: &[Hash]) -> Option<Self> {
        let count = leaves.len() as u64;
        if index >= count {
            return None;
        }
        let proof = Self::build(index, count, |level, i| {
            let first = (i << level) as usize;
            let end = ((i + 1) << level).min(count) as usize;
            leaves.get(first..end).map(|part| padded_root(part, level)).ok_or(())
        });
        proof.ok()
    }

    /// The root that the proof leads to from `leaf`, or `None` if its shape does not fit a tree of `count` leaves.
    pub fn root_from(&self, leaf: &Hash, count: u64) -> Option<Hash> {
        if self.leaf_index >= count || self.siblings.len() != height(count) as usize {
            return None;
        }
        let mut subtree = *leaf;
        for (level, HexHash(sibling)) in self.siblings.iter().enumerate() {
            subtree = if self.leaf_index >> level & 1 == 0 {
                node(&subtree, sibling)
            } else {
                node(sibling, &subtree)
            };
        }
        Some(subtree)
    }

    /// True if the proof leads from `leaf` to `root` in a tree of `count` leaves.
    pub fn verify(&self, leaf: &Hash, count: u64, root: &Hash) -> bool {
        self.root_from(leaf, count).is_some_and(|computed| computed == *root)
    }
}

/// Root of `leaves` padded to 2^`level` leaves; `leaves` must not be longer than that.
pub fn padded_root(leaves: &[Hash], level: u32) -> Hash {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.push(*leaf);
    }
    let Some(root) = frontier.root() else { return zero_subtree(level) };
    (height(frontier.count())..level).fold(root, |subtree, l| node(&subtree, &zero_subtree(l)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::hash::sha256;
    use proptest::prelude::*;
    use rs_merkle::{MerkleTree, algorithms::Sha256};

    fn leaves(n: usize) -> Vec<Hash> {
        (0..n as u64).map(|i| sha256(&i.to_le_bytes())).collect()
    }

    fn oracle(leaves: &[Hash]) -> MerkleTree<Sha256> {
        let mut padded = leaves.to_vec();
        padded.resize(leaves.len().next_power_of_two(), ZERO_LEAF);
        MerkleTree::from_leaves(&padded)
    }

    #[test]
    fn one_leaf_is_its_own_root_and_none_has_no_root() {
        assert_eq!(root(&leaves(1)), Some(leaves(1)[0]));
        assert_eq!(root(&[]), None);
    }

    #[test]
    fn roots_and_proofs_agree_with_an_independent_tree() {
        for n in (1..70).chain([127, 128, 129, 1000, 1025]) {
            let leaves = leaves(n);
            let tree = oracle(&leaves);
            assert_eq!(root(&leaves), tree.root(), "{n} leaves");
            for index in [0, n / 2, n - 1] {
                let proof = InclusionProof::from_leaves(index as u64, &leaves).unwrap();
                let siblings: Vec<Hash> = proof.siblings.iter().map(|h| h.0).collect();
                assert_eq!(siblings, tree.proof(&[index]).proof_hashes(), "{index} of {n}");
                assert!(proof.verify(&leaves[index], n as u64, &tree.root().unwrap()));
            }
        }
    }

    #[test]
    fn completed_subtrees_are_the_roots_of_their_leaves() {
        let all = leaves(600);
        let mut frontier = Frontier::default();
        for leaf in &all {
            frontier.push_with(*leaf, |level, index, hash| {
                let first = (index << level) as usize;
                assert_eq!(*hash, padded_root(&all[first..first + (1 << level)], level));
            });
        }
    }

    #[test]
    fn a_node_cannot_pass_for_a_leaf() {
        let all = leaves(4);
        let inner = node(&all[0], &all[1]);
        let proof = InclusionProof { leaf_index: 0, siblings: vec![HexHash(node(&all[2], &all[3]))] };
        assert!(!proof.verify(&inner, 4, &root(&all).unwrap()));
        let beyond = InclusionProof { leaf_index: 3, siblings: vec![HexHash(all[2]), HexHash(inner)] };
        assert!(!beyond.verify(&ZERO_LEAF, 3, &root(&all[..3]).unwrap()));
    }

    proptest! {
        #[test]
        fn any_change_breaks_a_proof(n in 1usize..200, pick in any::<prop::sample::Index>(), flip in 0usize..256) {
            let all = leaves(n);
            let index = pick.index(n);
            let proof = InclusionProof::from_leaves(index as u64, &all).unwrap();
            let mut leaf = all[index];
            leaf[flip / 8] ^= 1 << (flip % 8);
            prop_assert!(!proof.verify(&leaf, n as u64, &root(&all).unwrap()));
        }
    }
}
