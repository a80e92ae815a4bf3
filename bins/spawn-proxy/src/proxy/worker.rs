//! A thread that serves clients and delivers to nodes, with a runtime and a pool of its own.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::upstream::Pool;
use crate::shared::Shared;

/// What one thread has to itself.
pub struct Worker {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Connections to nodes.
    pub pool: Pool,
}

type Job = Box<dyn FnOnce(Rc<Worker>) + Send>;

/// The threads.
pub struct Workers {
    jobs: Vec<mpsc::UnboundedSender<Job>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// Starts tasks on the threads; cheap to clone.
#[derive(Clone)]
pub struct Spawner(Vec<mpsc::UnboundedSender<Job>>);

impl Spawner {
    /// Runs `job` on thread `number` (modulo their count); it may `spawn_local` there.
    pub fn run_on(&self, number: usize, job: impl FnOnce(Rc<Worker>) + Send + 'static) {
        if let Some(sender) = self.0.get(number % self.0.len().max(1))
            && sender.send(Box::new(job)).is_err()
        {
            tracing::error!("a worker thread is gone");
        }
    }

    /// How many threads there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Workers {
    /// The channels to `count` threads that are not started yet: jobs wait for them.
    pub fn prepare(count: usize) -> (Spawner, Vec<mpsc::UnboundedReceiver<Job>>) {
        let (senders, receivers) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        (Spawner(senders), receivers)
    }

    /// Starts the threads. They end when [`join`](Self::join) is called and every [`Spawner`] is gone
    /// or the tasks that they run have been told to stop.
    ///
    /// # Errors
    /// When the system gives no thread or no event queue.
    pub fn start(
        spawner: &Spawner,
        receivers: Vec<mpsc::UnboundedReceiver<Job>>,
        shared: &Arc<Shared>,
    ) -> std::io::Result<Self> {
        let mut threads = Vec::new();
        for (number, jobs) in receivers.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let shared = shared.clone();
            let run = move || runtime.block_on(tokio::task::LocalSet::new().run_until(serve(shared, jobs)));
            threads.push(std::thread::Builder::new().name(format!("worker-{number}")).spawn(run)?);
        }
        Ok(Self { jobs: spawner.0.clone(), threads })
    }

    /// Ends the threads at once; whatever they still run is dropped.
    pub fn join(self) {
        for sender in &self.jobs {
            // A job that ends the loop: the receiver closes when it is told so.
            let _ = sender.send(Box::new(|worker| worker.shared.end.notify_waiters()));
        }
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

async fn serve(shared: Arc<Shared>, mut jobs: mpsc::UnboundedReceiver<Job>) {
    let worker = Rc::new(Worker { shared, pool: Pool::default() });
    let end = worker.shared.end.clone();
    let ended = end.notified();
    tokio::pin!(ended);
    ended.as_mut().enable();
    let mut sweep = tokio::time::interval(std::time::Duration::from_secs(15));
    loop {
        tokio::select! {
            () = &mut ended => return,
            job = jobs.recv() => match job {
                Some(job) => job(worker.clone()),
                None => return,
            },
            _ = sweep.tick() => worker.pool.sweep(),
        }
    }
}
