//! What to change at a spawn-proxy. Pure: time comes as an argument.
//!
//! Only what this agent added is touched. A node that the proxy lists and that we did not add is somebody else's,
//! also when an instance has its address. Of our own nodes we undo only what we did: who rests because its instance
//! left comes back with it, and what an operator set on a node whose instance is here stays.

use std::collections::BTreeMap;
use std::time::Duration;

use common::node::NodeId;

use crate::pace::Pace;

/// The longest wait before a removal is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long a change may be under way at the proxy after its caller has gone.
const UNDER_WAY: Duration = Duration::from_secs(60);

/// What becomes of a node whose instance has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLeave {
    /// It rests: no reads, and its updates wait.
    Maintenance,
    /// It rests, and is removed after this time, unless updates wait for it.
    Delete {
        /// Zero: at once.
        after: Duration,
    },
}

/// A node as the proxy lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// It takes part.
    pub active: bool,
    /// It rests.
    pub maintenance: bool,
}

/// Takes part and does not rest.
const UP: Listed = Listed { active: true, maintenance: false };

/// Where one of our nodes stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is about to be added, put to rest or activated, or was: written down before the proxy is asked.
    Changing,
    /// Added, and its instance is here.
    Here,
    /// Its instance has left, and it was put to rest.
    Left {
        /// When.
        since: Duration,
    },
}

/// A node that we added.
#[derive(Clone, Debug)]
pub struct Owned {
    /// Where it stands.
    pub standing: Standing,
    /// The priority that we gave it.
    pub priority: Option<i64>,
    /// Not removed before, after a removal that was refused; not forgotten before, after a change.
    pub not_before: Duration,
    pace: Pace,
}

impl Owned {
    /// A node that stands there.
    pub const fn new(standing: Standing, priority: Option<i64>) -> Self {
        Self { standing, priority, not_before: Duration::ZERO, pace: Pace::up_to(LONGEST_WAIT) }
    }

    /// A node that is about to be changed, or may have been.
    pub fn changing(priority: Option<i64>, now: Duration) -> Self {
        Self { not_before: now + UNDER_WAY, ..Self::new(Standing::Changing, priority) }
    }

    /// Its removal was refused. Gives the wait until it is tried again.
    pub fn refused(&mut self, now: Duration) -> Duration {
        let wait = self.pace.failed();
        self.not_before = now + wait;
        wait
    }
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Our note of a node that the proxy no longer lists goes.
    Forget,
    /// The proxy lists as active what we were about to make so: we did.
    Adopt,
    /// Add it as an active node.
    Add,
    /// Its instance is back: end its rest.
    Activate,
    /// Give it its new priority.
    Prioritize,
    /// Its instance has left: put it to rest.
    Rest,
    /// Remove it.
    Remove,
}

impl Action {
    /// Whether that is written down first: a crash in between must not leave a node that nobody remembers, or make
    /// what we did look like an operator's doing.
    pub const fn is_announced(self) -> bool {
        matches!(self, Self::Add | Self::Activate | Self::Rest)
    }

    /// In one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Forget => "forget",
            Self::Adopt => "adopt",
            Self::Add => "add",
            Self::Activate => "activate",
            Self::Prioritize => "prioritize",
            Self::Rest => "rest",
            Self::Remove => "remove",
        }
    }
}

/// The nodes that there should be, with their priority where their instance has one.
pub type Wanted = BTreeMap<NodeId, Option<i64>>;

/// What to do, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Nodes come before others go.
    pub actions: Vec<(NodeId, Action)>,
    /// Nodes that are wanted and not ours.
    pub foreign: Vec<NodeId>,
    /// When there will be more to do, although nothing else changes.
    pub next: Option<Duration>,
}

/// Works out the plan.
pub fn plan(
    wanted: &Wanted,
    owned: &BTreeMap<NodeId, Owned>,
    listed: &BTreeMap<NodeId, Listed>,
    on_leave: OnLeave,
    now: Duration,
) -> Plan {
    let mut plan = Plan::default();
    for (node, priority) in wanted {
        let action = match (owned.get(node), listed.get(node)) {
            (None, Some(_)) => {
                plan.foreign.push(node.clone());
                None
            }
            (_, None) => Some(Action::Add),
            (Some(own), Some(listed)) => match own.standing {
                Standing::Changing if *listed == UP => Some(Action::Adopt),
                Standing::Changing | Standing::Left { .. } => Some(Action::Activate),
                Standing::Here => {
                    (priority.is_some() && *priority != own.priority).then_some(Action::Prioritize)
                }
            },
        };
        plan.actions.extend(action.map(|action| (node.clone(), action)));
    }
    for (node, own) in owned.iter().filter(|(node, _)| !wanted.contains_key(*node)) {
        let action = match (listed.get(node), own.standing, on_leave) {
            // A call that nobody waits for any more may still be under way.
            (None, Standing::Changing, _) if own.not_before > now => {
                plan.next = [plan.next, Some(own.not_before)].into_iter().flatten().min();
                None
            }
            (None, ..) => Some(Action::Forget),
            (Some(_), Standing::Changing | Standing::Here, _) => Some(Action::Rest),
            // An operator ended its rest: it stays.
            (Some(listed), Standing::Left { .. }, _) if !listed.maintenance => None,
            (Some(_), Standing::Left { .. }, OnLeave::Maintenance) => None,
            (Some(_), Standing::Left { since }, OnLeave::Delete { after }) => {
                let due = own.not_before.max(since + after);
                plan.next = [plan.next, Some(due).filter(|due| *due > now)].into_iter().flatten().min();
                (due <= now).then_some(Action::Remove)
            }
        };
        plan.actions.extend(action.map(|action| (node.clone(), action)));
    }
    plan
}

#[cfg(test)]
mod tests;
