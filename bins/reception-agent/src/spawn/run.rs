//! The task that keeps one service at one proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::node::NodeId;
use daemon::drain::Drain;
use daemon::state_dir::StateDir;
use reception::Service;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::SpawnSpec;
use super::api::{Api, ApiError, Removed};
use super::board::{Board, Counters};
use super::clock::Clock;
use super::memory::Memory;
use super::plan::{Action, OnLeave, Owned, Plan, Standing, Wanted, plan};
use crate::held::{Held, Why};
use crate::pace::Pace;
use crate::view::{Receiver, Views};

/// How often the proxy is looked at although nothing changed: it may have lost its nodes.
const LOOK: Duration = Duration::from_secs(15);
/// The longest wait after a round that failed.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The attribute with a node's priority.
const PRIORITY: &str = "priority";

/// Keeps the nodes of `spec` until `stop` drains. Its state directory remembers which nodes are ours.
pub async fn run(spec: SpawnSpec, mut views: Receiver, dir: Arc<StateDir>, counters: Counters, stop: Drain) {
    let clock = Clock::start();
    let mut stopping = stop.draining();
    let Some(mut keeper) = Keeper::new(spec, dir, &counters, clock, &stop).await else { return };
    let mut watched = true;
    loop {
        let newest = if watched { views.borrow_and_update().clone() } else { Arc::new(Views::default()) };
        keeper.see(&newest);
        if keeper.is_due() {
            let _guard = stop.guard();
            tokio::select! {
                () = keeper.round() => {}
                () = stop.expired() => break,
            }
        }
        tokio::select! {
            biased;
            () = &mut stopping => break,
            changed = views.changed(), if watched => watched = changed.is_ok(),
            () = tokio::time::sleep_until(keeper.next()) => {}
        }
    }
    keeper.board.ended();
}

struct Keeper {
    spec: SpawnSpec,
    clock: Clock,
    api: Api,
    memory: Memory,
    board: Board,
    held: Held,
    owned: BTreeMap<NodeId, Owned>,
    /// What the last round that worked wanted.
    settled: Option<Wanted>,
    /// When the next round is due, whatever happens.
    next: Duration,
    /// After a failure: nothing before this.
    not_before: Duration,
    pace: Pace,
    /// There was a list once.
    begun: bool,
    told_held: Option<Why>,
    told_foreign: BTreeSet<NodeId>,
    told_odd: BTreeSet<String>,
    /// When there is more to do, as far as this round knows.
    again: Option<Duration>,
    /// Our notes are not on disk as they are here.
    unsaved: bool,
}

