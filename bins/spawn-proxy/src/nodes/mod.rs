//! The nodes: what the operator wants of them, and what is observed.
//!
//! Changes are made one at a time, under a lock that no request ever takes: requests read a table
//! that is swapped as a whole.

mod fleet;
pub mod health;
pub mod live;
pub mod plan;
pub mod store;
pub mod table;

use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use common::node::{Node, NodeId};
use daemon::state_dir::StateDir;
use tokio::sync::Mutex;
use update_log::{LogError, UnsubscribeError, UpdateLog};

use fleet::Fleet;
use live::Live;
use plan::Step;
use store::Stored;
use table::{Entry, Table};

use crate::proxy::worker::Spawner;

/// The nodes and the tasks that serve them.
pub struct Nodes {
    table: ArcSwap<Table>,
    editor: Mutex<Editor>,
    log: Arc<dyn UpdateLog>,
    epoch: Instant,
}

struct Editor {
    fleet: Fleet,
    stored: Stored,
    state: Arc<StateDir>,
}

/// A change to make: the nodes afterwards, and which of them only changed their address.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// All nodes afterwards, in order.
    pub nodes: Vec<Node>,
    /// Old and new identity of nodes that keep their queue under another address.
    pub renamed: Vec<(NodeId, NodeId)>,
    /// Updates that wait for nodes that go away may be dropped.
    pub discard: bool,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E> {
    /// The change itself is wrong.
    #[error("{0}")]
    Refused(E),
    /// Updates wait for nodes that would go away; nothing was changed.
    #[error("updates wait for nodes that would go away")]
    WouldDiscard(Vec<(NodeId, u64)>),
    /// The log could not follow.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The change could not be kept; it is not in force.
    #[error("cannot write the nodes to the data directory: {0}")]
    Store(std::io::Error),
}

/// What a change did.
#[derive(Debug, Clone, Default)]
pub struct Changed {
    /// Updates that were dropped with nodes that went away.
    pub discarded: u64,
}

impl Nodes {
    /// No nodes yet: [`load`](Self::load) brings them.
    pub fn new(log: Arc<dyn UpdateLog>, state: Arc<StateDir>, stored: Stored, spawner: Spawner) -> Self {
        let editor = Editor { fleet: Fleet::new(spawner), stored, state };
        Self { table: ArcSwap::default(), editor: Mutex::new(editor), log, epoch: Instant::now() }
    }

    /// The nodes now.
    pub fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// Brings in the configured nodes, at start and at each reload: what the API changed wins. A node that left
    /// the configuration while updates wait for it is set to maintenance rather than dropped.
    ///
    /// # Errors
    /// When the log or the disk refuses; what was in force stays.
    pub async fn load(&self, configured: &[Node]) -> Result<(), ChangeError<std::convert::Infallible>> {
        let mut editor = self.editor.lock().await;
        let mut nodes = editor.stored.merge(configured);
        for current in &editor.stored.nodes {
            let gone = !nodes.iter().any(|node| node.id == current.id && node.active);
            let pending = self.log.queue(&current.id).map_or(0, |queue| queue.pending);
            if gone && pending > 0 {
                tracing::error!(node = %current.id, pending, "node left the configuration while updates wait for it: kept in maintenance; DELETE it with discard=true to drop them");
                nodes.retain(|node| node.id != current.id);
                nodes.push(Node { active: true, maintenance: true, ..current.clone() });
            }
        }
        editor.stored.configured = configured.to_vec();
        self.apply(&mut editor, Change { nodes, ..Change::default() }).await.map(drop)
    }

    /// Makes a change that `plan` derives from the nodes as they are. Applied, and on disk, when it returns.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing was changed.
    pub async fn change<E>(&self, plan: impl FnOnce(&[Node]) -> Result<Change, E>) -> Result<Changed, ChangeError<E>> {
        let mut editor = self.editor.lock().await;
        let change = plan(&self.table.load().nodes()).map_err(ChangeError::Refused)?;
        self.apply(&mut editor, change).await
    }

    async fn apply<E>(&self, editor: &mut Editor, change: Change) -> Result<Changed, ChangeError<E>> {
        let subscribed = self.log.nodes();
        let steps = plan::steps(&subscribed, &change);
        let waiting: Vec<(NodeId, u64)> = plan::leaving(&steps)
            .filter_map(|id| Some((id.clone(), self.log.queue(id)?.pending)))
            .filter(|(_, pending)| *pending > 0)
            .collect();
        if !waiting.is_empty() && !change.discard {
            return Err(ChangeError::WouldDiscard(waiting));
        }
        let mut changed = Changed::default();
        for step in &steps {
            match step {
                Step::Subscribe(id) => self.log.subscribe(id).await?,
                Step::Rename(old, new) => self.log.rename(old, new).await?,
                Step::Unsubscribe(id) => match self.log.unsubscribe(id, change.discard).await {
                    Ok(discarded) => changed.discarded += discarded,
                    Err(UnsubscribeError::Pending(pending)) => {
                        return Err(ChangeError::WouldDiscard(vec![(id.clone(), pending)]));
                    }
                    Err(UnsubscribeError::Log(error)) => return Err(error.into()),
                },
            }
        }
        self.keep(editor, &change.nodes).await.map_err(ChangeError::Store)?;
        self.install(editor, change.nodes);
        Ok(changed)
    }

    async fn keep(&self, editor: &mut Editor, nodes: &[Node]) -> std::io::Result<()> {
        let stored = Stored { nodes: nodes.to_vec(), ..editor.stored.clone() };
        let (state, content) = (editor.state.clone(), stored.to_json());
        tokio::task::spawn_blocking(move || state.write_atomic(store::FILE, &content)).await.map_err(std::io::Error::other)??;
        editor.stored = stored;
        Ok(())
    }

    /// Swaps the table, then starts and stops tasks: nobody is sent to a node that is no longer in it.
    fn install(&self, editor: &mut Editor, nodes: Vec<Node>) {
        let before = self.table.load_full();
        let live = |id: &NodeId| {
            before.get(id).filter(|entry| entry.node.active).map_or_else(|| Arc::new(Live::new(id.clone(), self.epoch)), |entry| entry.live.clone())
        };
        let entries = nodes.into_iter().map(|node| Entry { live: live(&node.id), node }).collect();
        let table = Arc::new(Table::new(entries));
        self.table.store(table.clone());
        editor.fleet.follow(&table);
    }

    /// Drops what waits for a node, and goes on with what comes; how much that was.
    ///
    /// # Errors
    /// When the node has no queue, or the log refuses.
    pub async fn discard(&self, id: &NodeId) -> Result<u64, LogError> {
        let editor = self.editor.lock().await;
        let discarded = self.log.discard(id).await?;
        editor.fleet.refresh(id);
        Ok(discarded)
    }

    /// Ends deliveries: what is under way is finished, the rest waits in the log.
    pub async fn stop(&self) {
        self.editor.lock().await.fleet.stop().await;
    }
}
