//! Whether a file without any node is believed.

use jiff::{SignedDuration, Timestamp};

use super::super::file::{Hash, Stamp};

/// For so long after `--watch` has read a version, a request to read the same one is part of the same
/// write: whoever writes the file asks for the reload right after.
const SAME_WRITE: SignedDuration = SignedDuration::from_secs(2);

/// Why the file was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asked for it: the start, or SIGHUP.
    Request,
    /// Its content changed.
    Change,
}

/// One reading of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Why it was read.
    pub cause: Cause,
    /// What the system said of the version that was read.
    pub stamp: Stamp,
    /// What it held.
    pub hash: Hash,
    /// When it was read.
    pub at: Timestamp,
}

/// Remembers the file that has to be confirmed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hold {
    held: Option<Reading>,
}

impl Hold {
    /// Whether a good file has to wait for another reload to confirm it. A file that cannot be read or
    /// is wrong confirms nothing and is no matter for this.
    ///
    /// `doubtful`: whether it has no node while the catalog in force has some, and such files are held.
    pub fn holds(&mut self, doubtful: bool, reading: Reading) -> bool {
        self.held = match self.held {
            _ if !doubtful => None,
            Some(held) if confirms(&held, &reading) => None,
            Some(held) if reading.cause == Cause::Change => Some(held),
            // Where this request belonged to the write that was noticed before, the next one does not.
            _ => Some(reading),
        };
        self.held.is_some()
    }
}

/// Whether `reading` is a second reload, and not the same write noticed in two ways.
fn confirms(held: &Reading, reading: &Reading) -> bool {
    if (held.stamp, held.hash) != (reading.stamp, reading.hash) {
        return true;
    }
    match (held.cause, reading.cause) {
        (Cause::Request, Cause::Request) => true,
        (_, Cause::Change) => false,
        // A clock that was set back says nothing of how long ago it was.
        (Cause::Change, Cause::Request) => {
            let since = reading.at.duration_since(held.at);
            since >= SAME_WRITE || since.is_negative()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays readings apart by blanks: who caused it (`r`equest or `w`atch), the second, and the version,
    /// where `0` has nodes. What became of each, `t`aken or `h`eld.
    fn play(on: bool, readings: &str) -> String {
        let (mut hold, mut had_nodes) = (Hold::default(), false);
        let mut judge = |reading: &str| {
            let cause = if reading.starts_with('r') { Cause::Request } else { Cause::Change };
            let (second, version) = reading[1..].split_once(':').unwrap();
            let version: u8 = version.parse().unwrap();
            let at = Timestamp::from_second(second.parse().unwrap()).unwrap();
            let reading = Reading { cause, stamp: Stamp::numbered(version.into()), hash: [version; 32], at };
            let held = hold.holds(on && had_nodes && version > 0, reading);
            if !held {
                had_nodes = version == 0;
            }
            if held { 'h' } else { 't' }
        };
        readings.split(' ').map(&mut judge).collect()
    }

    #[test]
    fn an_empty_file_after_a_full_one_needs_a_second_reload() {
        for (readings, expected) in [
            ("r0:1", "t"),
            ("r0:1 r0:1", "tt"),
            ("r0:0 r0:1", "th"),
            ("r0:0 r1:1 r1:1", "tht"),
            ("r0:0 r1:1 r1:1 r1:1", "thtt"),
            ("r0:0 r1:1 r2:0 r3:1", "thth"),
            ("r0:0 r1:1 r2:0 r3:1 r4:2", "ththt"),
            ("r0:0 r1:1 r2:2 r3:0 r4:1 r5:2", "thttht"),
            // Another version confirms, however it was noticed.
            ("r0:0 r1:1 w1:2", "tht"),
            ("r0:0 w1:1 r1:2", "tht"),
            ("r0:0 w1:1 w9:2", "tht"),
            // One write that was noticed in two ways.
            ("r0:0 w5:1 r5:1", "thh"),
            ("r0:0 w5:1 r6:1", "thh"),
            ("r0:0 r5:1 w6:1", "thh"),
            ("r0:0 r5:1 w9:1", "thh"),
            ("r0:0 w5:1 w9:1", "thh"),
            // And a request of its own.
            ("r0:0 w5:1 r7:1", "tht"),
            ("r0:0 w5:1 r4:1", "tht"),
            ("r0:0 w5:1 r6:1 r6:1", "thht"),
            ("r0:0 r5:1 w6:1 r6:1", "thht"),
            ("r0:0 w5:1 w6:1 r8:1", "thht"),
            // A full one resets.
            ("r0:0 w5:1 r6:0 r7:1", "thth"),
        ] {
            assert_eq!(play(true, readings), expected, "{readings}");
            assert_eq!(play(false, readings), "t".repeat(expected.len()), "{readings}");
        }
    }
}
