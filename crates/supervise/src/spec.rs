//! What is to be started.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::boottime::Boottime;
use crate::child::{self, Child};
use crate::error::Error;
use crate::plan::{LARGEST, Plan};

/// The variable by which a child and its descendants can be found when their guard was killed.
pub(crate) const MARK: &str = "SUPERVISE_CHILD";
/// The highest number for a descriptor of the child.
const HIGHEST: i32 = 63;
/// How many descriptors a guard keeps for others at most.
const MOST_KEPT: usize = 32;

/// Where one of the child's three standard descriptors leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// Where this process's own one leads.
    Inherit,
    /// Nowhere.
    Null,
    /// To this process, by a pipe.
    Pipe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToChild,
    FromChild,
}

/// A command with all that belongs to it. It can be started again and again.
#[derive(Clone, Debug)]
pub struct Spec {
    program: OsString,
    args: Vec<OsString>,
    env: BTreeMap<OsString, Option<OsString>>,
    directory: Option<PathBuf>,
    standard: [Io; 3],
    pipes: Vec<(i32, Way)>,
    kept: Vec<Arc<OwnedFd>>,
    /// Kept as well, and unlocked at the end.
    unlocked: Vec<Arc<OwnedFd>>,
    grace: Duration,
}

impl Spec {
    /// A command: a path, or a name to be looked for in the child's `PATH`. It inherits the environment, the
    /// working directory, stdout and stderr, reads nothing, and has no grace.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            directory: None,
            standard: [Io::Null, Io::Inherit, Io::Inherit],
            pipes: Vec::new(),
            kept: Vec::new(),
            unlocked: Vec::new(),
            grace: Duration::ZERO,
        }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// A variable of the child's environment, beside those that it inherits.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(key.into(), Some(value.into()));
        self
    }

    /// A variable that the child does not inherit.
    pub fn env_remove(mut self, key: impl Into<OsString>) -> Self {
        self.env.insert(key.into(), None);
        self
    }

    /// The directory in which it runs.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Where its stdin comes from. Default: nothing.
    pub fn stdin(mut self, io: Io) -> Self {
        self.standard[0] = io;
        self
    }

    /// Where its stdout goes. Default: where this process's goes.
    pub fn stdout(mut self, io: Io) -> Self {
        self.standard[1] = io;
        self
    }

    /// Where its stderr goes. Default: where this process's goes.
    pub fn stderr(mut self, io: Io) -> Self {
        self.standard[2] = io;
        self
    }

    /// A pipe that the child reads at this descriptor, 3 to 63: [`Child::input`] writes it.
    pub fn input(mut self, number: i32) -> Self {
        self.pipes.push((number, Way::ToChild));
        self
    }

    /// A pipe that the child writes at this descriptor, 3 to 63: [`Child::output`] reads it.
    pub fn output(mut self, number: i32) -> Self {
        self.pipes.push((number, Way::FromChild));
        self
    }

    /// A descriptor that the guard holds open until the child and all its descendants are dead; the child does
    /// not get it. With a file locked by `flock`, the lock stays as long, whatever becomes of this process. At
    /// most 32. This specification and its clones hold it too.
    pub fn keep(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.kept.push(Arc::new(descriptor.into()));
        self
    }

    /// As [`Self::keep`], for a file locked by `flock`; and when the deadline ended the child, the guard frees
    /// that lock for all who have a copy, as its last act. So a lock does not stay with a runner that is
    /// stopped or hangs. Such a runner, when it goes on, has to ask for the lock again before it trusts it.
    pub fn unlock_last(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.unlocked.push(Arc::new(descriptor.into()));
        self
    }

    /// The time between SIGTERM and SIGKILL. Default: none, so that only SIGKILL comes.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Starts it, under a guard of its own: SIGTERM at `kill_at` less the grace, SIGKILL at `kill_at`, unless
    /// [`Child::rearm`] moves that instant in time. Returns when the command runs; a future that is dropped
    /// before leaves nothing behind.
    ///
    /// # Errors
    ///
    /// When it was not started; nothing is left of it then, and the descriptors to be kept are free.
    pub async fn spawn(&self, kill_at: Boottime) -> Result<Child, Error> {
        child::spawn(self, kill_at).await
    }

    pub(crate) fn program(&self) -> &OsStr {
        &self.program
    }

    pub(crate) fn working_directory(&self) -> Option<&OsStr> {
        self.directory.as_ref().map(|path| path.as_os_str())
    }

    /// What is wrong with it, if anything is.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        let numbers: BTreeSet<i32> = self.pipes.iter().map(|(number, _)| *number).collect();
        let texts = self.args.iter().chain([&self.program]);
        if self.program.is_empty() {
            Some("the command is empty")
        } else if texts.into_iter().any(|text| text.as_bytes().contains(&0)) {
            Some("a command and its arguments hold no zero byte")
        } else if numbers.len() < self.pipes.len()
            || numbers.iter().any(|number| !(3..=HIGHEST).contains(number))
        {
            Some("descriptors for pipes are numbers from 3 to 63, each once")
        } else if self.kept.len() + self.unlocked.len() > MOST_KEPT {
            Some("a guard keeps at most 32 descriptors")
        } else {
            None
        }
    }

    /// The environment of the child, marked.
    fn environment(&self, mark: &str) -> Vec<(OsString, OsString)> {
        let mut env: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        for (key, value) in &self.env {
            match value {
                Some(value) => env.insert(key.clone(), value.clone()),
                None => env.remove(key),
            };
        }
        // A runner may be the child of another guard, whose mark then has to stay.
        let marks = env.entry(MARK.into()).or_default();
        if !marks.is_empty() {
            marks.push(":");
        }
        marks.push(mark);
        env.into_iter().collect()
    }

    /// The plan as a file in memory, the child's ends, and ours.
    pub(crate) fn prepare(&self, kill_at: Boottime, mark: &str) -> io::Result<Prepared> {
        let mut ends = Ends::default();
        for (number, io) in (0..).zip(self.standard) {
            match (io, number) {
                (Io::Pipe, 0) => ends.pipe(number, Way::ToChild)?,
                (Io::Pipe, _) => ends.pipe(number, Way::FromChild)?,
                (Io::Null, _) => ends.give(number, null()?),
                (Io::Inherit, _) => ends.give(number, own(number)?),
            }
        }
        for (number, way) in &self.pipes {
            ends.pipe(*number, *way)?;
        }
        let plan = Plan {
            program: self.program.clone(),
            args: self.args.clone(),
            env: self.environment(mark),
            directory: self.working_directory().map(OsStr::to_owned),
            targets: ends.targets,
            unlocked: self.unlocked.len() as u64,
            kill_at,
            grace: self.grace,
        };
        let bytes = plan.encode();
        if bytes.len() > LARGEST {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::TOOBIG.raw_os_error()));
        }
        let file = rustix::fs::memfd_create("supervise-plan", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(file);
        io::Write::write_all(&mut file, &bytes)?;
        io::Seek::rewind(&mut file)?;
        Ok(Prepared { plan: file.into(), given: ends.given, inputs: ends.inputs, outputs: ends.outputs })
    }

    pub(crate) fn kept(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.kept.iter().chain(&self.unlocked).map(|fd| fd.as_fd())
    }
}