impl Keeper {
    /// None when it is stopped before it could begin.
    async fn new(
        spec: SpawnSpec,
        dir: Arc<StateDir>,
        counters: &Counters,
        clock: Clock,
        stop: &Drain,
    ) -> Option<Self> {
        let memory = Memory::new(dir, &spec.service, &spec.api);
        let board = counters.of(&spec.service, &spec.api);
        let mut pace = Pace::up_to(LOOK);
        let (owned, api) = loop {
            let found = memory.load(clock.now());
            let api = Api::new(&spec.api, spec.tls.as_ref(), spec.token_file.clone());
            match found.and_then(|owned| Ok((owned, api.map_err(|error| error.to_string())?))) {
                Ok(both) => break both,
                Err(error) => {
                    board.failed();
                    tracing::error!(
                        service = spec.service,
                        api = spec.api,
                        "its nodes are left as they are: {error}"
                    );
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pace.failed()) => {}
                () = stop.draining() => return None,
            }
        };
        Some(Self {
            held: Held::new(spec.held, !owned.is_empty()),
            clock,
            api,
            memory,
            board,
            owned,
            settled: None,
            next: Duration::ZERO,
            not_before: Duration::ZERO,
            pace: Pace::up_to(LONGEST_WAIT),
            begun: false,
            told_held: None,
            told_foreign: BTreeSet::new(),
            told_odd: BTreeSet::new(),
            again: None,
            unsaved: false,
            spec,
        })
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn see(&mut self, views: &Views) {
        self.held.see(self.now(), views.certain(&self.spec.service));
        let why = self.held.why();
        self.board.held(why);
        // Before the first list, that there is none is no news: a store that is away is told where it is read.
        self.begun |= why != Some(Why::Unconfirmed);
        if self.begun && why != self.told_held {
            let (service, api) = (&self.spec.service, &self.spec.api);
            match why {
                Some(why) => tracing::warn!(
                    service,
                    api,
                    why = why.word(),
                    "the newest list does not count: the nodes stay as they are"
                ),
                None => tracing::info!(service, api, "the newest list counts again"),
            }
            self.told_held = why;
        }
    }

    fn wanted(&mut self) -> Option<Wanted> {
        let (wanted, odd) = nodes(self.held.list()?);
        for problem in odd.difference(&self.told_odd) {
            tracing::warn!(service = self.spec.service, api = self.spec.api, "{problem}");
        }
        self.told_odd = odd;
        Some(wanted)
    }

    fn is_due(&mut self) -> bool {
        let (now, wanted) = (self.now(), self.wanted());
        wanted.is_some() && now >= self.not_before && (now >= self.next || self.settled != wanted)
    }

    /// When to look again at the latest.
    fn next(&self) -> Instant {
        let due = match self.held.list() {
            Some(_) => self.next.max(self.not_before),
            // There is nothing to be done before a list counts.
            None => self.now() + LOOK,
        };
        self.clock.instant(self.held.certain_at().map_or(due, |at| at.min(due)))
    }

    async fn round(&mut self) {
        let Some(wanted) = self.wanted() else { return };
        match self.reconcile(&wanted).await {
            Ok(next) => {
                self.pace.worked();
                self.next = next.unwrap_or(Duration::MAX).min(self.now() + LOOK);
                self.settled = Some(wanted);
            }
            Err(problem) => {
                let wait = self.pace.failed();
                self.board.failed();
                self.settled = None;
                self.not_before = self.now() + wait;
                self.next = self.not_before;
                let (service, api, wait_ms) = (&self.spec.service, &self.spec.api, wait.as_millis() as u64);
                tracing::warn!(
                    service,
                    api,
                    wait_ms,
                    "the nodes are not in step, it is tried again: {problem}"
                );
            }
        }
    }

    /// One round: ask, plan, change. When there will be more to do.
    async fn reconcile(&mut self, wanted: &Wanted) -> Result<Option<Duration>, String> {
        let listed = self.api.nodes().await.map_err(|error| error.to_string())?;
        let Plan { actions, foreign, next } =
            plan(wanted, &self.owned, &listed, self.spec.on_leave, self.now());
        self.again = next;
        self.tell_foreign(&foreign);
        let known: BTreeSet<NodeId> = self.owned.keys().cloned().collect();
        for (node, _) in actions.iter().filter(|(_, action)| action.is_announced()) {
            let priority = self.owned.get(node).and_then(|own| own.priority);
            self.owned.insert(node.clone(), Owned::changing(priority, self.now()));
            self.unsaved = true;
        }
        self.save()?;
        let mut problems = Vec::new();
        for (node, action) in actions {
            match self.act(&node, action, wanted.get(&node).copied().flatten(), known.contains(&node)).await {
                Ok(()) => {}
                Err(error) if error.is_about_this_node() => problems.push(format!("{node}: {error}")),
                Err(error) => {
                    problems.push(error.to_string());
                    break;
                }
            }
        }
        self.save()?;
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        self.board.right(self.owned.len(), foreign.len());
        Ok(self.again)
    }

    /// There is something to do then.
    fn again_at(&mut self, at: Duration) {
        self.again = Some(self.again.map_or(at, |earlier| earlier.min(at)));
    }

    async fn act(
        &mut self,
        node: &NodeId,
        action: Action,
        priority: Option<i64>,
        known: bool,
    ) -> Result<(), ApiError> {
        let change = |fixed: Value| with_priority(fixed, priority);
        match action {
            Action::Forget => drop(self.owned.remove(node)),
            Action::Adopt => self.stands(node, Standing::Here),
            Action::Add => {
                let new =
                    self.api.put(node, &change(json!({ "active": true, "maintenance": false }))).await?;
                if new || known {
                    self.stands(node, Standing::Here);
                } else {
                    // Somebody was faster, and no earlier call of ours: it is theirs.
                    self.owned.remove(node);
                }
            }
            Action::Activate => {
                self.api.put(node, &change(json!({ "active": true, "maintenance": false }))).await?;
                self.stands(node, Standing::Here);
            }
            Action::Prioritize => drop(self.api.put(node, &change(json!({}))).await?),
            Action::Rest => {
                self.api.put(node, &json!({ "maintenance": true })).await?;
                self.stands(node, Standing::Left { since: self.now() });
                if let OnLeave::Delete { after } = self.spec.on_leave {
                    self.again_at(self.now() + after);
                }
            }
            Action::Remove => return self.remove(node).await,
        }
        if let Some(own) = self.owned.get_mut(node).filter(|_| priority.is_some()) {
            own.priority = priority;
        }
        self.done(node, action);
        Ok(())
    }

    async fn remove(&mut self, node: &NodeId) -> Result<(), ApiError> {
        match self.api.remove(node).await? {
            Removed::Gone => {
                self.owned.remove(node);
                self.done(node, Action::Remove);
            }
            Removed::Waiting(what) => {
                let now = self.now();
                let wait = self.owned.get_mut(node).map_or(LOOK, |own| own.refused(now));
                self.again_at(now + wait);
                self.board.refused();
                tracing::warn!(
                    service = self.spec.service, api = self.spec.api, %node, wait_ms = wait.as_millis() as u64,
                    "the node has left and stays in maintenance, its removal is tried again: {what}"
                );
            }
        }
        Ok(())
    }

    fn stands(&mut self, node: &NodeId, standing: Standing) {
        let priority = self.owned.get(node).and_then(|own| own.priority);
        self.owned.insert(node.clone(), Owned::new(standing, priority));
        self.unsaved = true;
    }

    fn done(&mut self, node: &NodeId, action: Action) {
        self.unsaved = true;
        if !matches!(action, Action::Forget | Action::Adopt) {
            self.board.changed(action);
        }
        tracing::info!(service = self.spec.service, api = self.spec.api, %node, change = action.word(), "changed");
    }

    fn save(&mut self) -> Result<(), String> {
        if self.unsaved {
            self.memory.save(&self.owned, self.now())?;
            self.unsaved = false;
        }
        Ok(())
    }

    fn tell_foreign(&mut self, foreign: &[NodeId]) {
        for node in foreign.iter().filter(|node| !self.told_foreign.contains(*node)) {
            tracing::info!(
                service = self.spec.service, api = self.spec.api, %node,
                "the proxy has a node of this address that this agent did not add: it is not touched"
            );
        }
        self.told_foreign = foreign.iter().cloned().collect();
    }
}

fn with_priority(mut change: Value, priority: Option<i64>) -> Value {
    if let Some(priority) = priority {
        change[PRIORITY] = priority.into();
    }
    change
}

/// The nodes of these instances, and what is odd about them. Two instances at one address are one node.
fn nodes(instances: &[Service]) -> (Wanted, BTreeSet<String>) {
    let (mut wanted, mut odd) = (Wanted::new(), BTreeSet::new());
    for service in instances {
        match NodeId::new(&service.address, service.port) {
            Ok(node) => {
                let priority = service.attributes.get(PRIORITY).and_then(|text| {
                    let number = text.trim().parse();
                    if number.is_err() {
                        odd.insert(format!(
                            "the priority {text:?} of instance {} is no whole number",
                            service.id
                        ));
                    }
                    number.ok()
                });
                let known = wanted.entry(node).or_insert(priority);
                *known = known.or(priority);
            }
            Err(error) => drop(odd.insert(format!("instance {} cannot be a node: {error}", service.id))),
        }
    }
    (wanted, odd)
}
