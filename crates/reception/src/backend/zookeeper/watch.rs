//! Watches: what changed below a node, by one persistent recursive watch each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use zookeeper_client::{AddWatchMode, Client, EventType, MultiReadResult, PersistentWatcher};

use super::node::{NodeName, unescaped};
use super::read::{Records, Twins, entries};
use super::session::Sessions;
use crate::backend::{BackendFuture, Names, Source, contents};
use crate::error::Error;
use crate::service::{Name, Snapshot};

/// Events that nobody took yet. More end the feed, and the next read is a whole one.
const UNREAD: usize = 1024;

/// The paths of nodes that changed. It ends when it may have missed something: with the link, the session, or too much unread.
///
/// After a lost link the server has no persistent watch any more, and what happened meanwhile is not told. So a feed never
/// outlives its link: a new one is opened, and all is read anew.
#[derive(Debug)]
struct Feed(mpsc::Receiver<String>);

impl Feed {
    async fn open(sessions: &Sessions, client: &Client, path: &str) -> Result<Self, Error> {
        let watching = client.watch(path, AddWatchMode::PersistentRecursive);
        let watcher = sessions.ask(watching).await?;
        let watcher = watcher.ok_or_else(|| sessions.disconnected(format!("{path} cannot be watched")))?;
        let (tell, told) = mpsc::channel(UNREAD);
        tokio::spawn(follow(watcher, tell));
        Ok(Self(told))
    }

    /// Waits for the next changed path; none: the feed is over. Cancel safe.
    async fn next(&mut self) -> Option<String> {
        self.0.recv().await
    }

    fn more(&mut self) -> Result<String, mpsc::error::TryRecvError> {
        self.0.try_recv()
    }
}

/// Takes events off the client at once, which keeps them without a bound.
async fn follow(mut watcher: PersistentWatcher, tell: mpsc::Sender<String>) {
    loop {
        let event = tokio::select! {
            event = watcher.changed() => event,
            () = tell.closed() => return,
        };
        if event.event_type == EventType::Session || tell.try_send(event.path).is_err() {
            return;
        }
    }
}

/// A watch of a path: what changed since the last read.
#[derive(Debug)]
struct Watch {
    sessions: Arc<Sessions>,
    path: String,
    feed: Option<(Feed, Client)>,
    /// Whether something changed that was not read yet.
    unread: bool,
}

/// What has to be read.
enum Changed {
    /// All; nothing that was known before counts.
    Whole,
    /// What these nodes say, and which nodes there are.
    Nodes(Vec<String>),
}

impl Watch {
    fn new(sessions: &Arc<Sessions>, path: &str) -> Self {
        Self { sessions: Arc::clone(sessions), path: path.to_owned(), feed: None, unread: true }
    }

    /// Waits for a change, unless one is still unread.
    async fn changed(&mut self) -> Result<Changed, Error> {
        let mut nodes = Vec::new();
        let mut over = false;
        if let Some((feed, _)) = &mut self.feed {
            if !self.unread {
                match feed.next().await {
                    Some(path) => nodes.push(path),
                    None => over = true,
                }
                self.unread = true;
            }
            while !over {
                match feed.more() {
                    Ok(path) => nodes.push(path),
                    Err(mpsc::error::TryRecvError::Empty) => return Ok(Changed::Nodes(nodes)),
                    Err(mpsc::error::TryRecvError::Disconnected) => over = true,
                }
            }
        }
        self.feed = None;
        let client = self.sessions.attached().await?.client;
        self.feed = Some((Feed::open(&self.sessions, &client, &self.path).await?, client));
        Ok(Changed::Whole)
    }

    /// By which client to read what changed.
    fn client(&self) -> Result<&Client, Error> {
        let feed = self.feed.as_ref();
        feed.map(|(_, client)| client).ok_or_else(|| self.sessions.disconnected("the watch is over"))
    }
}

/// The lists of one name.
#[derive(Debug)]
pub(super) struct Lists {
    watch: Watch,
    records: Records,
    twins: Twins,
}

impl Lists {
    pub(super) fn new(sessions: &Arc<Sessions>, name: &Name, path: &str, twins: Twins) -> Self {
        Self { watch: Watch::new(sessions, path), records: Records::new(name, path), twins }
    }

