//! What is to come, in order.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use cluster::core::Time;

use crate::world::Happening;

/// Microseconds of time whose happenings are kept together.
const SLOT: u128 = 50;

/// One thing to come, the earliest first; of the same time, what was put there first.
struct Due(Time, u64, Happening);

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.0, other.1).cmp(&(self.0, self.1))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

/// By the slot of their time: heaps stay small that way, also with millions of frames under way.
#[derive(Default)]
pub(crate) struct Coming {
    slots: BTreeMap<u128, BinaryHeap<Due>>,
    count: u64,
}

impl Coming {
    pub(crate) fn add(&mut self, time: Time, happening: Happening) {
        self.count += 1;
        self.slots.entry(time.as_micros() / SLOT).or_default().push(Due(time, self.count, happening));
    }

    pub(crate) fn next_until(&mut self, until: Time) -> Option<(Time, Happening)> {
        let mut slot = self.slots.first_entry()?;
        let due = slot.get().peek().is_some_and(|due| due.0 <= until);
        let next = due.then(|| slot.get_mut().pop()).flatten();
        if slot.get().is_empty() {
            slot.remove();
        }
        next.map(|Due(time, _, happening)| (time, happening))
    }
}
