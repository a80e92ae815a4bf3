//! This process's place in the cluster.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use zmq_link::{KeyPair, Link};

use crate::core::Core;
use crate::counters::Snapshot;
use crate::driver::{Command, Driver, Keys, Shared};
use crate::error::{ClusterError, NodeError, SendError};
use crate::event::{ApiCall, LogLine, Message, Names, Payload, Receipt, Target};
use crate::identity::{Identity, Keyring};
use crate::node::{Node, check_name};
use crate::settings::Settings;
use crate::status::NodeStatus;
use crate::stream::{self, Events, Stream, Topic};

/// What a node starts with.
#[derive(Debug)]
pub struct Builder {
    name: Arc<str>,
    settings: Settings,
    identity: Identity,
    nodes: Vec<Node>,
}

impl Builder {
    /// Other settings than the defaults.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The secrets that all nodes share.
    #[must_use]
    pub fn keyring(mut self, keyring: Keyring) -> Self {
        self.identity.keyring = Some(keyring);
        self
    }

    /// A key of this node's own.
    #[must_use]
    pub fn key(mut self, key: KeyPair) -> Self {
        self.identity.key = Some(key);
        self
    }

    /// One more peer.
    #[must_use]
    pub fn node(mut self, node: Node) -> Self {
        self.nodes.push(node);
        self
    }

    /// Starts the node: it dials its peers, and listens when [`Manager::listen`] is called.
    ///
    /// # Errors
    ///
    /// When a name, an address or a setting cannot be used, there is neither a secret nor a key, libzmq has no CURVE,
    /// or the system gives no thread.
    pub fn start(self) -> Result<Manager, ClusterError> {
        let Self { name, settings, identity, nodes } = self;
        check_name(&name)?;
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(ClusterError::Settings(problems));
        }
        if !identity.is_some() {
            return Err(ClusterError::NoIdentity(name));
        }
        let link = Link::start(&name)?;
        let core = Core::new(Arc::clone(&name), rand::random::<u64>().max(1), settings);
        let keys = Keys::new(Arc::clone(&name), identity)?;
        let shared = Arc::new(Shared::new(name, core, keys));
        let manager = |commands| Manager { shared: Arc::clone(&shared), commands };
        for node in nodes {
            add(&shared, node)?;
        }
        shared.core().start();
        Ok(manager(Driver::start(Arc::clone(&shared), link).map_err(ClusterError::Thread)?))
    }
}

/// This process's place in the cluster. Without [`Manager::shutdown`], dropping it says goodbye too, without waiting.
#[derive(Debug)]
pub struct Manager {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Drop for Manager {
    fn drop(&mut self) {
        // It has ended already: fine.
        let _ = self.commands.send(Command::Shutdown { drain: Duration::ZERO });
    }
}

fn add(shared: &Shared, node: Node) -> Result<(), NodeError> {
    node.check()?;
    if node.name == shared.name {
        return Err(NodeError::Own(node.name));
    }
    let (name, addr) = (Arc::clone(&node.name), node.addr.clone());
    shared.keys().add(node)?;
    shared.with(|core, now| core.add_node(&name, &addr, now));
    Ok(())
}

impl Manager {
    /// Starts a node with the default settings and no peers. Takes about 20 ms, for the derivation of its key.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`], and for a secret of less than 16 bytes.
    pub fn new(name: impl Into<Arc<str>>, secret: &str) -> Result<Self, ClusterError> {
        Self::builder(name).keyring(Keyring::new([secret])?).start()
    }

    /// A node with more than the defaults.
    pub fn builder(name: impl Into<Arc<str>>) -> Builder {
        let (settings, identity) = (Settings::default(), Identity::default());
        Builder { name: name.into(), settings, identity, nodes: Vec::new() }
    }

    /// This node's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Listens on `tcp://IP:PORT` (port 0 or `*`: a free one) or `ipc://PATH`; returns the address with its real port.
    ///
    /// # Errors
    ///
    /// When the address cannot be had, or the node listens already.
    pub async fn listen(&self, addr: impl Into<String>) -> Result<String, ClusterError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Listen(addr.into(), reply);
        self.commands.send(command).map_err(|_| ClusterError::Closed)?;
        answer.await.unwrap_or(Err(ClusterError::Closed))
    }

    // --- nodes

    /// Configures a peer, or changes the address or key of one.
    ///
    /// # Errors
    ///
    /// When its name or address cannot be used, or there is no key for it. Then nothing changes.
    pub fn add_node(&self, node: Node) -> Result<(), NodeError> {
        add(&self.shared, node)
    }

