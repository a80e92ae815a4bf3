//! The loop of `elect` with a command: what happens goes to the decisions, and what they say is done.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use daemon::drain::Drain;
use daemon::forward::Forwarded;
use futures_util::FutureExt;
use reception::{Candidate, Elector};
use supervise::{Boottime, Child, Error};
use tokio::time::Instant;

use super::decide::{Action, Event, Fell, Leading};
use super::{cancel, trouble_of};
use crate::child::{self, Command};
use crate::form::millis;
use crate::trouble::{self, Trouble};

type Spawning = Pin<Box<dyn Future<Output = Result<Child, Error>> + Send>>;

/// Everything that a campaign runs with.
pub struct Drive {
    /// The candidate.
    pub elector: Elector,
    /// The decisions.
    pub leading: Leading,
    /// What to start.
    pub command: Command,
    /// How long leaving the line may hold up the end.
    pub timeout: Duration,
    /// Says when to end.
    pub drain: Drain,
    /// For the command.
    pub forwarded: Forwarded,
}

#[derive(Default)]
struct Now {
    spawning: Option<Spawning>,
    child: Option<Child>,
}

impl Drive {
    /// Campaigns until it is told to end.
    ///
    /// # Errors
    /// When the store gives smaller tokens than before. The command is dead, and the line is left.
    pub async fn run(mut self) -> Result<(), Fell> {
        let what = format!("the election of {}", self.elector.service().name);
        let (mut now, mut changes) = (Now::default(), self.elector.changes());
        let (begin, mut trouble, mut quitting) = (Instant::now(), Trouble::default(), false);
        loop {
            let due = trouble.due().map(|due| begin + due);
            let event = tokio::select! {
                biased;
                Some(candidate) = changes.next() => {
                    trouble::log(trouble.see(begin.elapsed(), trouble_of(&candidate)), &what);
                    let name = &self.elector.service().name;
                    match &candidate {
                        Candidate::Waiting => tracing::info!(%name, "in the line"),
                        Candidate::Leading { token, until } => tracing::debug!(%name, token, ?until, "leading"),
                        Candidate::Away(_) | Candidate::Cancelled => tracing::debug!(%name, "out of the line"),
                    }
                    Event::Candidate(candidate)
                }
                () = self.drain.draining(), if !quitting => {
                    quitting = true;
                    Event::Quit
                }
                spawned = ready(&mut now.spawning) => {
                    now.spawning = None;
                    started(&mut now, spawned)
                }
                exit = child::ended(now.child.as_ref()) => {
                    let supervise::Exit { status, why, strays } = exit;
                    tracing::info!(?status, ?why, strays, "the command has ended");
                    now.child = None;
                    Event::Ended { why }
                }
                number = self.forwarded.next() => {
                    child::tell(now.child.as_ref(), "of a signal", |child| child.signal(number));
                    continue;
                }
                () = reached(due) => {
                    trouble::log(trouble.tick(begin.elapsed()), &what);
                    continue;
                }
            };
            for action in self.leading.handle(Boottime::now(), rand::random(), event) {
                if let Some(ended) = self.perform(&mut now, action).await {
                    return ended;
                }
            }
        }
    }

    /// How it ended, when all is done.
    async fn perform(&self, now: &mut Now, action: Action) -> Option<Result<(), Fell>> {
        let child = now.child.as_ref();
        match action {
            Action::Spawn { token, kill_at } => {
                tracing::info!(token, "leading: the command is started");
                now.spawning = Some(self.spawn(token, kill_at));
            }
            Action::Rearm { kill_at } => child::tell(child, "the deadline", |child| child.rearm(kill_at)),
            Action::Stop => child::tell(child, "to stop", Child::stop),
            Action::Kill => {
                tracing::warn!("leadership is lost: the command is killed");
                child::tell(child, "to end", Child::kill);
            }
            Action::Resign { pause } => {
                tracing::info!(pause_ms = millis(pause), "leadership is given up");
                self.elector.resign(pause).await;
            }
            Action::Leave(ended) => {
                cancel(&self.elector, self.timeout).await;
                return Some(ended);
            }
        }
        None
    }

    fn spawn(&self, token: u64, kill_at: Boottime) -> Spawning {
        // What the kernel watches over has to be that of this very term, or nothing may be started.
        let term =
            self.elector.elect().now_or_never().and_then(Result::ok).filter(|term| term.token == token);
        let command = self.command.clone();
        Box::pin(async move {
            let too_late = || Error::TooLate { program: "the command".to_owned() };
            let kept = term.ok_or_else(too_late)?.kept;
            let spec = command.spec(Some(token), kept.as_ref());
            let spec = spec.map_err(|source| Error::NoGuard { program: "the command".to_owned(), source })?;
            spec.spawn(kill_at).await
        })
    }
}

fn started(now: &mut Now, spawned: Result<Child, Error>) -> Event {
    match spawned {
        Ok(child) => {
            tracing::info!(pid = child.pid(), guard = child.guard_pid(), "the command runs");
            now.child = Some(child);
            Event::Started
        }
        Err(Error::TooLate { .. }) => Event::TooLate,
        Err(error) => {
            tracing::error!(%error, "the command was not started");
            Event::NotStarted
        }
    }
}

async fn ready(spawning: &mut Option<Spawning>) -> Result<Child, Error> {
    match spawning {
        Some(spawning) => spawning.await,
        None => std::future::pending().await,
    }
}

async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
