//! `[[render]]` and `[[spawn]]`: their tasks, and what these see: the lists that they want, kept up to date in one value.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::lifecycle::Lifecycle;
use daemon::state_dir::{StateDir, StateDirError};
use reception::backend::Names;
use reception::{Name, Snapshot, View as ListView};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};

use super::views::{Use, Views};
use crate::crew::Crew;
use crate::render::{self, RenderSpec};
use crate::spawn::{self, SpawnSpec};
use crate::view::{self, View, Wanted};

/// Lists that are read for the first time at once: all at once would time out together.
const FIRST_READS: usize = 32;
/// For how long one of them keeps its place.
const FIRST_READ: Duration = Duration::from_secs(10);
/// For how long more news is waited for when some came.
const GATHER: Duration = Duration::from_millis(20);

/// Files and proxies that follow services.
pub struct Feeds {
    files: Crew<RenderSpec>,
    proxies: Crew<(SpawnSpec, Memory)>,
    wanted: watch::Sender<Vec<Wanted>>,
    dir: PathBuf,
    memory: Option<Memory>,
}

/// Where proxies' nodes are remembered. There is one.
#[derive(Clone, Debug)]
struct Memory(Arc<StateDir>);

impl PartialEq for Memory {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Feeds {
    /// None yet. Has to run within a tokio runtime.
    pub fn start(views: &Views, dir: PathBuf, lifecycle: &Lifecycle) -> Self {
        let (wanted, wants) = watch::channel(Vec::new());
        let (tell, seen) = watch::channel(Arc::default());
        tokio::spawn(follow(views.clone(), wants, tell));
        let (files, proxies) = (render::Counters::default(), spawn::Counters::default());
        lifecycle.metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("reception_agent");
            files.register(registry);
            proxies.register(registry);
        });
        let seen_by_files = seen.clone();
        let keep = move |spec, stop| render::run(spec, seen_by_files.clone(), files.clone(), stop);
        let lead =
            move |(spec, Memory(dir)), stop| spawn::run(spec, seen.clone(), dir, proxies.clone(), stop);
        Self { files: Crew::new(keep), proxies: Crew::new(lead), wanted, dir, memory: None }
    }

    /// Keeps exactly these.
    ///
    /// # Errors
    /// When the directory of a proxy's memory cannot be had; nothing has changed then.
    pub fn apply(&mut self, files: Vec<RenderSpec>, proxies: Vec<SpawnSpec>) -> Result<(), StateDirError> {
        if !proxies.is_empty() && self.memory.is_none() {
            let dir = StateDir::open(&self.dir)?;
            spawn::check_format(&dir)?;
            self.memory = Some(Memory(Arc::new(dir)));
        }
        let of_files = files.iter().map(|spec| spec.rule.wanted.clone());
        let of_proxies = proxies.iter().map(|spec| Wanted::Named(vec![spec.service.clone()]));
        self.wanted.send_replace(of_files.chain(of_proxies).collect());
        self.files.apply(files);
        let memory = self.memory.iter().cycle().cloned();
        self.proxies.apply(proxies.into_iter().zip(memory).collect());
        Ok(())
    }

    /// Ends all, and waits until they have ended.
    pub async fn end(self) {
        self.files.end().await;
        self.proxies.end().await;
    }
}

/// Follows what is wanted, which a reload changes. Ends when nobody can want anything any more.
async fn follow(
    views: Views,
    mut wanted: watch::Receiver<Vec<Wanted>>,
    tell: watch::Sender<Arc<view::Views>>,
) {
    let mut feed = Feed::new(views);
    let mut all = wanted.borrow_and_update().clone();
    let mut names: Option<Use<Names>> = None;
    let mut known: Option<ListView<Names>> = None;
    let mut others = true;
    loop {
        if others {
            if all.contains(&Wanted::All) {
                names.get_or_insert_with(|| feed.views.names());
            } else {
                (names, known) = (None, None);
            }
            feed.pin(&asked_for(&all, known.as_ref()));
            others = false;
        }
        feed.see_names(known.as_ref());
        tell.send_replace(Arc::new(feed.now.clone()));
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                all = wanted.borrow_and_update().clone();
                others = true;
            }
            view = next_names(&mut names) => {
                others = known.as_ref().is_none_or(|known| known.value != view.value);
                known = Some(view);
            }
            Some(news) = feed.news.join_next() => {
                feed.take(news);
                // What concerns all lists comes to each by itself: it is told on at once.
                tokio::time::sleep(GATHER).await;
                while let Some(news) = feed.news.try_join_next() {
                    feed.take(news);
                }
            }
        }
    }
}

