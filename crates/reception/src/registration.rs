//! A registration that is held until it is left.

use tokio::sync::watch;

use crate::course::State;
use crate::error::Error;
use crate::hold::{Hold, Status};
use crate::service::Service;

/// What became of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is being registered: the first time, or anew.
    Away(Option<Error>),
    /// It is in the store.
    Registered,
    /// It was left.
    Left,
}

/// Keeps an instance registered: renews it, and registers it anew when its session was lost. Dropped, it leaves as soon as it can.
#[derive(Debug)]
pub struct Registration {
    service: Service,
    hold: Hold,
}

impl Registration {
    pub(crate) fn new(service: Service, hold: Hold) -> Self {
        Self { service, hold }
    }

    /// What is registered.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Waits until the store has it. Retries for ever.
    pub async fn registered(&self) {
        let mut status = self.hold.watch();
        let _ = status.wait_for(|status| seen(status) == Presence::Registered).await;
    }

    /// What became of it so far.
    pub fn now(&self) -> Presence {
        seen(&self.hold.now())
    }

    /// What there is to tell, and each change of it.
    pub fn changes(&self) -> Changes {
        Changes { status: self.hold.watch(), told: None }
    }

    /// What holds the record together with this process, where the kernel watches over it (`file:`): for a child's guard, so that
    /// the record lasts as long as the child.
    pub fn kept(&self) -> Option<std::sync::Arc<std::os::fd::OwnedFd>> {
        self.hold.now().kept
    }

    /// Takes it away, and waits until that is done or was tried often enough.
    pub async fn leave(self) {
        self.hold.withdraw().await;
    }
}

fn seen(status: &Status) -> Presence {
    match &status.state {
        State::Away(why) => Presence::Away(why.clone()),
        State::Present { .. } | State::Leading { .. } => Presence::Registered,
        State::Left => Presence::Left,
    }
}

/// The changes of a registration.
#[derive(Debug)]
pub struct Changes {
    status: watch::Receiver<Status>,
    told: Option<Presence>,
}

impl Changes {
    /// The state at once, then each change; none after the end. Cancel safe.
    pub async fn next(&mut self) -> Option<Presence> {
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
