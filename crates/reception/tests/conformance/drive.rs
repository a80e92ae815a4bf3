//! Small loops that hold records and stand for election, and that collect what a source says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use reception::backend::{Backend, Candidacy, Presence, Renewal, Source, Standing, Turn};
use reception::{Name, Service, Snapshot};
use testkit::eventually;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::stores::LIMIT;

/// Between two tries after an error.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

pub(crate) fn service(name: &str, id: &str) -> Service {
    Service::new(name, "127.0.0.1", 1000).unwrap().with_id(id).unwrap()
}

/// The ids of a list, in its order.
pub(crate) fn ids(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.instances.iter().map(|instance| instance.service.id.as_str()).collect()
}

#[derive(Clone, Copy, Debug)]
enum End {
    Leave,
    Die,
}

/// A record that is kept by a task of its own until it leaves or dies.
pub(crate) struct Kept {
    pub(crate) service: Service,
    end: mpsc::Sender<End>,
    task: JoinHandle<()>,
    created: watch::Receiver<u64>,
}

impl Kept {
    /// Comes back when the record is there.
    pub(crate) async fn register(backend: &Arc<dyn Backend>, service: &Service) -> Self {
        let (end, orders) = mpsc::channel(1);
        let (tell, created) = watch::channel(0);
        let task = tokio::spawn(keep(backend.register(service), orders, tell));
        let kept = Self { service: service.clone(), end, task, created };
        kept.created_after(0).await;
        kept
    }

    /// Of the record as it is now.
    pub(crate) fn created(&self) -> u64 {
        *self.created.borrow()
    }

    /// Waits for a record newer than this one.
    pub(crate) async fn created_after(&self, before: u64) -> u64 {
        let mut created = self.created.clone();
        let newer =
            tokio::time::timeout(testkit::patience(LIMIT), created.wait_for(|now| *now > before)).await;
        *newer.unwrap_or_else(|_| panic!("{} has no record", self.service.id)).expect("it is kept")
    }

    pub(crate) async fn leave(self) {
        self.end(End::Leave).await;
    }

    /// Goes without a word.
    pub(crate) async fn die(self) {
        self.end(End::Die).await;
    }

    async fn end(self, how: End) {
        self.end.send(how).await.unwrap();
        self.task.await.unwrap();
    }
}

async fn keep(mut record: Box<dyn Presence>, mut orders: mpsc::Receiver<End>, tell: watch::Sender<u64>) {
    loop {
        match record.enter().await {
            Ok(tenure) => drop(tell.send(tenure.created)),
            Err(error) => {
                assert!(!error.is_permanent(), "{error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        loop {
            let due = record.renew_every();
            let alarm = tokio::select! {
                how = orders.recv() => return end(&mut *record, how).await,
                () = tokio::time::sleep(due) => false,
                () = record.alarm() => true,
            };
            match record.renew().await {
                Ok(Renewal::Kept(_)) => {}
                Ok(Renewal::Lost(_)) => break,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
            if alarm {
                // A store that tells too much must not have us ask without a pause.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn end(record: &mut dyn Presence, how: Option<End>) {
    if let Some(End::Leave) = how {
        record.leave().await.unwrap();
        // Also good when it is not there.
        record.leave().await.unwrap();
    }
}

/// A candidate that is driven by a task of its own until it leaves or dies.
pub(crate) struct Runner {
    pub(crate) service: Service,
    end: mpsc::Sender<End>,
    task: JoinHandle<()>,
    standing: watch::Receiver<Option<Standing>>,
}

impl Runner {
    /// Comes back when it is in the line.
    pub(crate) async fn campaign(backend: &Arc<dyn Backend>, service: &Service) -> Self {
        let (end, orders) = mpsc::channel(1);
        let (tell, standing) = watch::channel(None);
        let task = tokio::spawn(run(backend.candidate(service), orders, tell));
        let runner = Self { service: service.clone(), end, task, standing };
        let mut standing = runner.standing.clone();
        let known = standing.wait_for(Option::is_some);
        drop(
            tokio::time::timeout(testkit::patience(LIMIT), known).await.expect("it is in the line").unwrap(),
        );
        runner
    }

    /// The token of its term, if it leads.
    pub(crate) fn leads(&self) -> Option<u64> {
        match *self.standing.borrow() {
            Some(Standing::Leads(token)) => Some(token),
            _ => None,
        }
    }

    /// Waits until it leads.
    pub(crate) async fn led(&self, limit: Duration) -> u64 {
        eventually(format!("{} to lead", self.service.id), limit, async || self.leads()).await
    }

    pub(crate) async fn leave(self) {
        self.end(End::Leave).await;
    }

    /// Goes without a word.
    pub(crate) async fn die(self) {
        self.end(End::Die).await;
    }

    async fn end(self, how: End) {
        self.end.send(how).await.unwrap();
        self.task.await.unwrap();
    }
}

async fn run(
    mut candidate: Box<dyn Candidacy>,
    mut orders: mpsc::Receiver<End>,
    tell: watch::Sender<Option<Standing>>,
) {
    'entries: loop {
        if let Err(error) = candidate.enter().await {
            assert!(!error.is_permanent(), "{error}");
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let mut due = tokio::time::Instant::now() + candidate.renew_every();
        loop {
            match candidate.standing().await {
                Ok(standing) => drop(tell.send(Some(standing))),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
            let renews = tokio::select! {
                how = orders.recv() => return end(&mut *candidate, how).await,
                () = tokio::time::sleep_until(due) => true,
                turn = candidate.turned() => match turn {
                    Ok(Turn::Alarm) => true,
                    Ok(Turn::Moved) => false,
                    Err(_) => {
                        tokio::time::sleep(PAUSE).await;
                        false
                    }
                },
            };
            if !renews {
                continue;
            }
            match candidate.renew().await {
                Ok(Renewal::Kept(_)) => due = tokio::time::Instant::now() + candidate.renew_every(),
                Ok(Renewal::Lost(_)) => {
                    let _ = tell.send(Some(Standing::Waits));
                    continue 'entries;
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// All that a source gives, collected by a task of its own. Errors are counted and tried again.
pub(crate) struct Seen<T> {
    all: Arc<Mutex<Vec<T>>>,
    errors: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl<T: Clone + Send + std::fmt::Debug + 'static> Seen<T> {
    pub(crate) fn of(mut source: Box<dyn Source<T>>) -> Self {
        let (all, errors) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (into, told) = (all.clone(), errors.clone());
        let task = tokio::spawn(async move {
            loop {
                match source.next().await {
                    Ok(seen) => into.lock().unwrap().push(seen),
                    Err(error) => {
                        told.lock().unwrap().push(error.to_string());
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        });
        Self { all, errors, task }
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.all.lock().unwrap().clone()
    }

    pub(crate) fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap().clone()
    }

    /// Waits until the last thing seen is as wanted.
    pub(crate) async fn until(&self, what: &str, limit: Duration, wanted: impl Fn(&T) -> bool) -> T {
        let start = tokio::time::Instant::now();
        let limit = testkit::patience(limit);
        loop {
            let last = self.all.lock().unwrap().last().cloned();
            match last {
                Some(last) if wanted(&last) => return last,
                last if start.elapsed() > limit => {
                    panic!(
                        "waited {limit:?} in vain for {what}; last seen: {last:?}; errors: {:?}",
                        self.errors()
                    )
                }
                _ => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }
}

impl<T> Drop for Seen<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
