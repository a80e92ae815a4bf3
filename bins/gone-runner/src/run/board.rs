//! What others may see of a runner: `/status`, metrics, readiness.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::readiness::ConditionHandle;
use gone::clock;
use gone::lease::rules::Standing;
use gone::lease::{End, State};
use gone::message::Inbox;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use supervise::Status;
use tokio::sync::watch;

/// What is counted.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Renewals of a lease that was held.
    pub renewals: Counter,
    /// Leases that were acquired.
    pub acquisitions: Counter,
    /// Leases that ended while the child ran well.
    pub losses: Counter,
    /// Children that ran.
    pub starts: Counter,
    /// Of those, the ones started again under the same lease.
    pub restarts: Counter,
    /// Children that lost the lease for their health.
    pub unwell: Counter,
    /// Messages written to a child's stdin, or about to be.
    pub delivered: Counter,
    /// 1 while the lease is held.
    pub held: Gauge,
    /// The fencing token while the lease is held, else 0.
    pub token: Gauge,
}

impl Counters {
    /// Makes them visible.
    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            ("renewals", "Renewals of the lease", &self.renewals),
            ("acquisitions", "Leases that were acquired", &self.acquisitions),
            ("losses", "Leases that ended while the child ran well", &self.losses),
            ("child_starts", "Children that ran", &self.starts),
            ("child_restarts", "Children that were started again under the same lease", &self.restarts),
            ("child_unwell", "Children that lost the lease by failed health checks", &self.unwell),
            ("messages_delivered", "Messages for the child's stdin", &self.delivered),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("lease_held", "Whether the lease is held here", self.held.clone());
        registry.register("lease_token", "The fencing token, 0 while it is not held", self.token.clone());
    }
}

#[derive(Clone, Debug, Default)]
struct ChildView {
    pid: Option<i32>,
    last_exit: Option<String>,
}

/// The runner as others see it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Board {
    id: Arc<str>,
    address: Arc<str>,
    states: watch::Receiver<State>,
    child: Arc<Mutex<ChildView>>,
    /// What is counted.
    pub counters: Counters,
}

impl Board {
    /// Of a contender that takes messages at `address`.
    pub fn new(id: &str, address: &str, states: watch::Receiver<State>) -> Self {
        Self {
            id: id.into(),
            address: address.into(),
            states,
            child: Arc::default(),
            counters: Counters::default(),
        }
    }

    fn child(&self) -> MutexGuard<'_, ChildView> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A child runs.
    pub fn started(&self, pid: i32) {
        self.child().pid = Some(pid);
        self.counters.starts.inc();
    }

    /// It and all it started are dead.
    pub fn ended(&self, status: Status) {
        let mut child = self.child();
        child.pid = None;
        child.last_exit = Some(match status {
            Status::Code(code) => format!("code {code}"),
            Status::Signal(signal) => format!("signal {signal}"),
            Status::Unknown => "unknown: its guard was killed".to_owned(),
        });
    }

    /// What `/status` answers.
    pub fn status(&self, inbox: &Inbox) -> Value {
        let now = clock::now();
        let state = self.states.borrow().clone();
        let until = |at: Duration| u64::try_from(at.saturating_sub(now).as_millis()).unwrap_or(u64::MAX);
        let (word, token, deadline_in_ms, holder, why) = match &state {
            State::Waiting { standing, holder } => {
                let holder = Some(holder.clone()).filter(|holder| !holder.is_empty());
                ("waiting", None, None, holder, Some(standing_text(*standing)))
            }
            State::Away { .. } => ("away", None, None, None, Some("resting after a child that ended")),
            State::Held { token, deadline, .. } => {
                ("held", Some(*token), Some(until(*deadline)), Some(self.address.to_string()), None)
            }
            State::Stopping { token, deadline } => {
                ("stopping", Some(*token), Some(until(*deadline)), None, None)
            }
            State::Releasing => ("releasing", None, None, None, None),
            State::Ended(End::Stopped) => ("ended", None, None, None, None),
            State::Ended(End::OtherExpiry { .. }) => {
                ("ended", None, None, None, Some("others use another expiry"))
            }
        };
        let (child, counters, counts) = (self.child().clone(), &self.counters, inbox.counts());
        json!({
            "id": &*self.id,
            "state": word,
            "why": why,
            "token": token,
            "deadline_in_ms": deadline_in_ms,
            "holder": holder,
            "address": &*self.address,
            "child": {
                "pid": child.pid,
                "last_exit": child.last_exit,
                "starts": counters.starts.get(),
                "restarts": counters.restarts.get(),
            },
            "lease": {
                "acquisitions": counters.acquisitions.get(),
                "renewals": counters.renewals.get(),
                "losses": counters.losses.get(),
            },
            "messages": {
                "delivered": counters.delivered.get(),
                "malformed": counts.malformed,
                "answers_left_out": counts.unanswered,
            },
        })
    }

    /// Counts leases and renewals, and tells readiness, until contending ends.
    pub async fn follow(self, condition: ConditionHandle) {
        let (mut states, mut before) = (self.states.clone(), None);
        loop {
            let state = states.borrow_and_update().clone();
            let held = match &state {
                State::Held { token, .. } => Some(*token),
                _ => None,
            };
            match held {
                Some(token) if before == Some(token) => drop(self.counters.renewals.inc()),
                Some(_) => drop(self.counters.acquisitions.inc()),
                None => {}
            }
            before = held;
            self.counters.held.set(i64::from(held.is_some()));
            self.counters.token.set(held.and_then(|token| i64::try_from(token).ok()).unwrap_or(0));
            condition.set(held.is_some(), detail(&state));
            if states.changed().await.is_err() {
                return;
            }
        }
    }
}

fn standing_text(standing: Option<Standing>) -> &'static str {
    match standing {
        None => "the lock has not answered",
        Some(Standing::Held) => "another runner holds the lease",
        Some(Standing::Foreign) => "a node of the original holds its key",
        Some(Standing::Quarantine) => "the lock does not know who held the lease: waiting one expiry",
        Some(Standing::Free | Standing::Unknown) => "about to ask for the lease",
    }
}

fn detail(state: &State) -> String {
    match state {
        State::Waiting { standing, holder } if holder.is_empty() => {
            format!("standby: {}", standing_text(*standing))
        }
        State::Waiting { standing, holder } => format!("standby: {} at {holder}", standing_text(*standing)),
        State::Away { .. } => "standby: resting after a child that ended".to_owned(),
        State::Held { token, .. } => format!("held, token {token}"),
        State::Stopping { token, .. } => format!("the child of token {token} is being stopped"),
        State::Releasing => "the lease is being released".to_owned(),
        State::Ended(_) => "contending has ended".to_owned(),
    }
}
