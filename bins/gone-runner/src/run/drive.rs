//! The loop: what happens goes to the decisions, and what they say is done.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use daemon::drain::Drain;
use daemon::forward::Forwarded;
use gone::lease::State;
use gone::message::stdin::Form;
use gone::message::{Held, Inbox};
use gone::{Handle, Order, clock};
use supervise::{Child, Error, Exit};
use tokio::sync::watch;
use tokio::time::Instant;

use super::board::Board;
use super::child::{self, Command};
use super::decide::{Action, Event, Runner};
use super::health::Watch;
use super::messages::Conversation;
use crate::config::Live;

/// Everything that a runner runs with.
pub struct Drive {
    /// The lease.
    pub handle: Handle,
    /// The decisions.
    pub runner: Runner,
    /// What to start.
    pub command: Command,
    /// How messages stand on its stdin.
    pub form: Form,
    /// Where messages come in.
    pub inbox: Arc<Inbox>,
    /// What others see.
    pub board: Board,
    /// What a reload changes.
    pub live: watch::Receiver<Live>,
    /// Says when to end.
    pub drain: Drain,
    /// For the child.
    pub forwarded: Forwarded,
    /// How long the lock may take to learn that the lease is free, after the child's grace.
    pub last_wait: Duration,
}

type Spawning = Pin<Box<dyn Future<Output = Result<Child, Error>> + Send>>;

/// What comes and goes with the child.
#[derive(Default)]
struct Now {
    spawning: Option<Spawning>,
    child: Option<Child>,
    conversation: Option<Conversation>,
    health: Option<Watch>,
    restart_at: Option<Instant>,
    wait_until: Option<Instant>,
    /// No order comes any more.
    over: bool,
}

/// What the loop was woken by.
enum Woken {
    By(Event),
    Spawned(Result<Child, Error>),
    Ended(Exit),
    Signal(i32),
    Reloaded,
}

impl Drive {
    /// Runs until contending has ended. The code is the child's, where the runner ends with it.
    pub async fn run(mut self) -> Option<u8> {
        let mut now = Now::default();
        loop {
            let event = match self.wake(&mut now).await {
                Woken::By(event) => event,
                Woken::Spawned(Ok(child)) => {
                    tracing::info!(pid = child.pid(), guard = child.guard_pid(), "the child runs");
                    self.board.started(child.pid());
                    now.child = Some(child);
                    Event::Started
                }
                Woken::Spawned(Err(error)) => {
                    tracing::error!(%error, "the child was not started");
                    child::failure(&error)
                }
                Woken::Ended(exit) => {
                    let Exit { status, why, strays } = exit;
                    tracing::info!(?status, ?why, strays, "the child has ended");
                    self.board.ended(status);
                    if let Some(conversation) = &now.conversation {
                        conversation.read_out().await;
                    }
                    now.child = None;
                    Event::Ended { status, why }
                }
                Woken::Signal(number) => {
                    now.forward(number);
                    continue;
                }
                Woken::Reloaded => {
                    self.runner.set_rules(self.live.borrow_and_update().rules);
                    continue;
                }
            };
            for action in self.runner.handle(clock::now(), rand::random(), event) {
                if let Action::Finish { code } = action {
                    now.bury().await;
                    return code;
                }
                self.perform(&mut now, action);
            }
        }
    }

    async fn wake(&mut self, now: &mut Now) -> Woken {
        let Now { spawning, child, health, restart_at, wait_until, over, .. } = now;
        let quitting = wait_until.is_some();
        tokio::select! {
            biased;
            order = self.handle.order(), if !*over => Woken::By(match order {
                Some(Order::Arm { stop_at, kill_at }) => Event::Armed { stop_at, kill_at },
                Some(Order::Start { token }) => Event::Start { token },
                None => {
                    *over = true;
                    Event::LeaseOver
                }
            }),
            () = self.drain.draining(), if !quitting => Woken::By(Event::Quit),
            spawned = ready(spawning) => {
                *spawning = None;
                Woken::Spawned(spawned)
            }
            exit = ended(child.as_ref()) => Woken::Ended(exit),
            well = checked(health.as_mut()) => Woken::By(Event::Checked { well }),
            () = reached(*restart_at) => {
                *restart_at = None;
                Woken::By(Event::RestartDue)
            }
            () = reached(*wait_until), if child.is_none() && spawning.is_none() => Woken::By(Event::WaitedEnough),
            number = self.forwarded.next() => Woken::Signal(number),
            Ok(()) = self.live.changed() => Woken::Reloaded,
        }
    }

