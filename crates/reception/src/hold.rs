//! The task that drives a record or a candidate by [`crate::course`], with real clocks.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use supervise::Boottime;
use tokio::sync::{mpsc, watch};

use crate::backend::{Candidacy, Presence, Turn};
use crate::course::{Answer, Ask, Course, State, Step};
use crate::error::Error;

/// The longest sleep at a stretch: the runtime's clock stands still while the host is suspended, deadlines do not.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// The shortest time that a request gets, however short the ttl.
const LEAST_PATIENCE: Duration = Duration::from_millis(100);
/// Commands that were not looked at yet; their senders send one or two in all.
const COMMANDS: usize = 8;

/// What is held.
pub(crate) enum Post {
    Record(Box<dyn Presence>),
    Candidate(Box<dyn Candidacy>),
}

/// The state, and what must outlive this process while work goes on under it.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) state: State,
    pub(crate) kept: Option<Arc<OwnedFd>>,
}

#[derive(Debug)]
pub(crate) enum Command {
    Withdraw,
    Resign(Duration),
}

/// The handle of the task. Dropped, it withdraws.
#[derive(Debug)]
pub(crate) struct Hold {
    status: watch::Receiver<Status>,
    commands: mpsc::Sender<Command>,
}

impl Hold {
    /// Begins, on a task of the current runtime. `timeout` bounds one request.
    pub(crate) fn start(post: Post, backend: String, timeout: Duration) -> Self {
        let now = Boottime::now();
        let renew_every = post.presence_ref().renew_every();
        let course = Course::new(matches!(post, Post::Candidate(_)), renew_every, now);
        let (tell, status) = watch::channel(Status { state: course.state(now), kept: None });
        let (commands, received) = mpsc::channel(COMMANDS);
        tokio::spawn(Task { post, course, backend, timeout, tell }.run(received));
        Self { status, commands }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    pub(crate) fn now(&self) -> Status {
        self.status.borrow().clone()
    }

    pub(crate) async fn command(&self, command: Command) {
        // An error means that it has left already.
        let _ = self.commands.send(command).await;
    }

    /// Leaves, and waits until that is done or was tried often enough.
    pub(crate) async fn withdraw(&self) {
        self.command(Command::Withdraw).await;
        let mut status = self.status.clone();
        let _ = status.wait_for(|status| status.state == State::Left).await;
    }
}

impl Post {
    fn presence(&mut self) -> &mut dyn Presence {
        match self {
            Self::Record(record) => record.as_mut(),
            Self::Candidate(candidate) => candidate.as_mut(),
        }
    }

    fn presence_ref(&self) -> &dyn Presence {
        match self {
            Self::Record(record) => record.as_ref(),
            Self::Candidate(candidate) => candidate.as_ref(),
        }
    }

    async fn turned(&mut self, turns: bool) -> Result<Turn, Error> {
        match self {
            Self::Candidate(candidate) if turns => candidate.turned().await,
            other => {
                other.presence().alarm().await;
                Ok(Turn::Alarm)
            }
        }
    }
}

struct Task {
    post: Post,
    course: Course,
    backend: String,
    timeout: Duration,
    tell: watch::Sender<Status>,
}

impl Task {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut obeys = true;
        loop {
            self.course.tick(Boottime::now());
            self.publish();
            let answer = match self.course.step(Boottime::now()) {
                Step::Done => return,
                Step::Ask(ask) => Some(self.ask(ask).await),
                Step::Wait { until, turns } => {
                    let left = until.since(Boottime::now()).min(LONGEST_SLEEP);
                    tokio::select! {
                        command = commands.recv(), if obeys => {
                            obeys = self.obey(command);
                            None
                        }
                        turned = self.post.turned(turns), if self.course.is_entered() => Some(Answer::Turned(turned)),
                        () = tokio::time::sleep(left) => None,
                    }
                }
            };
            if let Some(answer) = answer {
                self.take(answer);
            }
            // What asks without a pause must not shut its ears.
            while obeys && let Ok(command) = commands.try_recv() {
                obeys = self.obey(Some(command));
            }
        }
    }

    /// Whether more commands can come.
    fn obey(&mut self, command: Option<Command>) -> bool {
        let now = Boottime::now();
        match command {
            Some(Command::Resign(pause)) => self.course.resign(now, pause),
            Some(Command::Withdraw) => self.course.withdraw(now),
            None => {
                self.course.withdraw(now);
                return false;
            }
        }
        true
    }

    fn take(&mut self, answer: Answer) {
        let error = match &answer {
            Answer::Entered(Err(error))
            | Answer::Renewed(Err(error))
            | Answer::Stood(Err(error))
            | Answer::Left(Err(error))
            | Answer::Turned(Err(error)) => Some(error),
            _ => None,
        };
        if let Some(error) = error {
            tracing::debug!(%error, "trying again");
        }
        // A server may give another session time than was asked for, and tells it with the entry.
        self.course.renew_every(self.post.presence_ref().renew_every());
        self.course.answer(Boottime::now(), rand::random(), answer);
    }

    fn publish(&self) {
        let state = self.course.state(Boottime::now());
        let kept = match state {
            State::Present { .. } | State::Leading { .. } => &self.post,
            State::Away(_) | State::Left => {
                self.tell.send_if_modified(|known| {
                    let changed = known.state != state;
                    *known = Status { state, kept: None };
                    changed
                });
                return;
            }
        };
        self.tell.send_if_modified(|known| {
            let same_record = matches!(
                (&known.state, &state),
                (
                    State::Present { .. } | State::Leading { .. },
                    State::Present { .. } | State::Leading { .. }
                )
            );
            if !same_record || known.kept.is_none() {
                known.kept = kept.presence_ref().kept().map(Arc::new);
            }
            let changed = known.state != state;
            known.state = state;
            changed
        });
    }

    async fn ask(&mut self, ask: Ask) -> Answer {
        let patience = match ask {
            Ask::Enter | Ask::Leave => self.timeout,
            // What has to be tried again within the ttl.
            Ask::Renew | Ask::Standing => {
                self.timeout.min((self.post.presence_ref().renew_every() / 2).max(LEAST_PATIENCE))
            }
        };
        let silent = || Error::Silent { backend: self.backend.clone(), within: patience };
        macro_rules! within {
            ($call:expr) => {
                match tokio::time::timeout(patience, $call).await {
                    Ok(result) => result,
                    Err(_) => Err(silent()),
                }
            };
        }
        match (ask, &mut self.post) {
            (Ask::Enter, post) => Answer::Entered(within!(post.presence().enter())),
            (Ask::Renew, post) => Answer::Renewed(within!(post.presence().renew())),
            (Ask::Leave, post) => Answer::Left(within!(post.presence().leave())),
            (Ask::Standing, Post::Candidate(candidate)) => Answer::Stood(within!(candidate.standing())),
            // The course of a record never asks for it.
            (Ask::Standing, Post::Record(_)) => Answer::Stood(Ok(crate::backend::Standing::Waits)),
        }
    }
}
