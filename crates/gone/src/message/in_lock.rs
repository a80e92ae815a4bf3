//! Looks holders up where their lease is kept.

use std::sync::Arc;
use std::time::Duration;

use crate::keeper;
use crate::lease::rules::{Standing, View};
use crate::lock::{Id, Lock};
use crate::message::{Lookup, LookupFuture, Whereabouts};

/// How long one look at the lock may take.
const LOOK: Duration = Duration::from_secs(2);

/// Looks holders up where their lease is kept.
#[derive(Clone, Debug)]
pub struct InLock {
    /// The lock.
    pub lock: Arc<dyn Lock>,
    /// Whether nodes of the original program contend for it too.
    pub compat: bool,
}

impl Lookup for InLock {
    fn look_up<'a>(&'a self, id: &'a str) -> LookupFuture<'a> {
        Box::pin(async move {
            let view = keeper::look(self.lock.as_ref(), &Id::new(id)?, self.compat, LOOK).await;
            Ok(whereabouts(&view.map_err(|error| error.to_string())?))
        })
    }
}

/// Where the holder takes messages, if there is one and it does.
#[must_use]
pub fn whereabouts(view: &View) -> Option<Whereabouts> {
    let held = view.standing == Standing::Held && !view.address.is_empty();
    held.then(|| Whereabouts { address: view.address.clone(), token: view.token })
}
