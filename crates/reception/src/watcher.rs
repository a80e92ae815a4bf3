//! A list that is kept up to date, with what is known about its age.

use std::sync::Arc;
use std::time::Duration;

use supervise::Boottime;
use tokio::sync::watch;

use crate::backend::Source;
use crate::error::Error;

/// Pauses after failures, as for records.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = crate::course::LONGEST_PAUSE;

/// The last good read of a list, and whether it still holds.
#[derive(Clone, Debug)]
pub struct View<T> {
    /// As the store said last.
    pub value: Arc<T>,
    /// When it was known last to hold, while the store cannot be asked; none while it is being watched.
    pub unsure_since: Option<Boottime>,
    /// Why it cannot be asked.
    pub trouble: Option<Error>,
}

impl<T> View<T> {
    /// Whether it may be out of date.
    pub fn is_stale(&self) -> bool {
        self.unsure_since.is_some()
    }

    /// For how long it has not been confirmed; zero while it is watched.
    pub fn age(&self) -> Duration {
        self.unsure_since.map_or(Duration::ZERO, |since| Boottime::now().since(since))
    }
}

impl View<crate::Snapshot> {
    /// The services in it, in the order of their creation.
    pub fn services(&self) -> Vec<&crate::Service> {
        self.value.instances.iter().map(|instance| &instance.service).collect()
    }
}

impl<T: PartialEq> PartialEq for View<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value && self.unsure_since == other.unsure_since
    }
}

/// Watches one list for as long as it is there. Retries for ever; its last view stays.
///
/// Clones share the task; each sees every latest state, and may skip what was replaced before it looked.
#[derive(Debug)]
pub struct Watcher<T> {
    views: watch::Receiver<Seen<T>>,
    told: Option<View<T>>,
}

/// Nothing was read yet, and why; or the latest view.
type Seen<T> = Result<View<T>, Option<Error>>;

impl<T> Clone for Watcher<T> {
    fn clone(&self) -> Self {
        Self { views: self.views.clone(), told: None }
    }
}

impl<T: Clone + PartialEq + Send + Sync + 'static> Watcher<T> {
    /// Begins to watch, on a task of the current runtime, which ends when the last clone is dropped.
    pub(crate) fn start(source: Box<dyn Source<T>>) -> Self {
        let (tell, views) = watch::channel(Err(None));
        tokio::spawn(follow(source, tell));
        Self { views, told: None }
    }

    /// The first view as soon as there is one, then each change: of the list, or of whether it holds. Cancel safe. None never comes
    /// while the runtime lives.
    pub async fn next(&mut self) -> Option<View<T>> {
        loop {
            if let Ok(view) = &*self.views.borrow_and_update()
                && self.told.as_ref() != Some(view)
            {
                self.told = Some(view.clone());
                return Some(view.clone());
            }
            self.views.changed().await.ok()?;
        }
    }

    /// The latest view; until there is one, why not.
    ///
    /// # Errors
    /// The last failure, or none when the first read is under way.
    pub fn latest(&self) -> Result<View<T>, Option<Error>> {
        self.views.borrow().clone()
    }
}

async fn follow<T: Clone + PartialEq>(mut source: Box<dyn Source<T>>, tell: watch::Sender<Seen<T>>) {
    let mut failures = 0_u32;
    loop {
        let next = tokio::select! {
            next = source.next() => next,
            () = tell.closed() => return,
        };
        match next {
            Ok(value) => {
                failures = 0;
                tell.send_if_modified(|seen| take(seen, value));
                continue;
            }
            Err(error) => {
                if failures == 0 {
                    tracing::debug!(%error, "the list is stale");
                }
                tell.send_if_modified(|seen| lose(seen, error, Boottime::now()));
            }
        }
        let step = (SHORTEST_PAUSE * 2_u32.pow(failures.min(5))).min(LONGEST_PAUSE);
        failures = failures.saturating_add(1);
        tokio::select! {
            () = tokio::time::sleep(step.mul_f64(0.5 + rand::random::<f64>() / 2.0)) => {}
            () = tell.closed() => return,
        }
    }
}

/// Whether somebody has to be told.
fn take<T: PartialEq>(seen: &mut Seen<T>, value: T) -> bool {
    if let Ok(view) = seen
        && *view.value == value
    {
        let was_stale = view.unsure_since.take().is_some();
        view.trouble = None;
        return was_stale;
    }
    *seen = Ok(View { value: Arc::new(value), unsure_since: None, trouble: None });
    true
}

fn lose<T>(seen: &mut Seen<T>, error: Error, now: Boottime) -> bool {
    match seen {
        Ok(view) => {
            let was_sure = view.unsure_since.is_none();
            view.unsure_since.get_or_insert(now);
            view.trouble = Some(error);
            was_sure
        }
        Err(why) => {
            let changed = why.as_ref() != Some(&error);
            *why = Some(error);
            changed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(what: &str) -> Error {
        Error::Disconnected { backend: "b".to_owned(), what: what.to_owned() }
    }

    #[test]
    fn a_failed_read_never_empties_a_list_and_its_age_counts_from_the_first_failure() {
        let mut seen: Seen<Vec<u8>> = Err(None);
        assert!(lose(&mut seen, trouble("a"), Boottime::from_nanos(1)));
        assert!(!lose(&mut seen, trouble("a"), Boottime::from_nanos(2)), "the same again is no news");
        assert!(take(&mut seen, vec![1]));
        assert!(!take(&mut seen, vec![1]), "the same again is no news");
        assert!(lose(&mut seen, trouble("b"), Boottime::from_nanos(5)));
        assert!(!lose(&mut seen, trouble("c"), Boottime::from_nanos(9)), "still stale is no news");
        let view = seen.clone().unwrap();
        assert_eq!(
            (view.value.as_slice(), view.unsure_since),
            ([1].as_slice(), Some(Boottime::from_nanos(5)))
        );
        assert_eq!(view.trouble, Some(trouble("c")));
        assert!(take(&mut seen, vec![1]), "in step again is news");
        assert!(!seen.clone().unwrap().is_stale());
        assert!(take(&mut seen, vec![]), "the store's own word empties it");
    }
}
