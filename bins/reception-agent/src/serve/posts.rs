//! One task for each thing that is held for callers, found by its name and id.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daemon::drain::Drain;
use reception::Name;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Calls that wait for one task; each is a request that waits for its answer, so that more wait there.
const WAITING: usize = 16;

/// The name of a service, and the id of an instance or candidate.
pub type Key = (Name, String);

/// So many are held already as may be, or the end has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The tasks that take calls of kind `C`.
#[derive(Debug)]
pub struct Posts<C> {
    tasks: Arc<Mutex<Tasks<C>>>,
    places: Arc<Semaphore>,
    drain: Drain,
}

#[derive(Debug)]
struct Tasks<C> {
    by_key: BTreeMap<Key, (u64, mpsc::Sender<C>)>,
    begun: u64,
}

impl<C> Clone for Posts<C> {
    fn clone(&self) -> Self {
        Self { tasks: self.tasks.clone(), places: self.places.clone(), drain: self.drain.clone() }
    }
}

/// What a task has of it: its calls.
#[derive(Debug)]
pub struct Post<C> {
    key: Key,
    number: u64,
    calls: mpsc::Receiver<C>,
    posts: Posts<C>,
    _place: OwnedSemaphorePermit,
}

impl<C> Posts<C> {
    fn tasks(&self) -> MutexGuard<'_, Tasks<C>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Send + 'static> Posts<C> {
    /// None yet; they take their places among `places`. None begins when `drain` has begun.
    pub fn new(places: Arc<Semaphore>, drain: Drain) -> Self {
        Self { tasks: Arc::new(Mutex::new(Tasks { by_key: BTreeMap::new(), begun: 0 })), places, drain }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.tasks().by_key.len()
    }

    /// Asks the task of this key, and begins one with `start` where there is none.
    ///
    /// # Errors
    /// [`Full`], where none can be begun.
    pub async fn ask<A>(
        &self,
        key: &Key,
        call: impl Fn(oneshot::Sender<A>) -> C,
        start: impl Fn(Post<C>),
    ) -> Result<A, Full> {
        loop {
            let to = self.task(key, &start)?;
            if let Some(answer) = put(&to, &call).await {
                return Ok(answer);
            }
            // It was just ending, and there is another one now, or none.
        }
    }

    /// Asks the task of this key; nothing where there is none.
    pub async fn ask_if_there<A>(&self, key: &Key, call: impl Fn(oneshot::Sender<A>) -> C) -> Option<A> {
        loop {
            let to = self.tasks().by_key.get(key)?.1.clone();
            if let Some(answer) = put(&to, &call).await {
                return Some(answer);
            }
        }
    }

    fn task(&self, key: &Key, start: impl Fn(Post<C>)) -> Result<mpsc::Sender<C>, Full> {
        let mut tasks = self.tasks();
        if let Some((_, to)) = tasks.by_key.get(key) {
            return Ok(to.clone());
        }
        if self.drain.is_draining() {
            return Err(Full);
        }
        let place = self.places.clone().try_acquire_owned().map_err(|_| Full)?;
        let (to, calls) = mpsc::channel(WAITING);
        tasks.begun += 1;
        let number = tasks.begun;
        tasks.by_key.insert(key.clone(), (number, to.clone()));
        drop(tasks);
        start(Post { key: key.clone(), number, calls, posts: self.clone(), _place: place });
        Ok(to)
    }
}

/// The answer; none when the task ended without one.
async fn put<C, A>(to: &mpsc::Sender<C>, call: impl Fn(oneshot::Sender<A>) -> C) -> Option<A> {
    let (reply, answer) = oneshot::channel();
    to.send(call(reply)).await.ok()?;
    answer.await.ok()
}

impl<C: Send + 'static> Post<C> {
    /// The next call. Cancel safe.
    pub async fn next(&mut self) -> C {
        match self.calls.recv().await {
            Some(call) => call,
            // The table holds a sender for as long as this is in it.
            None => std::future::pending().await,
        }
    }

    /// Whether it may end: then nobody finds it any more. Who called meanwhile asks another task.
    pub fn may_end(&mut self) -> bool {
        let mut tasks = self.posts.tasks();
        let idle = self.calls.is_empty();
        if idle {
            tasks.by_key.remove(&self.key);
        }
        idle
    }
}

impl<C> Drop for Post<C> {
    fn drop(&mut self) {
        let mut tasks = self.posts.tasks();
        // Where it did not end in order; the key can be another's already.
        if tasks.by_key.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            tasks.by_key.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(count: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(count))
    }

    /// Counts its calls, and ends at every third.
    fn count(mut post: Post<oneshot::Sender<u32>>) {
        tokio::spawn(async move {
            for number in 1_u32.. {
                // One that is gone does not wait for its answer.
                let _ = post.next().await.send(number);
                if number >= 3 && post.may_end() {
                    return;
                }
            }
        });
    }

    #[tokio::test]
    async fn a_task_that_ends_is_replaced_and_no_call_is_lost() {
        let posts = Posts::new(places(1), Drain::new());
        let key = (Name::new("a").unwrap(), "b".to_owned());
        let mut numbers = Vec::new();
        for _ in 0..6 {
            // The place is free only when the task before has ended.
            let number = loop {
                match posts.ask(&key, |reply| reply, count).await {
                    Ok(number) => break number,
                    Err(Full) => tokio::task::yield_now().await,
                }
            };
            numbers.push(number);
        }
        assert_eq!(numbers, [1, 2, 3, 1, 2, 3]);
        assert_eq!(posts.ask_if_there(&(key.0.clone(), "c".to_owned()), |reply| reply).await, None);
    }

    #[tokio::test]
    async fn none_begins_at_the_end() {
        let drain = Drain::new();
        let posts = Posts::new(places(1), drain.clone());
        drain.begin();
        assert_eq!(
            posts.ask(&(Name::new("a").unwrap(), "a".to_owned()), |reply| reply, count).await,
            Err(Full)
        );
    }

    #[tokio::test]
    async fn more_than_there_are_places_for_are_refused() {
        let posts = Posts::new(places(1), Drain::new());
        let key = |id: &str| (Name::new("a").unwrap(), id.to_owned());
        assert_eq!(posts.ask(&key("a"), |reply| reply, count).await, Ok(1));
        assert_eq!(posts.ask(&key("b"), |reply| reply, count).await, Err(Full));
        assert_eq!(posts.ask(&key("a"), |reply| reply, count).await, Ok(2));
        assert_eq!(posts.count(), 1);
    }
}
