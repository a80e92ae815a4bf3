//! The lists that are kept up to date: the names always, the others on demand for callers and for as long as they
//! are pinned.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reception::backend::Names;
use reception::{Client, Name, Snapshot, View, Watcher};
use serde_json::Value;
use tokio::time::Instant;

/// For how long the rendered age of a stale list is near enough.
const SAME_AGE: Duration = Duration::from_millis(100);

/// All lists that are watched. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Views {
    client: Client,
    idle: Duration,
    most: usize,
    lists: Arc<Mutex<Lists>>,
}

#[derive(Debug)]
struct Lists {
    /// Always watched: this tells how the store is although nobody asks.
    names: Watched<Names>,
    services: BTreeMap<Name, Watched<Snapshot>>,
}

#[derive(Debug)]
struct Watched<T> {
    watcher: Watcher<T>,
    used: Instant,
    /// Held by everybody who is using it.
    users: Arc<()>,
    /// Held by those for whose sake it never counts.
    pins: Arc<()>,
    shown: Shown<T>,
}

/// The newest text of a list, for all who ask for it.
type Shown<T> = Arc<Mutex<Option<Text<T>>>>;

#[derive(Debug)]
struct Text<T> {
    of: View<T>,
    at: Instant,
    text: Bytes,
}

/// A list in use; it is kept up to date for a while after that.
#[derive(Debug)]
pub struct Use<T> {
    /// The list.
    pub watcher: Watcher<T>,
    shown: Shown<T>,
    _user: Arc<()>,
}

/// So many lists are watched already as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// So many.
    pub most: usize,
}

/// How the lists are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Watched.
    pub watched: usize,
    /// Of those, not confirmed by the store now.
    pub stale: usize,
    /// Why one of them is not.
    pub why: Option<String>,
    /// The store has answered once.
    pub reached: bool,
}

impl<T: Clone + PartialEq + Send + Sync + 'static> Watched<T> {
    fn new(watcher: Watcher<T>, now: Instant) -> Self {
        Self { watcher, used: now, users: Arc::default(), pins: Arc::default(), shown: Arc::default() }
    }

    fn take(&mut self, now: Instant) -> Use<T> {
        self.used = now;
        self.using(&self.users)
    }

    fn pin(&self) -> Use<T> {
        self.using(&self.pins)
    }

    fn using(&self, count: &Arc<()>) -> Use<T> {
        Use { watcher: self.watcher.clone(), shown: self.shown.clone(), _user: count.clone() }
    }

    fn is_pinned(&self) -> bool {
        Arc::strong_count(&self.pins) > 1
    }

    /// Whether it is still of use; `idle` after its last use it is not.
    fn is_wanted(&mut self, now: Instant, idle: Duration) -> bool {
        if self.is_pinned() || Arc::strong_count(&self.users) > 1 {
            self.used = now;
        } else {
            *locked(&self.shown) = None;
        }
        now.duration_since(self.used) < idle
    }

    fn trouble(&self) -> Option<String> {
        match self.watcher.latest() {
            Ok(view) if view.is_stale() => Some(view.trouble.map(|why| why.to_string()).unwrap_or_default()),
            Ok(_) | Err(None) => None,
            Err(Some(why)) => Some(why.to_string()),
        }
    }
}

impl<T> Use<T> {
    /// A view of this list as a line of JSON, rendered once for all who ask for the same one.
    pub fn text(&self, view: &View<T>, render: impl Fn(&View<T>) -> Value) -> Bytes {
        self.text_at(Instant::now(), view, render)
    }

