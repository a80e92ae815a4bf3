//! Tasks that follow the configuration: one for each specification.
//!
//! A member that panics ends the whole process, and a supervisor starts it anew: the workspace's release profile has `panic = "abort"`. So nobody looks
//! whether one died. Where panics unwind (in tests), the next change of the configuration starts it again.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use daemon::drain::Drain;
use tokio::task::JoinHandle;

/// How long what is under way at the end may take: such as a command that tells readers.
const LAST_WORK: Duration = Duration::from_secs(5);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task for each specification, which goes on while its specification is the same.
pub struct Crew<S> {
    start: Box<dyn Fn(S, Drain) -> Task + Send>,
    members: Vec<Member<S>>,
}

struct Member<S> {
    spec: S,
    stop: Drain,
    task: JoinHandle<()>,
}

impl<S> std::fmt::Debug for Crew<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew").field("members", &self.members.len()).finish_non_exhaustive()
    }
}

impl<S: Clone + PartialEq> Crew<S> {
    /// Nobody yet. `start` is what a member does, until its drain begins.
    pub fn new<F: Future<Output = ()> + Send + 'static>(
        start: impl Fn(S, Drain) -> F + Send + 'static,
    ) -> Self {
        Self { start: Box::new(move |spec, stop| Box::pin(start(spec, stop))), members: Vec::new() }
    }

    /// Has one task for each of `specs`: those that are there already go on, others end, and new ones begin when
    /// those that end have ended. Never waits. Has to run within a tokio runtime.
    pub fn apply(&mut self, specs: Vec<S>) {
        let (mut kept, mut ending) = (Vec::new(), Vec::new());
        for member in self.members.drain(..) {
            if specs.contains(&member.spec) && !member.task.is_finished() {
                kept.push(member);
            } else {
                member.stop.begin();
                ending.push(member.task);
            }
        }
        // One that is new may keep what one that ends still keeps.
        let (ended, wait) = tokio::sync::watch::channel(());
        tokio::spawn(async move {
            for task in ending {
                // A member that panicked has said so.
                let _ = task.await;
            }
            drop(ended);
        });
        for spec in specs {
            if kept.iter().any(|member| member.spec == spec) {
                continue;
            }
            let (stop, mut wait) = (Drain::new(), wait.clone());
            let work = (self.start)(spec.clone(), stop.clone());
            let task = tokio::spawn(async move {
                // Ends with an error when the sender is dropped: that is what is waited for.
                let _ = wait.changed().await;
                work.await;
            });
            kept.push(Member { spec, stop, task });
        }
        self.members = kept;
    }

    /// Ends all, and waits until they have ended; what takes longer than 5 s by then is dropped.
    pub async fn end(mut self) {
        self.members.iter().for_each(|member| member.stop.begin());
        let deadline = tokio::time::Instant::now() + LAST_WORK;
        for Member { stop, mut task, .. } in self.members.drain(..) {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                stop.expire();
                // A member that panicked has said so.
                let _ = task.await;
            }
        }
    }
}

impl<S> Drop for Crew<S> {
    fn drop(&mut self) {
        for member in &self.members {
            member.stop.begin();
            member.stop.expire();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn who_is_the_same_goes_on_and_who_is_new_waits_for_those_that_end() {
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let said = log.clone();
        let mut crew = Crew::new(move |name: &'static str, stop| {
            let log = said.clone();
            async move {
                log.lock().unwrap().push(format!("+{name}"));
                stop.draining().await;
                tokio::task::yield_now().await;
                log.lock().unwrap().push(format!("-{name}"));
            }
        });
        let count = |wanted: usize| {
            let log = log.clone();
            testkit::eventually("the tasks", Duration::from_secs(20), async move || {
                (log.lock().unwrap().len() == wanted).then_some(())
            })
        };
        crew.apply(vec!["a", "b"]);
        count(2).await;
        crew.apply(vec!["b", "c"]);
        count(4).await;
        assert_eq!(log.lock().unwrap()[2..], ["-a", "+c"]);
        crew.end().await;
        let log = log.lock().unwrap();
        assert_eq!(log.len(), 6, "{log:?}");
        assert!(log[4..].contains(&"-b".to_owned()) && log[4..].contains(&"-c".to_owned()));
    }
}