    fn perform(&mut self, now: &mut Now, action: Action) {
        match action {
            Action::Spawn { token, kill_at } => {
                let spec = self.command.spec(token, self.handle.descriptor());
                now.spawning = Some(Box::pin(async move { spec.spawn(child::instant(kill_at)).await }));
            }
            Action::Open { token } => self.open(now, token),
            Action::Close => (now.health, _) = (None, now.close()),
            Action::Rearm { kill_at } => {
                now.tell("the deadline", |child| child.rearm(child::instant(kill_at)))
            }
            Action::Stop => now.tell("to stop", Child::stop),
            Action::Kill => now.tell("to end", Child::kill),
            Action::ChildDead => {
                now.restart_at = None;
                now.conversation = None;
                self.handle.child_dead();
            }
            Action::GiveUp { pause } => {
                tracing::info!(pause_ms = millis(pause), "the lease is given up");
                self.handle.give_up(pause);
            }
            Action::Leave => {
                now.wait_until = Some(Instant::now() + self.command.grace + self.last_wait);
                self.handle.stop();
            }
            Action::RestartAfter { pause } => {
                tracing::info!(pause_ms = millis(pause), "the child is started again");
                self.board.counters.restarts.inc();
                now.conversation = None;
                now.restart_at = Some(Instant::now() + pause);
            }
            Action::CountLoss => {
                tracing::warn!("the lease could not be kept: the child is stopped");
                self.board.counters.losses.inc();
            }
            Action::CountUnwell => {
                tracing::warn!("the child is not well: the lease is given up");
                self.board.counters.unwell.inc();
            }
            Action::Finish { .. } => {}
        }
    }

    fn open(&self, now: &mut Now, token: u64) {
        let Some(child) = &mut now.child else { return };
        now.health = Some(Watch::start(self.live.clone(), self.command.environment(token)));
        let Some(pipes) = child::pipes(child) else { return };
        let turn = self.inbox.begin(&self.command.id, token, self.form, self.held(token));
        let (id, counters) = (&self.command.id, self.board.counters.clone());
        now.conversation = Some(Conversation::begin(turn, pipes, self.form, id, counters));
    }

    /// Asked before each acknowledgement: whether this very lease is held at that moment.
    fn held(&self, token: u64) -> Held {
        let states = self.handle.watch();
        Arc::new(move || {
            matches!(*states.borrow(), State::Held { token: held, stop_at, .. }
                if held == token && clock::now() < stop_at)
        })
    }
}

impl Now {
    fn close(&self) {
        if let Some(conversation) = &self.conversation {
            conversation.close();
        }
    }

    fn tell(&self, what: &str, order: impl FnOnce(&Child) -> Result<(), Error>) {
        let Some(child) = &self.child else { return };
        match order(child) {
            // Its end is told next.
            Ok(()) | Err(Error::Gone) => {}
            Err(error) => tracing::error!(%error, "the guard was not told {what}; its deadline holds"),
        }
    }

    fn forward(&self, number: i32) {
        tracing::debug!(number, child = self.child.as_ref().map(Child::pid), "a signal for the child");
        self.tell("of a signal", |child| child.signal(number));
    }

    /// Contending has ended and nothing should run: whatever does all the same is waited for.
    async fn bury(&mut self) {
        self.close();
        if let Some(child) = self.child.take() {
            let _ = child.kill();
            child.wait().await;
        }
    }
}

async fn ready(spawning: &mut Option<Spawning>) -> Result<Child, Error> {
    match spawning {
        Some(spawning) => spawning.await,
        None => std::future::pending().await,
    }
}

async fn ended(child: Option<&Child>) -> Exit {
    match child {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}

async fn checked(health: Option<&mut Watch>) -> bool {
    match health {
        Some(health) => health.next().await,
        None => std::future::pending().await,
    }
}

async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
