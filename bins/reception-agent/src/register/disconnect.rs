//! What is done when a registration was lost.

use std::time::Duration;

use reception::Service;
use supervise::{Boottime, Exit, Spec, Status, Why};

use crate::child;

/// How long a hook may take; then it is killed with all that it started.
pub const LONGEST: Duration = Duration::from_secs(30);

/// What is done when a registration was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnDisconnect {
    /// The agent ends, after the command.
    Exit,
    /// It is logged.
    Log,
    /// It is logged, and this line is run by `sh -c`.
    Command(String),
}

impl OnDisconnect {
    /// Out of the flag's text.
    pub fn of(text: &str) -> Self {
        match text {
            "exit" => Self::Exit,
            "log" => Self::Log,
            line => Self::Command(line.to_owned()),
        }
    }
}

/// Runs the line, for [`LONGEST`] at most, and logs how it ended where that was not well.
pub async fn hook(line: String, service: Service, why: String) {
    let mut spec = child::shielded(Spec::new("/bin/sh").arg("-c").arg(&line)).grace(Duration::from_secs(1));
    for (key, value) in child::environment(&service) {
        spec = spec.env(key, value);
    }
    let spec = spec.env("RECEPTION_REASON", why);
    let exit = match spec.spawn(Boottime::now() + LONGEST).await {
        Ok(child) => child.wait().await,
        Err(error) => {
            tracing::error!(%error, "the line of --on-disconnect was not started");
            return;
        }
    };
    match exit {
        Exit { status: Status::Code(0), .. } => {}
        Exit { why: Why::DeadlineReached, .. } => {
            tracing::warn!(
                "the line of --on-disconnect took more than {} s and was killed",
                LONGEST.as_secs()
            );
        }
        Exit { status, .. } => tracing::warn!(?status, "the line of --on-disconnect failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_words_are_no_lines() {
        assert_eq!(OnDisconnect::of("exit"), OnDisconnect::Exit);
        assert_eq!(OnDisconnect::of("log"), OnDisconnect::Log);
        assert_eq!(OnDisconnect::of("exit 1"), OnDisconnect::Command("exit 1".into()));
    }
}
