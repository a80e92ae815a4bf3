//! The end of what runs a command: its grace may be longer than the drain of everything else.

use std::time::Duration;

use daemon::signals::{Request, Signals};
use tokio::task::{JoinError, JoinHandle};

use crate::child::Command;

/// How much later than the last of its own times it may end.
const MOMENT: Duration = Duration::from_secs(1);

/// What the end may take: the command's grace, and telling the store.
pub fn longest(command: Option<&Command>, telling: Duration) -> Duration {
    command.map(Command::grace).unwrap_or_default() + telling + MOMENT
}

/// Waits for what is ending, unless another signal comes: then the process ends at once. The guard kills the command, and the store
/// learns of the end by the ttl.
///
/// # Errors
/// When signals cannot be caught.
pub async fn unless_signalled<T>(ending: JoinHandle<T>) -> anyhow::Result<Result<T, JoinError>> {
    let signals = Signals::install()?;
    tokio::select! {
        ended = ending => Ok(ended),
        () = another(signals) => {
            tracing::warn!("second signal: ending at once");
            daemon::log::flush();
            std::process::exit(daemon::error::exit::FAILED.into())
        }
    }
}

async fn another(mut signals: Signals) {
    while signals.next().await == Request::Reload {
        tracing::info!("SIGHUP ignored: the agent is ending");
    }
}
