//! Whether the daemon may be sent work, and the named conditions that this depends on.
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Serving,
    Draining,
}

#[derive(Debug)]
struct Condition {
    name: String,
    blocking: bool,
    ok: bool,
    detail: String,
}

#[derive(Debug)]
struct State {
    stage: Stage,
    conditions: Vec<Condition>,
}

/// The conditions of one daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// Not ready: starting.
    pub fn new() -> Self {
        let state = State { stage: Stage::Starting, conditions: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Adds a condition, unmet until its handle says otherwise, or gives the handle of the one that
    /// has this name. A blocking one makes the daemon unready while it fails: use it only where
    /// another instance would do better.
    pub fn condition(&self, name: &str, blocking: bool) -> ConditionHandle {
        let mut state = self.lock();
        let known = state.conditions.iter().position(|condition| condition.name == name);
        let index = known.unwrap_or_else(|| {
            let detail = "not known yet".to_owned();
            state.conditions.push(Condition { name: name.to_owned(), blocking, ok: false, detail });
            state.conditions.len() - 1
        });
        drop(state);
        ConditionHandle { readiness: self.clone(), index }
    }

    /// The start is over: from here on the conditions decide.
    pub fn started(&self) {
        let mut state = self.lock();
        if state.stage == Stage::Starting {
            state.stage = Stage::Serving;
        }
    }

    /// The end has begun: not ready any more, whatever the conditions say.
    pub fn draining(&self) {
        self.lock().stage = Stage::Draining;
    }

    /// Whether the daemon may be sent work.
    pub fn is_ready(&self) -> bool {
        self.lock().is_ready()
    }

    /// What `/readyz` answers: whether ready, and the JSON of the conditions.
    pub fn report(&self) -> (bool, Value) {
        let state = self.lock();
        let mut conditions = Vec::with_capacity(state.conditions.len() + 1);
        match state.stage {
            Stage::Serving => {}
            Stage::Starting => conditions.push(stage_json("started", "still starting")),
            Stage::Draining => conditions.push(stage_json("not-draining", "finishing what is in flight")),
        }
        conditions.extend(state.conditions.iter().map(|condition| {
            json!({
                "name": condition.name,
                "ok": condition.ok,
                "blocking": condition.blocking,
                "detail": condition.detail,
            })
        }));
        let ready = state.is_ready();
        (ready, json!({ "ready": ready, "conditions": conditions }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_ready(&self) -> bool {
        let met = |condition: &Condition| condition.ok || !condition.blocking;
        self.stage == Stage::Serving && self.conditions.iter().all(met)
    }
}

fn stage_json(name: &str, detail: &str) -> Value {
    json!({ "name": name, "ok": false, "blocking": true, "detail": detail })
}

/// Says how one condition stands.
#[derive(Debug, Clone)]
pub struct ConditionHandle {
    readiness: Readiness,
    index: usize,
}

impl ConditionHandle {
    /// Sets the condition with the reason that `/readyz` shows.
    pub fn set(&self, ok: bool, why: impl Into<String>) {
        let mut state = self.readiness.lock();
        if let Some(condition) = state.conditions.get_mut(self.index) {
            condition.ok = ok;
            condition.detail = why.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blocking_conditions_decide() {
        let readiness = Readiness::new();
        assert!(!readiness.is_ready(), "starting");
        readiness.started();
        assert!(readiness.is_ready());
        let log = readiness.condition("log", true);
        assert!(!readiness.is_ready(), "not known yet");
        log.set(true, "writable");
        readiness.condition("nodes", false).set(false, "none is healthy");
        let (ready, report) = readiness.report();
        assert!(ready);
        assert_eq!(
            report["conditions"][1],
            json!({"name": "nodes", "ok": false, "blocking": false, "detail": "none is healthy"})
        );
        log.set(false, "the disk is full");
        assert!(!readiness.is_ready());
    }

    #[test]
    fn draining_is_final() {
        let readiness = Readiness::new();
        readiness.draining();
        readiness.started();
        let (ready, report) = readiness.report();
        assert!(!ready);
        assert_eq!(report["conditions"][0]["name"], "not-draining");
    }

    #[test]
    fn a_name_stands_for_one_condition() {
        let readiness = Readiness::new();
        readiness.condition("x", true);
        readiness.condition("x", true).set(true, "");
        readiness.started();
        assert!(readiness.is_ready());
    }
}
