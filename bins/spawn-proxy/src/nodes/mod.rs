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

impl Editor {
    /// Writes the nodes to the data directory.
    async fn keep(&mut self, stored: Stored) -> std::io::Result<()> {
        let (state, content) = (self.state.clone(), stored.to_json());
        tokio::task::spawn_blocking(move || state.write_atomic(store::FILE, &content))
            .await
            .map_err(std::io::Error::other)??;
        self.stored = stored;
        Ok(())
    }
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
    /// the configuration while updates wait for it is set to maintenance rather than dropped. So is one whose
    /// removal was cut short: nobody has been told that it was removed.
    ///
    /// # Errors
    /// When the log or the disk refuses; what was in force stays.
    pub async fn load(&self, configured: &[Node]) -> Result<(), ChangeError<std::convert::Infallible>> {
        let mut editor = self.editor.lock().await;
        let mut nodes = editor.stored.merge(configured);
        let renamed = editor.stored.renamed.clone();
        for id in self.log.nodes() {
            let stays = nodes.iter().any(|node| node.id == id && node.active)
                || renamed.iter().any(|(old, _)| *old == id);
            let pending = self.log.queue(&id).map_or(0, |queue| queue.pending);
            if !stays && pending > 0 {
                tracing::error!(node = %id, pending, "node left the configuration while updates wait for it: kept in maintenance; DELETE it with discard=true to drop them");
                let known = editor.stored.nodes.iter().find(|node| node.id == id);
                let priority = known.map(|node| node.priority).unwrap_or_default();
                nodes.retain(|node| node.id != id);
                nodes.push(Node { id, priority, active: true, maintenance: true });
            }
        }
        let change = Change { nodes, renamed, discard: false };
        self.apply(&mut editor, change, configured.to_vec()).await.map(drop)
    }

    /// Makes a change that `plan` derives from the nodes as they are. Applied, and on disk, when it returns.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing was changed, but for nodes whose queues had ended before something failed.
    pub async fn change<E>(
        &self,
        plan: impl FnOnce(&[Node]) -> Result<Change, E>,
    ) -> Result<Changed, ChangeError<E>> {
        let mut editor = self.editor.lock().await;
        let change = plan(&self.table.load().nodes()).map_err(ChangeError::Refused)?;
        let configured = editor.stored.configured.clone();
        self.apply(&mut editor, change, configured).await
    }

    /// The file first, then the log: a full disk stops a change before it has begun, and what a crash leaves undone
    /// in the log is done by the next [`load`](Self::load).
    async fn apply<E>(
        &self,
        editor: &mut Editor,
        change: Change,
        configured: Vec<Node>,
    ) -> Result<Changed, ChangeError<E>> {
        let steps = plan::steps(&self.log.nodes(), &change);
        let waiting: Vec<(NodeId, u64)> = plan::leaving(&steps)
            .filter_map(|id| Some((id.clone(), self.log.queue(id)?.pending)))
            .filter(|(_, pending)| *pending > 0)
            .collect();
        if !waiting.is_empty() && !change.discard {
            return Err(ChangeError::WouldDiscard(waiting));
        }
        let before = editor.stored.clone();
        let nodes = change.nodes.clone();
        let stored = Stored { configured, nodes, renamed: plan::renames(&steps) };
        if let Err(error) = editor.keep(stored).await {
            // It may have been written and then not made durable.
            let _ = editor.keep(before).await;
            return Err(ChangeError::Store(error));
        }
        let mut changed = Changed::default();
        for (done, step) in steps.iter().enumerate() {
            match self.follow(step, change.discard).await {
                Ok(discarded) => changed.discarded += discarded,
                Err(error) => {
                    self.take_back(editor, before, &change.nodes, &steps[..done]).await;
                    return Err(error);
                }
            }
        }
        self.install(editor, change.nodes, &change.renamed);
        // Where a node took another's place, the queue under that address is not the one that was read.
        change.renamed.iter().for_each(|(_, new)| editor.fleet.refresh(new));
        Ok(changed)
    }

    /// Has the log make one step; how many updates that dropped.
    async fn follow<E>(&self, step: &Step, discard: bool) -> Result<u64, ChangeError<E>> {
        match step {
            Step::Subscribe(id) => self.log.subscribe(id).await?,
            Step::Rename(old, new) => self.log.rename(old, new).await?,
            Step::Unsubscribe(id) => {
                return self.log.unsubscribe(id, discard).await.map_err(|error| match error {
                    UnsubscribeError::Pending(pending) => {
                        ChangeError::WouldDiscard(vec![(id.clone(), pending)])
                    }
                    UnsubscribeError::Log(error) => error.into(),
                });
            }
        }
        Ok(0)
    }

    /// Undoes a change that the log could follow only so far. A queue that has ended cannot be taken back without a
    /// gap, so its node stays as it was wanted.
    async fn take_back(&self, editor: &mut Editor, before: Stored, wanted: &[Node], done: &[Step]) {
        for step in done.iter().rev() {
            let undone = match step {
                Step::Unsubscribe(_) => Ok(()),
                Step::Rename(old, new) => self.log.rename(new, old).await,
                // Nobody was told of this queue: what came meanwhile is for no one.
                Step::Subscribe(id) => match self.log.unsubscribe(id, true).await {
                    Err(UnsubscribeError::Log(error)) => Err(error),
                    Ok(_) | Err(UnsubscribeError::Pending(_)) => Ok(()),
                },
            };
            if let Err(error) = undone {
                tracing::error!(%error, ?step, "a change failed, and this part of it cannot be undone until the next start");
            }
        }
        let ended: Vec<&NodeId> = plan::leaving(done).collect();
        let nodes = plan::after_failure(&before.nodes, wanted, &ended);
        if let Err(error) = editor.keep(Stored { nodes: nodes.clone(), ..before }).await {
            tracing::error!(%error, "a change failed, and the nodes as they were cannot be written");
        }
        self.install(editor, nodes, &[]);
    }

    /// Swaps the table, then starts and stops tasks: nobody is sent to a node that is no longer in it.
    fn install(&self, editor: &mut Editor, nodes: Vec<Node>, renamed: &[(NodeId, NodeId)]) {
        let before = self.table.load_full();
        // A node that becomes active starts anew: what was observed of it before no longer holds.
        let live = |node: &Node| match before.get(&node.id) {
            Some(entry) if entry.node.active || !node.active => entry.live.clone(),
            _ => Arc::new(Live::new(node.id.clone(), self.epoch)),
        };
        let entries = nodes.into_iter().map(|node| Entry { live: live(&node), node }).collect();
        let table = Arc::new(Table::new(entries));
        self.table.store(table.clone());
        editor.fleet.follow(&table, renamed);
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
