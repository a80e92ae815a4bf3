//! When which child ran: read from what the children themselves wrote.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use testkit::{TempDir, eventually};

use crate::harness::SOON;

/// The time for which one child was seen alive, in nanoseconds of the host's clock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) token: u64,
    pub(crate) pid: i32,
}

/// The folder that the children of one test beat into.
pub(crate) struct Beats(TempDir);

impl Beats {
    pub(crate) fn new() -> Self {
        Self(TempDir::new())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// Every child's life so far, in order of their beginnings.
    pub(crate) fn lives(&self) -> Vec<Life> {
        let files = std::fs::read_dir(&*self.0).unwrap().map(|file| file.unwrap());
        let mut lives: Vec<Life> = files.filter_map(|file| life(&file.path())).collect();
        lives.sort_unstable();
        lives
    }

    /// The child that beats after `time`.
    pub(crate) async fn after(&self, time: u64, limit: Duration) -> Life {
        eventually("a child to beat", limit, async || self.lives().into_iter().find(|life| life.last > time))
            .await
    }

    /// The first child that began after `time`.
    pub(crate) async fn next(&self, time: u64) -> Life {
        eventually("another child to beat", SOON, async || {
            self.lives().into_iter().find(|life| life.first > time)
        })
        .await
    }

    /// No two children at a time, and each token is greater than all before; gives how many children there were.
    pub(crate) fn assert_one_at_a_time(&self) -> usize {
        let lives = self.lives();
        for pair in lives.windows(2) {
            assert!(pair[0].last < pair[1].first, "two at a time: {pair:?}");
            assert!(pair[0].token <= pair[1].token, "tokens: {pair:?}");
        }
        lives.len()
    }
}

/// Its first and its last whole line; what is between can be long.
fn life(path: &Path) -> Option<Life> {
    let (token, pid) = path.file_name()?.to_str()?.split_once('-')?;
    let file = File::open(path).ok()?;
    let (mut head, mut tail) = ([0; 32], [0; 64]);
    let read = file.read_at(&mut head, 0).ok()?;
    let first = number(str::from_utf8(&head[..read]).ok()?.split_once('\n')?.0)?;
    let length = file.metadata().ok()?.len();
    let read = file.read_at(&mut tail, length.saturating_sub(64)).ok()?;
    let (whole, _) = str::from_utf8(&tail[..read]).ok()?.rsplit_once('\n')?;
    let last = number(whole.rsplit('\n').next()?)?;
    Some(Life { first, last, token: token.parse().ok()?, pid: pid.parse().ok()? })
}

fn number(line: &str) -> Option<u64> {
    line.parse().ok()
}
