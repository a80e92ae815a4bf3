//! Services as the watchers see them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reception::Service;
use tokio::sync::watch;

/// What is known of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Its instances as last read, in the order of their creation.
    pub instances: Vec<Service>,
    /// The store says so now: the last read succeeded, and was not a stale one.
    pub confirmed: bool,
}

impl View {
    /// A list that the store confirmed just now.
    pub fn confirmed(instances: Vec<Service>) -> Self {
        Self { instances, confirmed: true }
    }

    /// The list, if it is certain.
    pub fn certain(&self) -> Option<&[Service]> {
        self.confirmed.then_some(self.instances.as_slice())
    }
}

/// What is known of all services that somebody watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Views {
    /// All names that the store knows, if it says so now. Counts for those who want all services; none where
    /// nobody does.
    pub names: Option<Arc<BTreeSet<String>>>,
    /// By name; those whose list was not read yet are not in it.
    pub services: BTreeMap<String, Arc<View>>,
}

impl Views {
    /// The list of a service, if it is certain.
    pub fn certain(&self, name: &str) -> Option<&[Service]> {
        self.services.get(name).and_then(|view| view.certain())
    }
}

/// The newest views. Whoever sends replaces them as a whole.
pub type Receiver = watch::Receiver<Arc<Views>>;

/// Which services somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All that the store knows.
    All,
    /// These.
    Named(Vec<String>),
}
