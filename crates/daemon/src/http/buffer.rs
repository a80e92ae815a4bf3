//! The memory that the bodies of all requests may take together.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use super::intake::BodyFault;

/// Counts the memory that bodies take, all requests together. Clones count as one.
#[derive(Debug, Default, Clone)]
pub struct Buffer(Arc<AtomicU64>);

/// A part of the [`Buffer`], given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    buffer: Buffer,
    bytes: u64,
}

impl Buffer {
    /// Takes nothing yet.
    pub fn reserve(&self) -> Reserved {
        Reserved { buffer: self.clone(), bytes: 0 }
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Reserved {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// [`BodyFault::NoRoom`], and nothing is taken, when that would exceed `limit`.
    pub fn grow(&mut self, bytes: u64, limit: u64) -> Result<(), BodyFault> {
        let before = self.buffer.0.fetch_add(bytes, Relaxed);
        if before.saturating_add(bytes) > limit {
            self.buffer.0.fetch_sub(bytes, Relaxed);
            return Err(BodyFault::NoRoom { limit });
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Another part of the same buffer, which takes nothing yet.
    pub fn another(&self) -> Self {
        self.buffer.reserve()
    }

    /// These bytes, which are given back with the last reference to them.
    pub fn hold(self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Held { bytes, _reserved: self })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.buffer.0.fetch_sub(self.bytes, Relaxed);
    }
}

struct Held {
    bytes: Vec<u8>,
    _reserved: Reserved,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_given_back_with_the_last_of_it() {
        let buffer = Buffer::default();
        let mut reserved = buffer.reserve();
        assert_eq!(reserved.grow(3, 4), Ok(()));
        assert_eq!(reserved.grow(2, 4), Err(BodyFault::NoRoom { limit: 4 }));
        let bytes = reserved.hold(b"abc".to_vec());
        let part = bytes.slice(1..2);
        drop(bytes);
        assert_eq!((&part[..], buffer.used()), (&b"b"[..], 3));
        drop(part);
        assert_eq!(buffer.used(), 0);
    }
}
