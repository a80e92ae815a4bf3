//! A host: its clock, the runner on it, the guard, the child, and the connection to the store.

use std::collections::VecDeque;
use std::time::Duration;

use gone::lease::rules::Contender;
use gone::lease::{Input, Lease};

#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) offset: u64,
    pub(super) rate_ppm: i64,
}

impl Clock {
    pub(super) fn local(&self, true_ns: u64) -> Duration {
        let rated = u128::from(true_ns) * (1_000_000 + self.rate_ppm) as u128 / 1_000_000;
        Duration::from_nanos(self.offset + rated as u64)
    }

    /// The true time at which this clock shows `local` or later.
    pub(super) fn true_at(&self, local: Duration) -> u64 {
        let local = u64::try_from(local.as_nanos()).unwrap_or(u64::MAX).saturating_sub(self.offset);
        let rate = (1_000_000 + self.rate_ppm) as u128;
        u64::try_from((u128::from(local) * 1_000_000).div_ceil(rate)).unwrap_or(u64::MAX)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) incarnation: u64,
    /// Nothing passes any more and nobody is told.
    pub(super) dead: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) number: u64,
    pub(super) asked_to_end: bool,
    /// Its host stood still until after its lease: on waking it runs until the guard's kill is done, and
    /// only its token keeps it from doing harm.
    pub(super) fenced: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Guard {
    pub(super) stop_at: Duration,
    pub(super) kill_at: Duration,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) clock: Clock,
    pub(super) lease: Option<Lease>,
    pub(super) contender: Contender,
    /// Counts the runners that were started on it.
    pub(super) instance: u64,
    pub(super) connection: Option<Connection>,
    pub(super) child: Option<Child>,
    pub(super) guard: Option<Guard>,
    /// The runner takes nothing in; the guard works.
    pub(super) stopped: bool,
    /// Nothing on the host runs.
    pub(super) frozen: bool,
    /// What came meanwhile.
    pub(super) inbox: VecDeque<Input>,
    /// What is sent stays on the way until then, by direction.
    pub(super) cut_out_until: u64,
    pub(super) cut_in_until: u64,
    /// Only the last wake-up that was asked for counts.
    pub(super) wake: u64,
    /// How long the last answer took, on the host's clock.
    pub(super) last_trip: Duration,
    pub(super) asked_at: Duration,
    /// After this it ends for good, or comes back.
    pub(super) comes_back: bool,
}
