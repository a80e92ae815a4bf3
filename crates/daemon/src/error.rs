//! What makes a daemon end, with the exit code that supervisors and scripts go by.

use crate::state_dir::StateDirError;
use crate::tls::TlsError;

/// Exit codes of every daemon.
pub mod exit {
    /// Done.
    pub const DONE: u8 = 0;
    /// Failed while running.
    pub const FAILED: u8 = 1;
    /// Called in a way that the help does not have.
    pub const USAGE: u8 = 2;
    /// Configuration or state that has to be put right first (sysexits' EX_CONFIG), so that
    /// supervisors know that another start will not help.
    pub const CONFIG: u8 = 78;
}

/// A failure with its exit code and one sentence that names what failed, on what, and what to do.
///
/// Any other error that leaves a daemon's `run` counts as [`exit::FAILED`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Failed while running: exit 1.
    pub fn running(message: impl Into<String>) -> Self {
        Self { code: exit::FAILED, message: message.into() }
    }

    /// Called wrongly: exit 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: exit::USAGE, message: message.into() }
    }

    /// Configuration, or state of a newer format: exit 78.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self { code: exit::CONFIG, message: message.into() }
    }

    /// Another code, such as that of a child which ended.
    pub fn code(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The exit code.
    pub const fn exit_code(&self) -> u8 {
        self.code
    }
}

/// The exit code for an error that ended a daemon's `run`.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.exit_code();
    }
    // Another start meets the same files, so supervisors have to know.
    let newer = matches!(error.downcast_ref(), Some(StateDirError::Newer { .. }));
    if newer || error.is::<TlsError>() { exit::CONFIG } else { exit::FAILED }
}
