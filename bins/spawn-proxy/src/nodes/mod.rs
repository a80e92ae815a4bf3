//! The nodes: what the operator wants of them, and what is observed.
//!
//! Changes are made one at a time, under a lock that no request ever takes: requests read a table
//! that is swapped as a whole.

mod fleet;
pub mod full;
pub mod health;
pub mod live;
pub mod plan;
pub mod store;
pub mod table;

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use common::node::{Node, NodeId};
use daemon::state_dir::StateDir;
use tokio::sync::{Mutex, oneshot};
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
    /// Nodes that were told to go on: they are not drained any more.
    pub undrained: Vec<NodeId>,
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
        let change = Change { nodes, renamed, discard: false, undrained: Vec::new() };
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
        let draining = still_draining(&editor.stored.draining, &change);
        let stored = Stored { configured, nodes, renamed: plan::renames(&steps), draining };
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
        let draining = |id: &NodeId| editor.stored.draining.iter().any(|(draining, _)| draining == id);
        let entry = |node: Node| Entry { live: live(&node), draining: draining(&node.id), node };
        let entries: Vec<Entry> = nodes.into_iter().map(entry).collect();
        entries.iter().for_each(|entry| entry.live.set_parked(self.log.is_parked(&entry.node.id)));
        let table = Arc::new(Table::new(entries));
        self.table.store(table.clone());
        editor.fleet.follow(&table, renamed);
    }

    /// Takes reads from a node, and sets it to maintenance once it has what waits for it now. False when it is not
    /// active; `None` when there is none. On disk when it returns.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn drain<E>(&self, id: &NodeId) -> Result<Option<bool>, ChangeError<E>> {
        let mut editor = self.editor.lock().await;
        let Some(node) = self.table.load().get(id).map(|entry| entry.node.clone()) else { return Ok(None) };
        if !node.active {
            return Ok(Some(false));
        }
        let mut stored = editor.stored.clone();
        if node.maintenance || stored.draining.iter().any(|(draining, _)| draining == id) {
            return Ok(Some(true));
        }
        let last = self.log.tail().borrow().0.saturating_sub(1);
        stored.draining.push((id.clone(), last));
        editor.keep(stored).await.map_err(ChangeError::Store)?;
        let nodes = self.table.load().nodes();
        self.install(&mut editor, nodes, &[]);
        Ok(Some(true))
    }

    /// The nodes that have been drained: they have what was to be delivered, and can rest.
    pub async fn drained(&self) -> Vec<NodeId> {
        let editor = self.editor.lock().await;
        let done = |(id, last): &&(NodeId, u64)| {
            let queue = self.log.queue(id);
            queue.is_none_or(|queue| queue.pending == 0 || queue.cursor.low().0 > *last)
        };
        editor.stored.draining.iter().filter(done).map(|(id, _)| id.clone()).collect()
    }

    /// Keeps nothing more for a node, which holds up the log; how much was dropped.
    ///
    /// # Errors
    /// When the node has no queue, or the log refuses.
    pub async fn park(&self, id: &NodeId) -> Result<u64, LogError> {
        let editor = self.editor.lock().await;
        let discarded = self.log.park(id).await?;
        self.look_at_parked();
        editor.fleet.refresh(id);
        Ok(discarded)
    }

    /// Publishes which nodes are parked.
    pub fn look_at_parked(&self) {
        for entry in self.table.load().entries() {
            entry.live.set_parked(self.log.is_parked(&entry.node.id));
        }
    }

    /// Drops what waits for a node, and goes on with what comes; how much that was.
    ///
    /// # Errors
    /// When the node has no queue, or the log refuses.
    pub async fn discard(&self, id: &NodeId) -> Result<u64, LogError> {
        let editor = self.editor.lock().await;
        let discarded = self.log.discard(id).await?;
        self.look_at_parked();
        editor.fleet.refresh(id);
        Ok(discarded)
    }

    /// Does `work` while nothing is under way to a node, after which its queue is read anew. Takes until what is under
    /// way is finished: `updates.timeout` at the longest. `None` when the node is not active, or ceases to be.
    pub async fn at_rest<T: Send + 'static>(
        &self,
        id: &NodeId,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let errands = self.editor.lock().await.fleet.errands(id)?;
        let (reply, done) = oneshot::channel();
        let errand = Box::pin(async move { drop(reply.send(work.await)) });
        errands.send(errand).await.ok()?;
        let done = done.await.ok();
        self.look_at_parked();
        done
    }

    /// Ends deliveries: what is under way is finished, the rest waits in the log.
    pub async fn stop(&self) {
        self.editor.lock().await.fleet.stop().await;
    }
}

/// Who is still being drained after a change: those that went, rest now, or were told to go on are not.
fn still_draining(before: &[(NodeId, u64)], change: &Change) -> Vec<(NodeId, u64)> {
    let renamed =
        |id: &NodeId| change.renamed.iter().find(|(old, _)| old == id).map_or(id, |(_, new)| new).clone();
    let now = before.iter().map(|(id, last)| (renamed(id), *last));
    let drains = |id: &NodeId| {
        let on = |node: &Node| node.id == *id && node.active && !node.maintenance;
        change.nodes.iter().any(on) && !change.undrained.contains(id)
    };
    now.filter(|(id, _)| drains(id)).collect()
}