    fn text_at(&self, now: Instant, view: &View<T>, render: impl Fn(&View<T>) -> Value) -> Bytes {
        let mut shown = locked(&self.shown);
        if let Some(Text { of, at, text }) = shown.as_ref()
            && Arc::ptr_eq(&of.value, &view.value)
            && of.unsure_since == view.unsure_since
            && (!view.is_stale() || now.duration_since(*at) < SAME_AGE)
        {
            return text.clone();
        }
        let text = Bytes::from(format!("{}\n", render(view)));
        let of = View { value: view.value.clone(), unsure_since: view.unsure_since, trouble: None };
        *shown = Some(Text { of, at: now, text: text.clone() });
        text
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Views {
    /// The names alone. At most `most` others are watched for callers, each for `idle` after its last use. Has to run within a
    /// tokio runtime.
    pub fn new(client: Client, idle: Duration, most: usize) -> Self {
        let names = Watched::new(client.names_watcher(), Instant::now());
        let lists = Lists { names, services: BTreeMap::new() };
        Self { client, idle, most, lists: Arc::new(Mutex::new(lists)) }
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        locked(&self.lists)
    }

    /// The names that have instances.
    pub fn names(&self) -> Use<Names> {
        self.lists().names.take(Instant::now())
    }

    /// The instances of a name, for a caller.
    ///
    /// # Errors
    /// [`TooMany`], where it is not watched yet.
    pub fn open(&self, name: &Name) -> Result<Use<Snapshot>, TooMany> {
        let now = Instant::now();
        let mut lists = self.lists();
        if let Some(watched) = lists.services.get_mut(name) {
            return Ok(watched.take(now));
        }
        if lists.services.values().filter(|watched| !watched.is_pinned()).count() >= self.most {
            return Err(TooMany { most: self.most });
        }
        let mut watched = Watched::new(self.client.watcher(name), now);
        let used = watched.take(now);
        lists.services.insert(name.clone(), watched);
        Ok(used)
    }

    /// The instances of a name, watched without a bound for as long as the result is held.
    pub fn pin(&self, name: &Name) -> Use<Snapshot> {
        let mut lists = self.lists();
        let new = || Watched::new(self.client.watcher(name), Instant::now());
        lists.services.entry(name.clone()).or_insert_with(new).pin()
    }

    /// The instances of a name where they are watched; this is no use of them.
    pub fn peek(&self, name: &Name) -> Option<Watcher<Snapshot>> {
        self.lists().services.get(name).map(|watched| watched.watcher.clone())
    }

    /// Watches no more what nobody has used for a while.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut lists = self.lists();
        lists.services.retain(|_, watched| watched.is_wanted(now, self.idle));
        lists.names.is_wanted(now, self.idle);
    }

    /// How they are.
    pub fn health(&self) -> Health {
        let lists = self.lists();
        let of_services = lists.services.values().map(Watched::trouble);
        let all: Vec<_> = std::iter::once(lists.names.trouble()).chain(of_services).collect();
        Health {
            watched: all.len(),
            stale: all.iter().flatten().count(),
            why: all.into_iter().flatten().next(),
            reached: lists.names.watcher.latest().is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use supervise::Boottime;

    use super::*;

    #[tokio::test]
    async fn a_list_is_rendered_once_for_all_and_anew_when_it_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file:{}", dir.path().display());
        let client = reception::dial(&url, reception::Options::default()).unwrap();
        let views = Views::new(client, Duration::from_secs(1), 1);
        let [one, other] = [views.names(), views.names()];
        let times = Cell::new(0);
        let now = Cell::new(Instant::now());
        let text = |using: &Use<Names>, view: &View<Names>| {
            using.text_at(now.get(), view, |_| {
                times.set(times.get() + 1);
                Value::from(times.get())
            })
        };
        let names = |index| Arc::new(Names { names: Vec::new(), index });
        let mut view = View { value: names(1), unsure_since: None, trouble: None };
        let first = text(&one, &view);
        assert_eq!((first.as_ref(), times.get()), (b"1\n".as_slice(), 1));
        assert_eq!(text(&other, &view).as_ptr(), first.as_ptr(), "the same bytes");
        now.set(now.get() + SAME_AGE * 2);
        assert_eq!(text(&other, &view), first);
        view.unsure_since = Some(Boottime::from_nanos(1));
        let stale = text(&one, &view);
        assert_eq!((stale.as_ref(), text(&other, &view)), (b"2\n".as_slice(), stale.clone()));
        now.set(now.get() + SAME_AGE);
        assert_eq!(text(&one, &view), "3\n", "its age is another one");
        view = View { value: names(1), unsure_since: None, trouble: None };
        assert_eq!(text(&one, &view), "4\n");
        views.sweep();
        assert!(locked(&one.shown).is_some(), "somebody uses it");
        drop(other);
        let shown = one.shown.clone();
        drop(one);
        views.sweep();
        assert!(locked(&shown).is_none());
    }
}
