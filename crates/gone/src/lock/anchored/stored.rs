//! The record as such a store keeps it: JSON, without a time to live.

use serde::{Deserialize, Serialize};

/// The format that is written; another one is refused.
const FORMAT: u32 = 1;

/// The record of one id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    format: u32,
    /// The token of the last lease.
    pub(crate) token: u64,
    /// Whose it is; empty: nobody's, the record says that a lease may be out which the store does not know of.
    pub(crate) owner: String,
    /// Where the owner takes messages.
    pub(crate) address: String,
    /// The expiry that the lease was taken with, in milliseconds.
    pub(crate) expiry_ms: u64,
    /// The owner gave it back.
    pub(crate) released: bool,
    /// Another one with each write, so that a renewal shows. Begins at random.
    pub(crate) written: u64,
}

impl Stored {
    /// Nobody's, with the time for which it has to stand before the lease may be taken.
    pub(crate) fn doubt(token: u64, expiry_ms: u64, mark: u32) -> Self {
        Self { format: FORMAT, token, expiry_ms, written: u64::from(mark), ..Self::default() }
    }

    /// A lease.
    pub(crate) fn held(token: u64, owner: &str, address: &str, expiry_ms: u64, mark: u32) -> Self {
        let (owner, address) = (owner.to_owned(), address.to_owned());
        Self { owner, address, ..Self::doubt(token, expiry_ms, mark) }
    }

    /// The same lease, written once more.
    pub(crate) fn again(self, released: bool) -> Self {
        Self { written: self.written.wrapping_add(1), released, ..self }
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers, texts and a truth value can be written")
    }

    /// Reads what stands under a key; the sentence that says what is wrong with it.
    pub(crate) fn from_json(key: &str, bytes: &[u8]) -> Result<Self, String> {
        let wrong = |what: String| {
            let text: String = String::from_utf8_lossy(bytes).chars().take(100).collect();
            format!("the value of {key} is no lease of ours ({what}): {text:?}; move it away")
        };
        let stored: Self = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        if stored.format != FORMAT {
            return Err(wrong(format!("its format is {}, and only {FORMAT} is known here", stored.format)));
        }
        Ok(stored)
    }
}
