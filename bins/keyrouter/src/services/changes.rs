//! What one catalog has that the one before has not.

use std::fmt;
use std::sync::Arc;

use super::catalog::{Catalog, Service};
use super::quote::quoted;

/// How many names a sentence lists.
const NAMED: usize = 20;

/// Services by what became of them, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// They were not there.
    pub added: Vec<Box<str>>,
    /// They are not there any more.
    pub removed: Vec<Box<str>>,
    /// Other nodes, weights or another algorithm: the generation grew.
    pub changed: Vec<Box<str>>,
    /// Nothing of the above, but services, or nodes within one, stand in another order.
    pub reordered: bool,
}

impl Changes {
    /// What leads from `old` to `new`.
    #[must_use]
    pub fn between(old: Option<&Catalog>, new: &Catalog) -> Self {
        let mut changes = Self::default();
        for service in new.services() {
            match old.and_then(|old| old.service(&service.name)) {
                None => changes.added.push(service.name.clone()),
                Some(before) if before.generation != service.generation => {
                    changes.changed.push(service.name.clone());
                }
                Some(_) => {}
            }
        }
        let before = old.map_or(&[][..], Catalog::services);
        let gone = |service: &&Arc<Service>| new.service(&service.name).is_none();
        changes.removed = before.iter().filter(gone).map(|service| service.name.clone()).collect();
        // What is neither new nor changed is shared, unless the order within it is another.
        let differs = before.len() != new.services().len()
            || !before.iter().zip(new.services()).all(|(before, now)| Arc::ptr_eq(before, now));
        let explained =
            !(changes.added.is_empty() && changes.removed.is_empty() && changes.changed.is_empty());
        changes.reordered = differs && !explained;
        changes
    }

    /// Whether the two are the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `added "a", "b"; removed "c"; changed "d"`, with at most twenty names each.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let kinds = [("added", &self.added), ("removed", &self.removed), ("changed", &self.changed)];
        for (verb, names) in kinds.into_iter().filter(|(_, names)| !names.is_empty()) {
            write!(f, "{separator}{verb} {}", Names(names))?;
            separator = "; ";
        }
        match separator {
            "" if self.reordered => f.write_str("only their order changed"),
            "" => f.write_str("nothing changed"),
            _ => Ok(()),
        }
    }
}

struct Names<'a>(&'a [Box<str>]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().take(NAMED).enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { ", " }, quoted(name))?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
