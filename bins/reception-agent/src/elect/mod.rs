//! `elect`: stands for the leadership of a name, and runs the command while it leads.

pub mod decide;
pub mod drive;
pub mod terms;

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use daemon::forward::Forwarded;
use daemon::lifecycle::Lifecycle;
use daemon::{Failure, Start};
use reception::{Candidate, Elector, Service};
use serde_json::json;
use supervise::Boottime;
use tokio::time::Instant;

pub use self::terms::Terms;
use crate::child::Command;
use crate::config::Config;
use crate::ending;
use crate::trouble::{self, Trouble};
use decide::{Fell, Leading};
use drive::Drive;

/// Campaigns until it is told to end.
///
/// # Errors
/// What kept it from starting; 1 where the store gives smaller tokens than before.
pub fn run(start: Start<Config>, name: &str) -> anyhow::Result<()> {
    let Some(instance) = &start.config.instance else {
        return Err(Failure::usage("a name is needed").into());
    };
    let service = instance.service(name).map_err(|error| Failure::usage(error.to_string()))?;
    let command = Command::of(&start, instance, &service);
    let terms = Terms::of(start.config.ttl, instance.grace);
    let timeout = start.config.timeout * 2;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut lifecycle = Lifecycle::new(&start)?;
        let forwarded = Forwarded::install()?;
        let elector = start.config.client.elector(service);
        // The drain is over when the command is dead and the line is left.
        lifecycle.own_end = ending::longest(command.as_ref(), timeout);
        let (drain, running) = (lifecycle.drain.clone(), lifecycle.drain.guard());
        let campaign = tokio::spawn(async move {
            let ended = match command {
                Some(command) => {
                    let leading = Leading::new(terms);
                    let drive = Drive { elector, leading, command, timeout, drain: drain.clone(), forwarded };
                    drive.run().await.map_err(failed)
                }
                None => {
                    let ended = tokio::select! {
                        ended = announce(&elector, terms) => ended,
                        () = drain.draining() => Ok(()),
                    };
                    cancel(&elector, timeout).await;
                    ended
                }
            };
            drain.begin();
            drop(running);
            ended
        });
        lifecycle.run(|_: Config, _| Ok(())).await;
        ending::unless_signalled(campaign).await?.context("the campaign broke")
    });
    runtime.shutdown_background();
    Ok(ended??)
}

/// Prints whether it leads, then each change. It leads no longer than others may rely on it.
async fn announce(elector: &Elector, terms: Terms) -> Result<(), Failure> {
    let Service { name, id, .. } = elector.service();
    let what = format!("the election of {name}");
    let (begin, mut trouble) = (Instant::now(), Trouble::default());
    let (mut changes, mut told, mut candidate) = (elector.changes(), None, Candidate::Away(None));
    let mut largest = 0;
    loop {
        let leads = terms.leads(&candidate, Boottime::now());
        let (fell, state) = match leads {
            Some((now, _)) if now < largest => (Some(Fell { before: largest, now }), None),
            _ => (None, leads.map(|(token, _)| token)),
        };
        largest = state.unwrap_or(largest);
        if told != Some(state) {
            told = Some(state);
            let line =
                json!({ "name": name, "id": id, "leader": state.is_some(), "token": state.unwrap_or(0) });
            let mut to = io::stdout().lock();
            let written = writeln!(to, "{line}").and_then(|()| to.flush());
            written.map_err(|error| Failure::running(format!("standard output: {error}")))?;
        }
        if let Some(fell) = fell {
            return Err(failed(fell));
        }
        trouble::log(trouble.see(begin.elapsed(), trouble_of(&candidate)), &what);
        // A long deadline is looked at again: the runtime's clock stands still while the host is suspended.
        let left = leads.map(|(_, end)| end.since(Boottime::now()).min(Duration::from_secs(1)));
        let due = trouble.due().map(|due| begin + due);
        tokio::select! {
            Some(changed) = changes.next() => candidate = changed,
            () = sleep(left) => {}
            () = reached(due) => {}
        }
    }
}

/// A supervisor starts it anew: then it knows nothing of the larger tokens.
fn failed(fell: Fell) -> Failure {
    tracing::error!("{fell}");
    Failure::running("the store gives smaller tokens than before")
}

/// Leaves the line. A store that is away does not hold that up for long.
async fn cancel(elector: &Elector, patience: Duration) {
    if tokio::time::timeout(patience, elector.cancel()).await.is_err() {
        tracing::warn!("the store was not told of the end: the place in the line ends by its ttl");
    }
}

/// Why it is out of the line, where it is.
fn trouble_of(candidate: &Candidate) -> Option<String> {
    match candidate {
        Candidate::Away(Some(why)) => Some(why.to_string()),
        _ => None,
    }
}

async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
