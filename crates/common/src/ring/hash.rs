//! The hashes of names and keys: XXH3 by Yann Collet, and the finalizer of splitmix64 by Sebastiano Vigna.
//!
//! None of them is secret or keyed: who chooses keys can choose where they go. What such a chooser
//! cannot do is make a lookup or a build expensive.

use twox_hash::{XxHash3_64, XxHash3_128};

/// 2^64 divided by the golden ratio, made odd: its multiples are spread evenly over 64 bits.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A one-to-one scrambling of 64 bits.
pub(super) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The `index`-th of the independent values that one hash stands for.
pub(super) const fn derive(hash: u64, index: u64) -> u64 {
    mix(hash.wrapping_add(GOLDEN.wrapping_mul(index + 1)))
}

/// 64 bits of a key.
pub(super) fn key(key: &[u8]) -> u64 {
    XxHash3_64::oneshot(key)
}

/// 128 bits of a node's name, so that names that share one are not to be met.
#[derive(Debug, Clone, Copy)]
pub(super) struct NameDigest(u128);

impl NameDigest {
    pub(super) fn new(name: &str) -> Self {
        Self(XxHash3_128::oneshot(name.as_bytes()))
    }

    /// The hash of the name and a number.
    ///
    /// Both parts have a fixed length, so that no name and number can be read as another name with
    /// another number, as `node-1` + `11` and `node-11` + `1` can.
    pub(super) fn numbered(self, number: u32) -> u64 {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(&self.0.to_le_bytes());
        bytes[16..].copy_from_slice(&number.to_le_bytes());
        XxHash3_64::oneshot(&bytes)
    }

    /// Both halves, the low one first.
    pub(super) fn halves(self) -> [u64; 2] {
        [self.0 as u64, (self.0 >> 64) as u64]
    }
}