    /// Forgets a peer: it leaves, and what was on its way to it is told as undelivered.
    ///
    /// # Errors
    ///
    /// [`NodeError::Unknown`] when it is not configured.
    pub fn remove_node(&self, name: &str) -> Result<(), NodeError> {
        if !self.shared.with(|core, now| core.remove_node(name, now)) {
            return Err(NodeError::Unknown(name.into()));
        }
        self.shared.keys().remove(name)
    }

    /// The configured peers.
    pub fn nodes(&self) -> Names {
        self.shared.core().names()
    }

    /// How each configured peer stands.
    pub fn status(&self) -> Vec<NodeStatus> {
        let status = self.shared.core().status(self.shared.clock.now());
        let mut status: Vec<NodeStatus> = status.into_iter().map(|(status, _)| status).collect();
        for node in &mut status {
            node.jointime = self.shared.hub.joined_at(&node.name);
        }
        status.sort_by(|one, other| one.name.cmp(&other.name));
        status
    }

    /// Whether there is a quorum.
    pub fn quorum(&self) -> bool {
        self.shared.core().quorum()
    }

    /// Totals since the start.
    pub fn counters(&self) -> Snapshot {
        Snapshot { denied: self.shared.denied.load(SeqCst), ..self.shared.core().totals() }
    }

    // --- sending

    /// Sends to all peers, waiting while one of them acknowledges but has no room.
    ///
    /// # Errors
    ///
    /// For a message that is too large, and when the node was shut down.
    pub async fn to_cluster(&self, payload: impl Into<Payload>) -> Result<Receipt, SendError> {
        self.send(&Target::Cluster, &payload.into()).await
    }

    /// The same without waiting.
    ///
    /// # Errors
    ///
    /// As [`Manager::to_cluster`], and [`SendError::Full`].
    pub fn try_to_cluster(&self, payload: impl Into<Payload>) -> Result<Receipt, SendError> {
        self.try_send(&Target::Cluster, &payload.into())
    }

