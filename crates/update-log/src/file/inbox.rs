//! What the writer is asked to do, in order and bounded.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::node::NodeId;
use common::queue::Sequence;
use tokio::sync::{Semaphore, oneshot};

use super::keys::Place;
use crate::{Answer, AppendError, Failure, LogError, NewUpdate, RewindError, Tracker, UnsubscribeError};

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<T>;

/// What came of an append.
pub(crate) enum Outcome {
    New { sequence: Sequence, tracker: Arc<Tracker> },
    Known { sequence: Sequence, answer: Option<Kept>, tracker: Option<Arc<Tracker>> },
    KeyReused { sequence: Sequence },
}

/// A kept answer.
#[derive(Clone)]
pub(crate) enum Kept {
    Here(Arc<Answer>),
    At(Place),
}

/// A request to the writer.
pub(crate) enum Command {
    Append {
        update: NewUpdate,
        encoded: Vec<u8>,
        reply: Reply<Result<Outcome, AppendError>>,
    },
    Failed {
        node: NodeId,
        sequence: Sequence,
        failure: Failure,
        reply: Reply<Result<(), LogError>>,
    },
    /// Makes durable whatever was settled before.
    Flush {
        reply: Reply<Result<(), LogError>>,
    },
    Subscribe {
        node: NodeId,
        reply: Reply<Result<(), LogError>>,
    },
    Unsubscribe {
        node: NodeId,
        discard: bool,
        reply: Reply<Result<u64, UnsubscribeError>>,
    },
    Rename {
        old: NodeId,
        new: NodeId,
        reply: Reply<Result<(), LogError>>,
    },
    Rewind {
        node: NodeId,
        from: Option<Sequence>,
        reply: Reply<Result<u64, RewindError>>,
    },
    Park {
        node: NodeId,
        reply: Reply<Result<u64, LogError>>,
    },
    Discard {
        node: NodeId,
        reply: Reply<Result<u64, LogError>>,
    },
    Close {
        reply: Reply<Result<(), LogError>>,
    },
}

impl Command {
    /// Whether it has to be written alone, because it changes what those behind it mean.
    fn alone(&self) -> bool {
        !matches!(self, Self::Append { .. } | Self::Failed { .. } | Self::Flush { .. })
    }

    fn weight(&self) -> usize {
        if let Self::Append { encoded, .. } = self { encoded.len() } else { 64 }
    }
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<Command>,
    woken: bool,
    stopped: bool,
    /// The writer waits: only then is a wake-up worth its system call.
    asleep: bool,
}

/// Requests on their way to the writer.
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    ready: Condvar,
    room: Semaphore,
}

/// What the writer is to do next.
pub(crate) struct Work {
    pub(crate) commands: Vec<Command>,
    /// Nothing will come any more.
    pub(crate) stopped: bool,
}

impl Inbox {
    /// An empty one with room for so many requests.
    pub(crate) fn new(room: usize) -> Self {
        Self { queue: Mutex::default(), ready: Condvar::new(), room: Semaphore::new(room) }
    }

    /// Adds a request when there is room. False when the log is closed.
    pub(crate) async fn push(&self, command: Command) -> bool {
        let Ok(permit) = self.room.acquire().await else { return false };
        let mut queue = self.lock();
        if queue.stopped {
            return false;
        }
        permit.forget();
        queue.commands.push_back(command);
        self.rouse(queue);
        true
    }

    /// Has the writer look around.
    pub(crate) fn wake(&self) {
        let mut queue = self.lock();
        queue.woken = true;
        self.rouse(queue);
    }

    fn rouse(&self, queue: MutexGuard<'_, Queue>) {
        let asleep = queue.asleep;
        drop(queue);
        if asleep {
            self.ready.notify_one();
        }
    }

    /// Takes no more requests. What is waiting is dropped, and with it the way to its answer.
    pub(crate) fn stop(&self) {
        self.room.close();
        let mut queue = self.lock();
        queue.stopped = true;
        queue.commands.clear();
        drop(queue);
        self.ready.notify_one();
    }

    /// Waits for requests, [`wake`](Self::wake), or the end of `wait`; takes what is to be written
    /// together, up to `weight` bytes.
    pub(crate) fn take(&self, wait: Option<Duration>, weight: usize) -> Work {
        let mut queue = self.lock();
        let idle = |queue: &mut Queue| queue.commands.is_empty() && !queue.woken && !queue.stopped;
        queue.asleep = true;
        queue = match wait {
            None => self.ready.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner),
            Some(wait) => {
                self.ready.wait_timeout_while(queue, wait, idle).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        queue.asleep = false;
        queue.woken = false;
        let (mut commands, mut taken) = (Vec::new(), 0);
        while let Some(next) = queue.commands.front() {
            if !commands.is_empty() && (next.alone() || taken >= weight) {
                break;
            }
            let alone = next.alone();
            taken += next.weight();
            commands.extend(queue.commands.pop_front());
            if alone {
                break;
            }
        }
        self.room.add_permits(commands.len());
        Work { commands, stopped: queue.stopped }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
