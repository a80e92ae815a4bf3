//! The command as a child under its guard.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::time::Duration;

use supervise::{Boottime, Child, Error, Io, Spec};

use super::decide::Event;
use super::messages::Pipes;

/// The child's descriptor for acknowledgements.
const ACKS: i32 = 3;
/// The variable that may name the store with its password.
const LOCK: &str = "GONE_RUNNER_LOCK";

/// How the command is started.
#[derive(Clone, Debug)]
pub struct Command {
    /// The command with its arguments.
    pub words: Vec<String>,
    /// What runs once.
    pub id: String,
    /// The lease's expiry.
    pub expiry: Duration,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// It acknowledges messages itself.
    pub acknowledges: bool,
}

impl Command {
    /// The variables that it gets beside the runner's own.
    pub fn environment(&self, token: u64) -> Vec<(String, String)> {
        vec![
            ("GONE_ID".to_owned(), self.id.clone()),
            ("GONE_FENCING_TOKEN".to_owned(), token.to_string()),
            ("GONE_EXPIRY_MS".to_owned(), self.expiry.as_millis().to_string()),
        ]
    }

    /// What to start. `lock` is the descriptor that keeps the lease, where there is one.
    pub fn spec(&self, token: u64, lock: Option<OwnedFd>) -> Spec {
        let (program, args) = self
            .words
            .split_first()
            .map_or((OsString::new(), &[][..]), |(program, args)| (OsString::from(program), args));
        let mut spec = Spec::new(program).args(args).stdin(Io::Pipe).grace(self.grace);
        // A runner under systemd: what is said there is not the child's to say.
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            spec = spec.env_remove(variable);
        }
        // The store's password is the runner's secret.
        if std::env::var(LOCK).is_ok_and(|url| gone::lock::has_password(&url)) {
            spec = spec.env_remove(LOCK);
        }
        for (key, value) in self.environment(token) {
            spec = spec.env(key, value);
        }
        if self.acknowledges {
            spec = spec.output(ACKS);
        }
        lock.map_or(spec.clone(), |lock| spec.unlock_last(lock))
    }
}

/// The child's ends of the messages, which it has once.
pub fn pipes(child: &mut Child) -> Option<Pipes> {
    Some(Pipes { stdin: child.stdin()?, acks: child.output(ACKS) })
}

/// An instant of the lease's clock as the guard's, which is the same clock.
pub fn instant(at: Duration) -> Boottime {
    Boottime::from_nanos(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX))
}

/// What it means that the command was not started.
pub fn failure(error: &Error) -> Event {
    match error {
        Error::TooLate { .. } => Event::TooLate,
        Error::NotFound { .. } => Event::NotStarted { code: 127 },
        Error::NotExecutable { .. } | Error::Exec { .. } | Error::Directory { .. } => {
            Event::NotStarted { code: 126 }
        }
        _ => Event::NotStarted { code: 1 },
    }
}
