//! The loop: inputs to the machine, its commands to the store and to whoever runs the child.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::clock::{self, Timer};
use crate::error::LockError;
use crate::lease::rules::{Contender, Reply, Request, Standing};
use crate::lease::{Command, End, Input, Lease, RequestId, State};
use crate::lock::{Id, Listener, Lock, News, Session};

use super::Assignment;

/// How much of a session's news waits to be taken.
const NEWS: usize = 16;

type Opened = Result<Box<dyn Session>, LockError>;
type Answered = (Box<dyn Session>, RequestId, Result<Reply, LockError>);

/// What is under way with the store. Dropped, it is given up.
enum Work {
    None,
    Open(Pin<Box<dyn Future<Output = Opened> + Send>>),
    Ask(Pin<Box<dyn Future<Output = Answered> + Send>>),
}

enum Done {
    Opened(Opened),
    Answered(Answered),
}

pub(super) struct Task {
    lock: Arc<dyn Lock>,
    id: Id,
    from: Contender,
    lease: Lease,
    patience: Duration,
    state: watch::Sender<State>,
    session: Option<Box<dyn Session>>,
    work: Work,
    /// News of a session before this one count for nothing.
    dial: u64,
    news: mpsc::Sender<(u64, News)>,
    told: mpsc::Receiver<(u64, News)>,
    /// The store could not be reached when it was last tried, and the log says so.
    unreachable: bool,
}

impl Task {
    pub(super) fn new(
        lock: Arc<dyn Lock>,
        id: Id,
        from: Contender,
        lease: Lease,
        patience: Duration,
        state: watch::Sender<State>,
    ) -> Self {
        let (news, told) = mpsc::channel(NEWS);
        Self {
            lock,
            id,
            from,
            lease,
            patience,
            state,
            session: None,
            work: Work::None,
            dial: 0,
            news,
            told,
            unreachable: false,
        }
    }

    pub(super) async fn run(
        mut self,
        timer: Timer,
        mut inputs: mpsc::UnboundedReceiver<Input>,
        assign: watch::Sender<Assignment>,
    ) {
        let mut input = Input::Tick;
        loop {
            let commands = self.lease.handle(clock::now(), input, rand::random());
            // Before the orders: who is told to stop must not be able to see the lease as held.
            self.publish();
            for command in commands {
                self.carry_out(command, &assign);
            }
            let Some(wake_at) = self.lease.wake_at() else { return };
            input = tokio::select! {
                biased;
                given = inputs.recv() => given.unwrap_or(Input::Stop),
                () = timer.until(wake_at) => Input::Tick,
                done = self.work.done() => self.done(done),
                Some((dial, news)) = self.told.recv() => match news {
                    _ if dial != self.dial => Input::Tick,
                    News::Changed => Input::Changed,
                    News::Broken => {
                        self.hang_up();
                        Input::Disconnected
                    }
                },
            };
        }
    }

    fn publish(&mut self) {
        let now = self.lease.state(clock::now());
        let id = &self.id;
        self.state.send_if_modified(|state| {
            if *state == now {
                return false;
            }
            match &now {
                State::Held { token, .. } if !matches!(state, State::Held { .. }) => {
                    tracing::info!(%id, token, "the lease is held");
                }
                State::Stopping { token, .. } if !matches!(state, State::Stopping { .. }) => {
                    tracing::info!(%id, token, "the child is being stopped");
                }
                State::Waiting { standing: Some(Standing::Quarantine), .. } => {
                    tracing::info!(%id, "the store does not know who held the lease: waiting one expiry");
                }
                State::Ended(End::OtherExpiry { recorded }) => {
                    tracing::error!(%id, ?recorded, "others use this id with another expiry");
                }
                _ => tracing::debug!(%id, state = ?now, "lease"),
            }
            *state = now;
            true
        });
    }

    fn carry_out(&mut self, command: Command, assign: &watch::Sender<Assignment>) {
        match command {
            Command::Dial => self.open(),
            Command::Hangup => self.hang_up(),
            Command::Send { id, request } => self.ask(id, request),
            Command::Arm { stop_at, kill_at } => {
                assign.send_modify(|assignment| assignment.armed = Some((stop_at, kill_at)));
            }
            Command::Start { token } => assign.send_modify(|assignment| {
                (assignment.turn, assignment.token) = (assignment.turn + 1, token);
            }),
        }
    }

    fn open(&mut self) {
        self.dial += 1;
        let (news, dial) = (self.news.clone(), self.dial);
        let listener: Listener = Arc::new(move |what| {
            // Whatever does not fit says what is waiting to be taken already: look, or ask and see it fail.
            let _ = news.try_send((dial, what));
        });
        let (lock, id, from) = (self.lock.clone(), self.id.clone(), self.from.clone());
        let patience = self.patience;
        self.work = Work::Open(Box::pin(async move { lock.open(&id, &from, patience, listener).await }));
    }

    fn hang_up(&mut self) {
        (self.session, self.work) = (None, Work::None);
    }

    fn ask(&mut self, number: RequestId, request: Request) {
        let Some(mut session) = self.session.take() else { return };
        self.work = Work::Ask(Box::pin(async move {
            let reply = session.ask(&request).await;
            (session, number, reply)
        }));
    }

    fn done(&mut self, done: Done) -> Input {
        self.work = Work::None;
        match done {
            Done::Opened(Ok(session)) => {
                self.session = Some(session);
                Input::Connected
            }
            Done::Answered((session, id, Ok(reply))) => {
                self.session = Some(session);
                if std::mem::take(&mut self.unreachable) {
                    tracing::info!(id = %self.id, lock = self.lock.address(), "the lock answers again");
                }
                Input::Answered { id, reply }
            }
            Done::Opened(Err(error)) | Done::Answered((_, _, Err(error))) => {
                if !std::mem::replace(&mut self.unreachable, true) {
                    tracing::warn!(id = %self.id, %error, "no word from the lock; trying on");
                }
                self.hang_up();
                Input::Disconnected
            }
        }
    }
}

impl Work {
    async fn done(&mut self) -> Done {
        match self {
            Self::None => std::future::pending().await,
            Self::Open(open) => Done::Opened(open.await),
            Self::Ask(ask) => Done::Answered(ask.await),
        }
    }
}
