//! Telling that the content of the file changed, by looking at it again and again (docs/adr/0025).

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::Error;
use super::file::{self, Content, Known, LastRead, Seen, Stamp};

/// How often to look: twice within two seconds, with room for a slow system.
pub const EVERY: Duration = Duration::from_millis(500);

/// For so long after a stamp was first seen, the file may be written to without another stamp: that of a
/// coarse file system counts in whole or even seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// After so many looks in a row that each showed something else, the content is taken as it was read: a
/// file that never rests is told within 2 s, too.
const RESTLESS: u32 = 3;

/// What one look at the file showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Its stamp tells that the content is what is in force, so that it was not read again.
    SameStamp,
    /// It was read, under this stamp.
    Content(Stamp, file::Hash),
    /// It could not be.
    Unreadable,
}

/// What there is to reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// What the look showed.
    pub seen: Seen,
    /// Whether the look before showed the same version.
    pub settled: bool,
}

/// What was read because it is other than what was known.
#[derive(Debug)]
pub struct Change {
    /// The content, or why there is none.
    pub read: Result<Content, Error>,
    /// The number of the last reading before the look. When there was another since, this one is the older.
    pub after: u64,
    /// Whether two looks in a row showed this version. If not, it may be half of what somebody is writing.
    pub settled: bool,
}

/// Decides when to read and what is a change.
///
/// A change counts when two looks in a row show the same version, so that a file is not taken while it is being
/// written. One that changes from look to look is told unsettled, from the third look on.
#[derive(Debug, Clone, Default)]
pub struct Watcher {
    /// What was read last.
    read: Option<Reading>,
    /// What the last look showed, where that has to be seen again.
    candidate: Option<Candidate>,
    /// How many looks in a row showed something new, and the number of the last reading then.
    restless: (u32, u64),
    /// What was told last, and the number of the last reading then: not to be told again before the next.
    told: Option<(Seen, u64)>,
}

/// What has to be seen again: the same content, and not written anew in between.
type Candidate = (Seen, Option<Stamp>);

/// One reading of the content.
#[derive(Debug, Clone, Copy)]
struct Reading {
    stamp: Stamp,
    hash: file::Hash,
    /// When the stamp was first seen.
    since: Instant,
    /// When the content was read.
    at: Instant,
}

impl Watcher {
    /// Whether the content has to be read, now that the file has this stamp.
    #[must_use]
    pub fn must_read(&self, stamp: &Stamp, known: Known) -> bool {
        let settled = |read: &Reading| {
            read.stamp == *stamp
                && read.at >= read.since + SETTLED
                && known.seen == Some(Seen::Content(read.hash))
        };
        !self.read.as_ref().is_some_and(settled)
    }

    /// Takes in what a look showed at the time `now`, and says what there is to reload.
    ///
    /// `known` is what was last read to be put in force, by whatever cause.
    pub fn look(&mut self, look: Look, known: Known, now: Instant) -> Option<Told> {
        let (seen, stamp) = match look {
            Look::SameStamp => return self.rest(),
            Look::Content(stamp, hash) => {
                let since = self.read.filter(|read| read.stamp == stamp).map_or(now, |read| read.since);
                self.read = Some(Reading { stamp, hash, since, at: now });
                (Seen::Content(hash), Some(stamp))
            }
            Look::Unreadable => {
                self.read = None;
                (Seen::Unreadable, None)
            }
        };
        if known.seen == Some(seen) || self.told == Some((seen, known.number)) {
            return self.rest();
        }
        self.told = None;
        if self.candidate == Some((seen, stamp)) {
            self.rest();
            self.told = Some((seen, known.number));
            return Some(Told { seen, settled: true });
        }
        self.candidate = Some((seen, stamp));
        let looks = if self.restless.1 == known.number { self.restless.0 + 1 } else { 1 };
        self.restless = (looks.min(RESTLESS), known.number);
        // That there is no file for a moment is no content to take.
        (looks >= RESTLESS && seen != Seen::Unreadable).then_some(Told { seen, settled: false })
    }

    /// Nothing has to be seen again.
    fn rest(&mut self) -> Option<Told> {
        self.candidate = None;
        self.restless = (0, 0);
        None
    }

    /// Looks at the file at `path` and hands over what was read, where there is something to reload.
    ///
    /// Reads the disk, so this may take a while.
    pub fn look_at(&mut self, path: &Path, max: u64, known: Known, now: Instant) -> Option<Change> {
        let read = match Stamp::of(path) {
            Ok(stamp) if !self.must_read(&stamp, known) => {
                self.look(Look::SameStamp, known, now);
                return None;
            }
            Ok(_) => file::read(path, max),
            Err(error) => Err(error),
        };
        let look = match &read {
            Ok(content) => Look::Content(content.stamp, content.hash),
            Err(_) => Look::Unreadable,
        };
        let Told { settled, .. } = self.look(look, known, now)?;
        Some(Change { read, after: known.number, settled })
    }
}

/// Watches the file at `path` until it is dropped, and hands over what was read whenever that is other
/// than what `last_read` has: content to put in force, or why there is none. What is not taken is handed
/// over again after further looks.
///
/// `max` is asked for the size limit at each look, in bytes. Looks run on the runtime's blocking threads,
/// one at a time. `on_change` should pass the content on rather than build rings of it.
pub async fn watch(
    path: PathBuf,
    last_read: LastRead,
    max: impl Fn() -> u64,
    every: Duration,
    mut on_change: impl FnMut(Change),
) {
    let mut watcher = Watcher::default();
    loop {
        tokio::time::sleep(every).await;
        let (path, known, max) = (path.clone(), last_read.get(), max());
        let look = tokio::task::spawn_blocking(move || {
            let change = watcher.look_at(&path, max, known, Instant::now());
            (watcher, change)
        });
        // It fails only when the runtime ends.
        let Ok((back, change)) = look.await else { return };
        watcher = back;
        if let Some(change) = change {
            on_change(change);
        }
    }
}
