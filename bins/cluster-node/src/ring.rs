//! The events that are kept for those who come back. Pure but for its lock.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use cluster::Event;
use tokio::sync::watch;

use crate::event::cost;

/// Events that are kept.
const EVENTS: usize = 10_000;
/// Their bytes, about.
const BYTES: usize = 64 << 20;
/// Bytes that a reader takes in one go, but for a single event that is larger.
const PORTION_BYTES: usize = 1 << 20;

/// An event with its number, which counts from 1 in each run of the node.
#[derive(Debug)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// When it was taken in.
    pub at: SystemTime,
    /// What happened.
    pub event: Event,
}

/// What a reader gets.
#[derive(Debug)]
pub enum Piece {
    /// So many events are no longer there.
    Gap(u64),
    /// The next one.
    Entry(Arc<Entry>),
}

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// The number of the newest.
    newest: u64,
}

/// The newest events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ring {
    kept: Arc<Mutex<Kept>>,
    news: Arc<watch::Sender<u64>>,
    run: Arc<str>,
    bounds: (usize, usize),
}

impl Ring {
    /// An empty one; `run` tells this run of the node from others.
    pub fn new(run: u64) -> Self {
        Self::with_bounds(run, EVENTS, BYTES)
    }

    fn with_bounds(run: u64, events: usize, bytes: usize) -> Self {
        let run = format!("{run:08x}").into();
        Self { kept: Arc::default(), news: Arc::new(watch::channel(0).0), run, bounds: (events, bytes) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds events, and wakes readers.
    pub fn add(&self, events: &[Event], at: SystemTime) {
        let newest = {
            let mut kept = self.lock();
            for event in events {
                kept.newest += 1;
                kept.bytes += cost(event);
                let entry = Entry { number: kept.newest, at, event: event.clone() };
                kept.entries.push_back(Arc::new(entry));
            }
            while kept.entries.len() > self.bounds.0 || (kept.bytes > self.bounds.1 && kept.entries.len() > 1)
            {
                if let Some(oldest) = kept.entries.pop_front() {
                    kept.bytes -= cost(&oldest.event);
                }
            }
            kept.newest
        };
        self.news.send_replace(newest);
    }

    /// How many are kept, their bytes, and the number of the newest.
    pub fn usage(&self) -> (usize, usize, u64) {
        let kept = self.lock();
        (kept.entries.len(), kept.bytes, kept.newest)
    }

    /// The name of an event across runs of the node.
    pub fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.run)
    }

    /// A reader of what comes from now on.
    pub fn from_now(&self) -> Reader {
        let news = self.news.subscribe();
        Reader { ring: self.clone(), seen: self.lock().newest, news }
    }

    /// A reader of what came after the event of this id: `RUN-NUMBER`, or a number of this run. Of another run it is
    /// not known how many are missing: it reads all that there are.
    ///
    /// # Errors
    /// When that is no id.
    pub fn after(&self, id: &str) -> Result<Reader, String> {
        let (run, number) = id.rsplit_once('-').map_or((None, id), |(run, number)| (Some(run), number));
        let number: u64 =
            number.parse().map_err(|_| format!("Last-Event-ID: '{id}' is no id of an event"))?;
        let news = self.news.subscribe();
        let newest = self.lock().newest;
        let ours = run.is_none_or(|run| *run == *self.run) && number <= newest;
        Ok(Reader { ring: self.clone(), seen: if ours { number } else { 0 }, news })
    }
}

/// Reads from the ring, in order.
#[derive(Debug)]
pub struct Reader {
    ring: Ring,
    seen: u64,
    news: watch::Receiver<u64>,
}

impl Reader {
    /// What is there, up to so many and about a mebibyte; empty when there is nothing new.
    pub fn read(&mut self, most: usize) -> Vec<Piece> {
        self.news.mark_unchanged();
        let kept = self.ring.lock();
        let mut pieces = Vec::new();
        let first = kept.entries.front().map_or(kept.newest + 1, |entry| entry.number);
        if first > self.seen + 1 {
            pieces.push(Piece::Gap(first - self.seen - 1));
            self.seen = first - 1;
        }
        let skip = usize::try_from(self.seen + 1 - first).unwrap_or(usize::MAX);
        let mut bytes = 0;
        for entry in kept.entries.iter().skip(skip).take(most) {
            bytes += cost(&entry.event);
            if bytes > PORTION_BYTES && bytes > cost(&entry.event) {
                break;
            }
            self.seen = entry.number;
            pieces.push(Piece::Entry(Arc::clone(entry)));
        }
        pieces
    }

    /// Waits until there is something new; false when nothing will ever come.
    pub async fn news(&mut self) -> bool {
        if *self.news.borrow_and_update() > self.seen {
            return true;
        }
        self.news.changed().await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pieces: &[Piece]) -> Vec<String> {
        let text = |piece: &Piece| match piece {
            Piece::Gap(count) => format!("gap {count}"),
            Piece::Entry(entry) => entry.number.to_string(),
        };
        pieces.iter().map(text).collect()
    }

    fn add(ring: &Ring, count: u64) {
        for _ in 0..count {
            ring.add(&[Event::Quorum(true)], SystemTime::UNIX_EPOCH);
        }
    }

    #[tokio::test]
    async fn a_reader_goes_on_where_it_was_and_hears_of_what_is_gone() {
        let ring = Ring::with_bounds(7, 4, 1 << 20);
        add(&ring, 2);
        let mut now = ring.from_now();
        assert!(now.read(10).is_empty());
        add(&ring, 1);
        assert!(now.news().await);
        assert_eq!(seen(&now.read(10)), ["3"]);
        assert_eq!(seen(&ring.after("1").unwrap().read(1)), ["2"]);
        assert_eq!(seen(&ring.after(&ring.id(2)).unwrap().read(10)), ["3"]);
        add(&ring, 5);
        assert_eq!(seen(&now.read(2)), ["gap 1", "5", "6"]);
        assert_eq!(seen(&now.read(10)), ["7", "8"]);
        assert!(now.read(10).is_empty());
        assert_eq!(seen(&ring.after("0").unwrap().read(1)), ["gap 4", "5"]);
        // Of another run, or of the future: all there is.
        for id in ["00000001-7", "99"] {
            assert_eq!(seen(&ring.after(id).unwrap().read(1)), ["gap 4", "5"], "{id}");
        }
        assert!(ring.after("x").is_err() && ring.after("").is_err());
    }

    #[test]
    fn bytes_are_bounded_and_the_newest_stays() {
        let ring = Ring::with_bounds(7, 100, 300);
        add(&ring, 10);
        assert_eq!(ring.usage(), (2, 256, 10));
        let line = cluster::LogLine { level: cluster::Level::Info, message: "x".repeat(1000) };
        ring.add(&[Event::Log(line)], SystemTime::UNIX_EPOCH);
        assert_eq!(ring.usage().0, 1);
    }
}
