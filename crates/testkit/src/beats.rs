//! When which child ran: read from what the children themselves wrote. A child calls [`beat`], a test reads [`Beats`].

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::temp::TempDir;
use crate::wait::eventually;

/// Long enough for anything that is not stuck.
const SOON: Duration = Duration::from_secs(30);
/// The variable that names the folder to a child.
pub const FOLDER: &str = "BEATS";

/// Nanoseconds of the clock that leases are counted by.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// What a child does: one line with the time each 2 ms, in a file of its own in the folder of [`FOLDER`]; never longer than any test.
/// `token` is that under which it runs.
pub fn beat(token: &str) {
    let folder = std::env::var(FOLDER).unwrap_or_default();
    let path = format!("{folder}/{token}-{}", std::process::id());
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("the folder is there");
    let begin = now();
    while now() - begin < 3_600_000_000_000 {
        file.write_all(format!("{}\n", now()).as_bytes())
            .expect("a file in a temporary directory can be written");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The time for which one child was seen alive, in nanoseconds of the host's clock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// Its first beat.
    pub first: u64,
    /// Its latest one.
    pub last: u64,
    /// What it ran under.
    pub token: u64,
    /// Its process.
    pub pid: i32,
}

/// The folder that the children of one test beat into.
#[derive(Debug)]
pub struct Beats(TempDir);

impl Beats {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "a default value that touches the disk would surprise")]
    pub fn new() -> Self {
        Self(TempDir::new())
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Every child's life so far, in order of their beginnings.
    pub fn lives(&self) -> Vec<Life> {
        let files = std::fs::read_dir(&*self.0).expect("the folder is there").filter_map(Result::ok);
        let mut lives: Vec<Life> = files.filter_map(|file| life(&file.path())).collect();
        lives.sort_unstable();
        lives
    }

    /// The child that beats after `time`.
    pub async fn after(&self, time: u64, limit: Duration) -> Life {
        eventually("a child to beat", limit, async || self.lives().into_iter().find(|life| life.last > time))
            .await
    }

    /// The first child that began after `time`.
    pub async fn next(&self, time: u64) -> Life {
        eventually("another child to beat", SOON, async || {
            self.lives().into_iter().find(|life| life.first > time)
        })
        .await
    }

    /// No two children at a time, and each token is greater than all before; gives how many children there were.
    pub fn assert_one_at_a_time(&self) -> usize {
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
