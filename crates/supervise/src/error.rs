//! What can go wrong with a child, in sentences for the user.

use std::ffi::OsStr;
use std::io;

use crate::report::Step;

/// Why a child was not started, or could not be told something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program's `main` does not call [`crate::enter`] first.
    #[error("no child can be started: this program does not begin with supervise::enter()")]
    NotEntered,
    /// The specification of the child is not one.
    #[error("{program} cannot be started: {what}")]
    Spec {
        /// The command.
        program: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There was no guard to be had.
    #[error(
        "no guard for {program} could be started ({source}); it needs /proc, Linux 5.9, and free processes and descriptors"
    )]
    NoGuard {
        /// The command.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The guard ended before it had started the child, and left nothing of it.
    #[error(
        "the guard of {program} ended before it could start it; something on this host killed it, or the kernel is older than Linux 5.9"
    )]
    GuardLost {
        /// The command.
        program: String,
    },
    /// No such command.
    #[error(
        "{program}: command not found; check its spelling and PATH, or give its full path; of a script, check its first line"
    )]
    NotFound {
        /// The command.
        program: String,
    },
    /// The command's file may not be executed.
    #[error(
        "{program} may not be executed; make it executable (chmod +x), and check that its file system is not mounted noexec"
    )]
    NotExecutable {
        /// The command.
        program: String,
    },
    /// The command could not be executed for another reason.
    #[error("{program} could not be executed: {source}")]
    Exec {
        /// The command.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The working directory could not be entered.
    #[error("{program} was not started: its working directory {directory} cannot be entered: {source}")]
    Directory {
        /// The command.
        program: String,
        /// The working directory.
        directory: String,
        /// What the system said.
        source: io::Error,
    },
    /// The deadline less the grace had passed before the child could be started.
    #[error("{program} was not started: the time until it would have to be stopped is over already")]
    TooLate {
        /// The command.
        program: String,
    },
    /// The guard is gone, and so is the child or will be at once: `wait` tells when.
    #[error("the child's guard has ended")]
    Gone,
    /// The guard takes no more orders for now. Those before this one hold, the deadline among them.
    #[error("the child's guard does not read what it is told; the last deadline that it took stays")]
    Deaf,
    /// Not a signal that can be forwarded.
    #[error("{0} is not the number of a signal that can be sent")]
    Signal(i32),
}

/// The error for what the guard reported.
pub(crate) fn failed(step: Step, number: i32, program: &OsStr, directory: Option<&OsStr>) -> Error {
    let source = io::Error::from_raw_os_error(number);
    let directory = directory.map(|path| path.display().to_string()).unwrap_or_default();
    let program = program.display().to_string();
    match (step, source.kind()) {
        (Step::Deadline, _) => Error::TooLate { program },
        (Step::Setup, _) => Error::NoGuard { program, source },
        (Step::Directory, _) => Error::Directory { program, directory, source },
        (Step::Exec, io::ErrorKind::NotFound) => Error::NotFound { program },
        (Step::Exec, io::ErrorKind::PermissionDenied) => Error::NotExecutable { program },
        (Step::Exec, _) => Error::Exec { program, source },
    }
}
