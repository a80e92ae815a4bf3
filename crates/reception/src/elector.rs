//! A candidate that campaigns until it is cancelled.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use supervise::Boottime;
use tokio::sync::watch;

use crate::backend::{Backend, Leader};
use crate::course::State;
use crate::error::Error;
use crate::hold::{Command, Hold, Status};
use crate::service::Service;

/// What a candidate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// Not in the line, as far as is known; why.
    Away(Option<Error>),
    /// In the line.
    Waiting,
    /// The leader.
    Leading {
        /// Of this term; larger than that of every term before.
        token: u64,
        /// The end of the term, unless it is renewed: by then all that is done under it has to have ended.
        until: Boottime,
    },
    /// It left the line for good.
    Cancelled,
}

/// Campaigns for the leadership of its service's name, again after each term. Dropped, it leaves the line as soon as it can.
#[derive(Debug)]
pub struct Elector {
    backend: Arc<dyn Backend>,
    service: Service,
    hold: Hold,
}

impl Elector {
    pub(crate) fn new(backend: Arc<dyn Backend>, service: Service, hold: Hold) -> Self {
        Self { backend, service, hold }
    }

    /// As what it stands.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Waits until this candidate leads.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when it left the line.
    pub async fn elect(&self) -> Result<Term, Error> {
        let mut status = self.hold.watch();
        let cancelled = || Error::Cancelled { name: self.service.name.to_string() };
        let led = status
            .wait_for(|status| matches!(seen(status), Candidate::Leading { .. } | Candidate::Cancelled))
            .await
            .map_err(|_| cancelled())?
            .clone();
        match led.state {
            State::Leading { token, .. } => Ok(Term { token, kept: led.kept, status }),
            _ => Err(cancelled()),
        }
    }

    /// What the candidate is, and each change of it, renewals included.
    pub fn changes(&self) -> Changes {
        Changes { status: self.hold.watch(), told: None }
    }

    /// What the candidate is now.
    pub fn now(&self) -> Candidate {
        seen(&self.hold.now())
    }

    /// Who leads, by the store.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn leader(&self) -> Result<Option<Leader>, Error> {
        self.backend.leader(&self.service.name).await
    }

    /// Ends the term, whose work has to have ended, and stands again after `pause`.
    pub async fn resign(&self, pause: Duration) {
        self.hold.command(Command::Resign(pause)).await;
    }

    /// Leaves the line for good. The work of a term has to have ended.
    pub async fn cancel(&self) {
        self.hold.withdraw().await;
    }
}

fn seen(status: &Status) -> Candidate {
    match &status.state {
        State::Away(why) => Candidate::Away(why.clone()),
        State::Present { .. } => Candidate::Waiting,
        // The task may be late in saying so.
        State::Leading { until, .. } if *until <= Boottime::now() => Candidate::Away(None),
        State::Leading { token, until } => Candidate::Leading { token: *token, until: *until },
        State::Left => Candidate::Cancelled,
    }
}

/// The changes of a candidate.
#[derive(Debug)]
pub struct Changes {
    status: watch::Receiver<Status>,
    told: Option<Candidate>,
}

impl Changes {
    /// The state at once, then each change; none after the end. Cancel safe.
    pub async fn next(&mut self) -> Option<Candidate> {
        loop {
            let now = seen(&self.status.borrow_and_update());
            if self.told.as_ref() != Some(&now) {
                self.told = Some(now.clone());
                return Some(now);
            }
            self.status.changed().await.ok()?;
        }
    }
}

/// A time of leading.
#[derive(Clone, Debug)]
pub struct Term {
    /// Larger than that of every term before: whatever is written to under it should compare it.
    pub token: u64,
    /// For a child's guard, where the kernel watches over the record (`file:`): leading lasts as long as the child then.
    pub kept: Option<Arc<OwnedFd>>,
    status: watch::Receiver<Status>,
}

impl Term {
    /// Its end, unless it is renewed; none when it is over.
    pub fn until(&self) -> Option<Boottime> {
        match seen(&self.status.borrow()) {
            Candidate::Leading { token, until } if token == self.token => Some(until),
            _ => None,
        }
    }

    /// Waits until it is renewed or over, and gives its new end; none when it is over. Cancel safe.
    pub async fn renewed(&mut self) -> Option<Boottime> {
        let now = self.until()?;
        loop {
            let left = now.since(Boottime::now());
            tokio::select! {
                changed = self.status.changed() => changed.ok()?,
                () = tokio::time::sleep(left) => {}
            }
            match self.until() {
                Some(until) if until == now => {}
                other => return other,
            }
        }
    }

    /// Waits until it is over.
    pub async fn over(&mut self) {
        while self.renewed().await.is_some() {}
    }
}
