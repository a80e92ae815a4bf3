//! The command of `register` and `elect`, as a child under its guard.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use daemon::error::exit;
use daemon::{Failure, Start};
use reception::Service;
use supervise::{Child, Error, Exit, Spec, Status};

use crate::config::{Config, Instance};

/// The variable that may name the store with its password.
const BACKEND: &str = "RECEPTION_AGENT_BACKEND";

/// How the command is started.
#[derive(Clone, Debug)]
pub struct Command {
    words: Vec<String>,
    environment: Vec<(&'static str, String)>,
    grace: Duration,
}

impl Command {
    /// What follows `--`, or else the file's command; none where there is neither.
    pub fn of(start: &Start<Config>, instance: &Instance, service: &Service) -> Option<Self> {
        let given = start.arguments.all("command");
        let words = if given.is_empty() { instance.command.clone() } else { given.to_vec() };
        let environment = environment(service);
        (!words.is_empty()).then_some(Self { words, environment, grace: instance.grace })
    }

    /// Between SIGTERM and SIGKILL.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// What to start. `token` is that of the term, `kept` what the guard holds until all of it is dead.
    pub fn spec(&self, token: Option<u64>, kept: Option<&Arc<OwnedFd>>) -> Result<Spec, std::io::Error> {
        let (program, args) = self
            .words
            .split_first()
            .map_or((OsString::new(), &[][..]), |(program, args)| (OsString::from(program), args));
        let mut spec = shielded(Spec::new(program).args(args)).grace(self.grace);
        for (key, value) in &self.environment {
            spec = spec.env(key, value);
        }
        if let Some(token) = token {
            spec = spec.env("RECEPTION_TOKEN", token.to_string());
        }
        match kept {
            Some(kept) => Ok(spec.keep(kept.try_clone()?)),
            None => Ok(spec),
        }
    }
}

/// What commands and hooks know of the instance.
pub fn environment(service: &Service) -> Vec<(&'static str, String)> {
    vec![
        ("RECEPTION_NAME", service.name.to_string()),
        ("RECEPTION_ID", service.id.clone()),
        ("RECEPTION_ADDRESS", service.address.clone()),
        ("RECEPTION_PORT", service.port.to_string()),
    ]
}

/// Without what is the agent's own: systemd's words to it, and the store's password.
pub fn shielded(spec: Spec) -> Spec {
    let own = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
    let spec = own.into_iter().fold(spec, Spec::env_remove);
    match std::env::var(BACKEND) {
        Ok(url) if http_fetch::url::has_password(&url) => spec.env_remove(BACKEND),
        _ => spec,
    }
}

/// As a shell tells it: the code, 128 and the signal, or 1 where it is not known.
pub fn exit_code(status: Status) -> u8 {
    match status {
        Status::Code(code) => u8::try_from(code & 0xff).unwrap_or(exit::FAILED),
        Status::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        Status::Unknown => exit::FAILED,
    }
}

/// With the code that a shell ends with for a command that it cannot start.
pub fn not_started(error: &Error) -> Failure {
    let code = match error {
        Error::NotFound { .. } => 127,
        Error::NotExecutable { .. } | Error::Exec { .. } | Error::Directory { .. } => 126,
        _ => exit::FAILED,
    };
    Failure::code(code, error.to_string())
}

/// Its end; never where there is none.
pub async fn ended(child: Option<&Child>) -> Exit {
    match child {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}

/// Tells the guard something.
pub fn tell(child: Option<&Child>, what: &str, order: impl FnOnce(&Child) -> Result<(), Error>) {
    match child.map(order) {
        // Its end is told next.
        None | Some(Ok(()) | Err(Error::Gone)) => {}
        Some(Err(error)) => tracing::error!(%error, "the guard was not told {what}; its deadline holds"),
    }
}