    /// Sends to one peer, waiting while it acknowledges but has no room.
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] when it is away for longer than messages are kept, [`SendError::Unknown`], and as
    /// [`Manager::to_cluster`].
    pub async fn to_node(&self, node: &str, payload: impl Into<Payload>) -> Result<Receipt, SendError> {
        self.send(&Target::Node(node.into()), &payload.into()).await
    }

    /// The same without waiting.
    ///
    /// # Errors
    ///
    /// As [`Manager::to_node`], and [`SendError::Full`].
    pub fn try_to_node(&self, node: &str, payload: impl Into<Payload>) -> Result<Receipt, SendError> {
        self.try_send(&Target::Node(node.into()), &payload.into())
    }

    /// Sends to whom it says, waiting for room. A future that is dropped while it waits has sent nothing.
    ///
    /// # Errors
    ///
    /// As [`Manager::to_node`].
    pub async fn send(&self, target: &Target, payload: &Payload) -> Result<Receipt, SendError> {
        loop {
            let mut room = std::pin::pin!(self.shared.room.notified());
            room.as_mut().enable();
            match self.try_send(target, payload) {
                Err(SendError::Full(_)) => room.await,
                other => return other,
            }
        }
    }

    /// Sends to whom it says.
    ///
    /// # Errors
    ///
    /// As [`Manager::to_node`], and [`SendError::Full`].
    pub fn try_send(&self, target: &Target, payload: &Payload) -> Result<Receipt, SendError> {
        if self.shared.ended.load(SeqCst) {
            return Err(SendError::Closed);
        }
        self.shared.with(|core, now| core.offer(target, payload, now))
    }

    /// Sends several messages at the price of few: takes as many from the front as there is room for, and gives the
    /// outcome of each; one that failed for another reason than room does not stop the others.
    pub fn send_batch(&self, messages: &[(Target, Payload)]) -> Vec<Result<Receipt, SendError>> {
        if self.shared.ended.load(SeqCst) {
            return Vec::new();
        }
        self.shared.with(|core, now| {
            let mut outcomes = Vec::with_capacity(messages.len());
            for (target, payload) in messages {
                match core.offer(target, payload, now) {
                    Err(SendError::Full(_)) => break,
                    other => outcomes.push(other),
                }
            }
            outcomes
        })
    }

    /// Resolves when a message that was refused with [`SendError::Full`] may have room. To be asked for before the
    /// message is sent, so that no sign is missed.
    pub fn room(&self) -> impl Future<Output = ()> + '_ {
        let mut room = Box::pin(self.shared.room.notified());
        room.as_mut().enable();
        room
    }

    // --- streams

    /// Everything that happens, in one order. It begins with a [`Event::Join`](crate::Event::Join) for each member
    /// and the quorum. Messages wait, and are not acknowledged, until somebody reads them here or by
    /// [`Manager::from_cluster`].
    pub fn events(&self) -> Events {
        self.shared.hub.open(Topic::All)
    }

    /// The messages.
    pub fn from_cluster(&self) -> Stream<Message> {
        stream::messages(self.shared.hub.open(Topic::Messages))
    }

    /// What nodes ask of this process.
    pub fn from_api(&self) -> Stream<ApiCall> {
        stream::calls(self.shared.hub.open(Topic::Api))
    }

    /// Nodes that joined; begins with the members.
    pub fn node_join(&self) -> Stream<Arc<str>> {
        stream::joins(self.shared.hub.open(Topic::Joins))
    }

    /// Nodes that left.
    pub fn node_leave(&self) -> Stream<Arc<str>> {
        stream::leaves(self.shared.hub.open(Topic::Leaves))
    }

    /// Whether there is a quorum: now, and at each change.
    pub fn quorum_state(&self) -> Stream<bool> {
        stream::quorums(self.shared.hub.open(Topic::Quorum))
    }

    /// Lines for people.
    pub fn log(&self) -> Stream<LogLine> {
        stream::lines(self.shared.hub.open(Topic::Log))
    }

    // --- changes

    /// The settings.
    pub fn settings(&self) -> Settings {
        self.shared.core().settings().clone()
    }

    /// Other settings, from now on. Links that stand keep the signs of life that they were made with.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Settings`] with everything that is wrong with them; then nothing changes.
    pub fn update_settings(&self, settings: Settings) -> Result<(), ClusterError> {
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(ClusterError::Settings(problems));
        }
        self.shared.with(|core, now| core.set_settings(settings, now));
        Ok(())
    }

    /// Other secrets: the first is used, all are accepted. To rotate without a gap, add the new one to every node,
    /// then move it to the front on every node, then remove the old one from every node.
    ///
    /// When the first one changes, the listener opens anew and links are made again; messages go on where they were.
    ///
    /// # Errors
    ///
    /// When keys cannot be derived (then nothing changes), or the address cannot be had again.
    pub async fn set_keyring(&self, keyring: Keyring) -> Result<(), ClusterError> {
        {
            let mut keys = self.shared.keys();
            let identity = Identity { keyring: Some(keyring), key: keys.identity().key.clone() };
            keys.replace(identity)?;
        }
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Rekey(reply)).map_err(|_| ClusterError::Closed)?;
        let outcome = answer.await.unwrap_or(Err(ClusterError::Closed));
        self.shared.with(|core, now| core.keys_changed(now));
        outcome
    }

    /// `reconnect`, `admindown` and `adminup` act on the link to the node here; any other action is sent to it, in
    /// order with messages, and is an [`ApiCall`] there.
    ///
    /// # Errors
    ///
    /// [`SendError::Unknown`]; for what is sent, as [`Manager::try_to_node`].
    pub fn admin(&self, node: &str, action: &str, data: impl Into<Bytes>) -> Result<(), SendError> {
        let known = match action {
            "reconnect" => self.shared.with(|core, now| core.reconnect(node, now)),
            "admindown" => self.shared.with(|core, now| core.admin_down(node, now)),
            "adminup" => self.shared.with(|core, now| core.admin_up(node, now)),
            _ => {
                let data = data.into();
                let receipt = self.shared.with(|core, now| core.call(node, action, data, now))?;
                return if receipt.accepted.is_empty() { Err(SendError::Gone(node.into())) } else { Ok(()) };
            }
        };
        if known { Ok(()) } else { Err(SendError::Unknown(node.into())) }
    }

    /// Waits up to `drain` until linked peers have acknowledged all, says goodbye, and ends all streams. What was not
    /// acknowledged is told as undelivered before they end.
    pub async fn shutdown(&self, drain: Duration) {
        let mut end = std::pin::pin!(self.shared.end.notified());
        end.as_mut().enable();
        // It has ended already: fine.
        let _ = self.commands.send(Command::Shutdown { drain });
        if !self.shared.ended.load(SeqCst) {
            end.await;
        }
    }
}