struct Feed {
    views: Views,
    now: view::Views,
    pinned: BTreeMap<Name, Pin>,
    news: JoinSet<News>,
    generation: u64,
    /// For lists that were never read.
    first_reads: Arc<Semaphore>,
}

/// A list that is watched, or is about to be.
struct Pin {
    /// By this its news are known.
    number: u64,
    /// Waits for its news.
    task: AbortHandle,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct News {
    name: Name,
    number: u64,
    using: Use<Snapshot>,
    view: Option<ListView<Snapshot>>,
}

impl Feed {
    fn new(views: Views) -> Self {
        Self {
            views,
            now: view::Views::default(),
            pinned: BTreeMap::new(),
            news: JoinSet::new(),
            generation: 0,
            first_reads: Arc::new(Semaphore::new(FIRST_READS)),
        }
    }

    /// Has exactly these lists watched.
    fn pin(&mut self, names: &BTreeSet<Name>) {
        self.pinned.retain(|name, _| names.contains(name));
        let kept: BTreeSet<&str> = names.iter().map(Name::as_str).collect();
        self.now.services.retain(|name, _| kept.contains(name.as_str()));
        for name in names.iter().filter(|name| !self.pinned.contains_key(name)).cloned().collect::<Vec<_>>() {
            self.generation += 1;
            let (number, views, places) = (self.generation, self.views.clone(), self.first_reads.clone());
            let of = name.clone();
            let task = self.news.spawn(async move {
                let place = places.acquire_owned().await;
                let mut using = views.pin(&of);
                // One that cannot be read does not keep back the others.
                let first = tokio::time::timeout(FIRST_READ, using.watcher.next()).await;
                drop(place);
                let view = match first {
                    Ok(view) => view,
                    Err(_) => using.watcher.next().await,
                };
                News { name: of, number, using, view }
            });
            self.pinned.insert(name, Pin { number, task });
        }
    }

    fn see_names(&mut self, known: Option<&ListView<Names>>) {
        let certain = known.filter(|names| !names.is_stale()).map(|known| &known.value.names);
        let same = match (&self.now.names, certain) {
            (Some(told), Some(names)) => told.iter().map(String::as_str).eq(names.iter().map(Name::as_str)),
            (told, names) => told.is_none() && names.is_none(),
        };
        if !same {
            self.now.names = certain.map(|names| Arc::new(names.iter().map(ToString::to_string).collect()));
        }
    }

    fn take(&mut self, news: Result<News, JoinError>) {
        // Of one that is not wanted any more.
        let Ok(News { name, number, mut using, view: Some(view) }) = news else { return };
        let Some(pin) = self.pinned.get_mut(&name).filter(|pin| pin.number == number) else { return };
        let instances = view.services().into_iter().cloned().collect();
        let seen = View { instances, confirmed: !view.is_stale() };
        self.now.services.insert(name.to_string(), Arc::new(seen));
        pin.task = self.news.spawn(async move {
            let view = using.watcher.next().await;
            News { name, number, using, view }
        });
    }
}

/// The names that somebody wants.
fn asked_for(wanted: &[Wanted], known: Option<&ListView<Names>>) -> BTreeSet<Name> {
    let mut names = BTreeSet::new();
    for one in wanted {
        match one {
            Wanted::All => names.extend(known.iter().flat_map(|known| known.value.names.iter().cloned())),
            // The configuration has checked them.
            Wanted::Named(named) => names.extend(named.iter().filter_map(|name| Name::new(name).ok())),
        }
    }
    names
}

async fn next_names(names: &mut Option<Use<Names>>) -> ListView<Names> {
    if let Some(using) = names
        && let Some(view) = using.watcher.next().await
    {
        return view;
    }
    std::future::pending().await
}