    async fn read(&mut self) -> Result<Snapshot, Error> {
        match self.watch.changed().await? {
            Changed::Whole => self.records.clear(),
            Changed::Nodes(paths) => paths.iter().for_each(|path| self.records.forget(path)),
        }
        self.records.read(&self.watch.sessions, self.watch.client()?).await?;
        self.watch.unread = false;
        Ok(self.records.snapshot(self.twins))
    }
}

impl Source<Snapshot> for Lists {
    fn next(&mut self) -> BackendFuture<'_, Result<Snapshot, Error>> {
        Box::pin(async move {
            let read = self.read().await;
            if read.is_err() {
                (self.watch.feed, self.watch.unread) = (None, true);
            }
            read
        })
    }
}

/// The names under a root that have records, and what is known of each.
#[derive(Debug)]
pub(super) struct Register {
    root: String,
    /// By nodes: whether there is a record under it.
    known: BTreeMap<String, bool>,
}

impl Register {
    pub(super) fn new(root: &str) -> Self {
        Self { root: root.to_owned(), known: BTreeMap::new() }
    }

    /// The node under which names are.
    pub(super) fn path(&self) -> &str {
        if self.root.is_empty() { "/" } else { &self.root }
    }

    /// Forgets what it knows of the name that a changed path is about; all, where it is about none.
    fn forget(&mut self, path: &str) {
        let below = path.strip_prefix(&self.root).and_then(|rest| rest.strip_prefix('/'));
        match below.and_then(|below| below.split('/').next()) {
            Some(name) => drop(self.known.remove(name)),
            None => self.known.clear(),
        }
    }

    /// Reads which names there are, and of those that are not known whether they have records: two requests in general.
    pub(super) async fn read(&mut self, sessions: &Sessions, client: &Client) -> Result<(), Error> {
        let names = entries(sessions, client, self.path()).await?;
        let names: BTreeSet<_> = names.into_iter().collect();
        self.known.retain(|name, _| names.contains(name));
        let new: Vec<_> = names.iter().filter(|name| !self.known.contains_key(*name)).collect();
        for some in new.chunks(AT_ONCE) {
            let mut reader = client.new_multi_reader();
            for name in some {
                let path = format!("{}/{name}", self.root);
                reader.add_get_children(&path).map_err(|error| sessions.told(&error))?;
            }
            let answers = sessions.ask(reader.commit()).await?.unwrap_or_default();
            for (name, answer) in some.iter().zip(answers) {
                if let MultiReadResult::Children { children } = answer {
                    let records = children.iter().any(|node| NodeName::parse(node).is_some());
                    self.known.insert((*name).clone(), records);
                }
            }
        }
        Ok(())
    }

    pub(super) fn names(&self) -> Names {
        let with_records = self.known.iter().filter(|(_, records)| **records);
        contents::names(with_records.filter_map(|(name, _)| Name::new(&unescaped(name)).ok()))
    }
}

/// Names per request.
const AT_ONCE: usize = 50;

/// The names that have records.
#[derive(Debug)]
pub(super) struct NamesWatch {
    watch: Watch,
    register: Register,
}

impl NamesWatch {
    pub(super) fn new(sessions: &Arc<Sessions>, root: &str) -> Self {
        let register = Register::new(root);
        Self { watch: Watch::new(sessions, register.path()), register }
    }

    async fn read(&mut self) -> Result<Names, Error> {
        match self.watch.changed().await? {
            Changed::Whole => self.register.known.clear(),
            Changed::Nodes(paths) => paths.iter().for_each(|path| self.register.forget(path)),
        }
        self.register.read(&self.watch.sessions, self.watch.client()?).await?;
        self.watch.unread = false;
        Ok(self.register.names())
    }
}

impl Source<Names> for NamesWatch {
    fn next(&mut self) -> BackendFuture<'_, Result<Names, Error>> {
        Box::pin(async move {
            let read = self.read().await;
            if read.is_err() {
                (self.watch.feed, self.watch.unread) = (None, true);
            }
            read
        })
    }
}