/// All descriptors of one start.
pub(crate) struct Prepared {
    pub(crate) plan: OwnedFd,
    /// The child's.
    pub(crate) given: Vec<OwnedFd>,
    /// Our ends of what the child reads, by the child's number.
    pub(crate) inputs: Vec<(i32, OwnedFd)>,
    /// Our ends of what the child writes.
    pub(crate) outputs: Vec<(i32, OwnedFd)>,
}

#[derive(Default)]
struct Ends {
    targets: Vec<i32>,
    given: Vec<OwnedFd>,
    inputs: Vec<(i32, OwnedFd)>,
    outputs: Vec<(i32, OwnedFd)>,
}

impl Ends {
    fn give(&mut self, number: i32, fd: OwnedFd) {
        self.targets.push(number);
        self.given.push(fd);
    }

    fn pipe(&mut self, number: i32, way: Way) -> io::Result<()> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        match way {
            Way::ToChild => {
                self.inputs.push((number, write));
                self.give(number, read);
            }
            Way::FromChild => {
                self.outputs.push((number, read));
                self.give(number, write);
            }
        }
        Ok(())
    }
}

fn null() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

fn own(number: i32) -> io::Result<OwnedFd> {
    match number {
        0 => io::stdin().as_fd().try_clone_to_owned(),
        1 => io::stdout().as_fd().try_clone_to_owned(),
        _ => io::stderr().as_fd().try_clone_to_owned(),
    }
}

/// A mark that no other child of this host has had since it was started.
pub(crate) fn fresh_mark() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{}-{count}", std::process::id(), Boottime::now().as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_started_is_told() {
        assert_eq!(Spec::new("true").input(3).output(63).problem(), None);
        assert!(Spec::new("").problem().is_some());
        assert!(Spec::new("true").arg("a\0b").problem().is_some());
        assert!(Spec::new("true").input(2).problem().is_some());
        assert!(Spec::new("true").output(64).problem().is_some());
        assert!(Spec::new("true").input(3).output(3).problem().is_some());
    }

    #[test]
    fn marks_add_up_and_variables_come_and_go() {
        let spec = Spec::new("true").env(MARK, "outer").env("NEW", "1").env_remove("PATH");
        let env: BTreeMap<_, _> = spec.environment("inner").into_iter().collect();
        assert_eq!(env.get(OsStr::new(MARK)), Some(&"outer:inner".into()));
        assert_eq!(env.get(OsStr::new("NEW")), Some(&"1".into()));
        assert_eq!(env.get(OsStr::new("PATH")), None);
        assert_ne!(fresh_mark(), fresh_mark());
    }
}
