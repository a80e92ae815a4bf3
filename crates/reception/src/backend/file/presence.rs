//! A record as the tasks above drive it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use supervise::Boottime;

use super::held::Held;
use super::tree::Tree;
use crate::backend::{BackendFuture, Presence, Renewal, Tenure};
use crate::error::Error;
use crate::service::Service;

/// Between two looks whether somebody took the record away.
const RENEW_EVERY: Duration = Duration::from_secs(1);

pub(super) struct FilePresence {
    tree: Arc<Tree>,
    service: Service,
    /// Dropped with this, and by that dead.
    held: Option<Arc<Held>>,
}

impl FilePresence {
    pub(super) fn new(tree: Arc<Tree>, service: &Service) -> Self {
        Self { tree, service: service.clone(), held: None }
    }

    /// Why the record that is held is none any more; that there is none, to begin with.
    async fn lost(&self) -> Result<Option<String>, Error> {
        let Some(held) = self.held.clone() else { return Ok(Some("there is no record".to_owned())) };
        let look = move |tree: &Tree| {
            held.lost().map_err(|error| tree.error("looking after a record in", &tree.root, &error))
        };
        self.tree.run(look).await
    }
}

impl Presence for FilePresence {
    fn enter(&mut self) -> BackendFuture<'_, Result<Tenure, Error>> {
        Box::pin(async move {
            if self.lost().await?.is_some() {
                self.held = None;
                let service = self.service.clone();
                self.held = Some(Arc::new(self.tree.run(move |tree| tree.enter(&service)).await?));
            }
            let created = self.held.as_ref().map(|held| held.created).unwrap_or_default();
            Ok(Tenure { created, until: Boottime::NEVER })
        })
    }

    fn renew(&mut self) -> BackendFuture<'_, Result<Renewal, Error>> {
        Box::pin(async move {
            let lost = self.lost().await?;
            Ok(lost.map_or(Renewal::Kept(Boottime::NEVER), Renewal::Lost))
        })
    }

    fn renew_every(&self) -> Duration {
        RENEW_EVERY
    }

    fn alarm(&mut self) -> BackendFuture<'_, ()> {
        // To look is as cheap as to be told.
        Box::pin(std::future::pending())
    }

    fn leave(&mut self) -> BackendFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let Some(held) = self.held.clone() else { return Ok(()) };
            let end = move |tree: &Tree| {
                held.end().map_err(|error| tree.error("removing a record of", &tree.root, &error))
            };
            self.tree.run(end).await?;
            self.held = None;
            Ok(())
        })
    }

    fn kept(&self) -> Option<OwnedFd> {
        self.held.as_ref()?.copy().ok()
    }
}
