//! What a run showed.

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Two children at one true time.
    Overlap { at: u64, first: usize, second: usize },
    /// A lease with a token that is not greater than all before.
    Token { at: u64, before: u64, token: u64 },
    /// Nobody held the lease so long after the last fault, in nanoseconds.
    NoHolder { since: u64, bound: u64 },
    /// A holder was replaced though nothing was wrong any more.
    Unsteady { at: u64 },
    /// Events without end.
    Livelock { at: u64 },
    /// A runner that ended by itself.
    Ended { at: u64, host: usize },
}

/// What a run showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) violations: Vec<Violation>,
    pub(crate) faults: u64,
    pub(crate) starts: u64,
    /// Children that woke with their host after their lease: no lease can prevent it, the token has to.
    pub(crate) fenced: u64,
    pub(crate) events: u64,
    /// From the end of the last fault to the next holder, in nanoseconds.
    pub(crate) gap: u64,
    /// What happened, in order, when it was asked for; its hash in any case.
    pub(crate) trace: Vec<String>,
    pub(crate) hash: u64,
}

impl Report {
    pub(crate) fn note(&mut self, at: u64, keep: bool, what: impl FnOnce() -> String) {
        // FNV-1a over the time, and over the words when they are kept: cheap, and enough to compare two runs.
        let mut mix = |bytes: &[u8]| {
            for byte in bytes {
                self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        mix(&at.to_le_bytes());
        if keep {
            let line = format!("{:>14.6} {}", at as f64 / 1e9, what());
            mix(line.as_bytes());
            self.trace.push(line);
        }
    }
}
