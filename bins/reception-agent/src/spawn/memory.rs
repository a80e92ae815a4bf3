//! What this agent has to remember over a restart: which nodes it added. A spawn-proxy's nodes carry no such mark.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::node::NodeId;
use daemon::state_dir::{StateDir, StateDirError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::plan::{Owned, Standing};

/// The format of the files.
const FORMAT: u32 = 1;

/// Our nodes of one service at one proxy, in a file of the state directory.
#[derive(Clone, Debug)]
pub struct Memory {
    dir: Arc<StateDir>,
    name: String,
    service: String,
    api: String,
}

/// The file's content. The times are of the wall clock: they tell how long a node has been gone over a restart, and
/// a wrong one removes a node that has left too early or too late.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    service: String,
    api: String,
    nodes: Vec<Note>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    node: String,
    state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_at_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Changing,
    Here,
    Left,
}

/// Checks the state directory for [`Memory`]; once, at the start.
///
/// # Errors
/// When a later version wrote it, or it cannot be read.
pub fn check_format(dir: &StateDir) -> Result<(), StateDirError> {
    dir.check_format("spawn", FORMAT).map(|_| ())
}

impl Memory {
    /// Of one `[[spawn]]`.
    pub fn new(dir: Arc<StateDir>, service: &str, api: &str) -> Self {
        let digest = Sha256::digest(format!("{service}\n{api}"));
        let hash: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { dir, name: format!("spawn-{hash}.json"), service: service.to_owned(), api: api.to_owned() }
    }

    /// Our nodes. `now` stands for this moment in the plan's time, which has to have begun long before.
    ///
    /// # Errors
    /// The sentence that names the file, and says what to do.
    pub fn load(&self, now: Duration) -> Result<BTreeMap<NodeId, Owned>, String> {
        let path = self.dir.file(&self.name);
        let shown = path.display();
        let damaged = |what: String| {
            format!(
                "{shown} is damaged ({what}): restore it, or remove it, and then remove the nodes that this agent added by hand"
            )
        };
        let bytes = self.dir.read(&self.name).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        let Some(bytes) = bytes else { return Ok(BTreeMap::new()) };
        let content: Content = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let wall = wall();
        let nodes = content.nodes.into_iter().map(|note| {
            let id: NodeId = note.node.parse().map_err(|error| damaged(format!("{error}")))?;
            let owned = match note.state {
                State::Changing => Owned::changing(note.priority, now),
                State::Here => Owned::new(Standing::Here, note.priority),
                State::Left => {
                    let gone = wall.saturating_sub(note.left_at_seconds.unwrap_or(wall));
                    let since = now.saturating_sub(Duration::from_secs(gone));
                    Owned::new(Standing::Left { since }, note.priority)
                }
            };
            Ok((id, owned))
        });
        nodes.collect()
    }

    /// Keeps them.
    ///
    /// # Errors
    /// The sentence that names the file.
    pub fn save(&self, owned: &BTreeMap<NodeId, Owned>, now: Duration) -> Result<(), String> {
        let wall = wall();
        let notes = owned.iter().map(|(id, owned)| {
            let (state, left_at_seconds) = match owned.standing {
                Standing::Changing => (State::Changing, None),
                Standing::Here => (State::Here, None),
                Standing::Left { since } => {
                    (State::Left, Some(wall.saturating_sub(now.saturating_sub(since).as_secs())))
                }
            };
            Note { node: id.to_string(), state, left_at_seconds, priority: owned.priority }
        });
        let content =
            Content { service: self.service.clone(), api: self.api.clone(), nodes: notes.collect() };
        let written = serde_json::to_vec_pretty(&content)
            .map_err(std::io::Error::other)
            .and_then(|bytes| self.dir.write_atomic(&self.name, &bytes));
        written.map_err(|error| format!("{} cannot be written: {error}", self.dir.file(&self.name).display()))
    }
}

fn wall() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::super::clock::Clock;
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_kept_is_found_again() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Arc::new(StateDir::open(temp.path()).unwrap());
        check_format(&dir).unwrap();
        let memory = Memory::new(dir.clone(), "web", "http://h:1");
        assert!(memory.load(at(0)).unwrap().is_empty());
        let id = |port| NodeId::new("::1", port).unwrap();
        let owned = BTreeMap::from([
            (id(1), Owned::new(Standing::Changing, None)),
            (id(2), Owned::new(Standing::Here, Some(-3))),
            (id(3), Owned::new(Standing::Left { since: at(40) }, None)),
        ]);
        memory.save(&owned, at(100)).unwrap();
        let found = memory.load(at(1000)).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), owned.keys().collect::<Vec<_>>());
        assert_eq!((found[&id(1)].standing, found[&id(2)].standing), (Standing::Changing, Standing::Here));
        assert_eq!(found[&id(2)].priority, Some(-3));
        let Standing::Left { since } = found[&id(3)].standing else { panic!() };
        assert!(since <= at(940) && since > at(900), "{since:?}");
        // Another service, another proxy: another file.
        assert!(Memory::new(dir.clone(), "api", "http://h:1").load(at(0)).unwrap().is_empty());
        assert!(Memory::new(dir, "web", "http://h:2").load(at(0)).unwrap().is_empty());
    }

    #[test]
    fn who_left_before_this_run_has_been_gone_since_then() {
        let temp = tempfile::tempdir().unwrap();
        let memory = Memory::new(Arc::new(StateDir::open(temp.path()).unwrap()), "web", "http://h:1");
        let id = NodeId::new("::1", 1).unwrap();
        let earlier = Clock::start().now();
        let gone = Standing::Left { since: earlier - at(3600) };
        memory.save(&BTreeMap::from([(id.clone(), Owned::new(gone, None))]), earlier).unwrap();
        // Over two restarts: each run's clock has just started.
        for _ in 0..2 {
            let now = Clock::start().now();
            let found = memory.load(now).unwrap();
            let Standing::Left { since } = found[&id].standing else { panic!() };
            assert!(now - since >= at(3600), "{:?}", now - since);
            memory.save(&found, now).unwrap();
        }
        let long_ago = Content {
            service: "web".to_owned(),
            api: "http://h:1".to_owned(),
            nodes: vec![Note {
                node: id.to_string(),
                state: State::Left,
                left_at_seconds: Some(0),
                priority: None,
            }],
        };
        memory.dir.write_atomic(&memory.name, &serde_json::to_vec(&long_ago).unwrap()).unwrap();
        let now = Clock::start().now();
        let Standing::Left { since } = memory.load(now).unwrap()[&id].standing else { panic!() };
        assert!(now - since >= at(wall() - 1), "as long as a wall clock can tell");
    }

    #[test]
    fn a_damaged_file_is_named_and_not_taken_for_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Arc::new(StateDir::open(temp.path()).unwrap());
        let memory = Memory::new(dir.clone(), "web", "http://h:1");
        dir.write_atomic(&memory.name, b"{\"service\":").unwrap();
        let error = memory.load(at(0)).unwrap_err();
        assert!(error.contains(&memory.name) && error.contains("is damaged"), "{error}");
    }
}
