//! The loop of `register`.

use std::future::Future;
use std::io::{self, Write};
use std::pin::Pin;
use std::time::Duration;

use daemon::drain::Drain;
use daemon::forward::Forwarded;
use reception::{Presence, Registration};
use supervise::{Child, Exit};
use tokio::time::Instant;

use super::disconnect::{OnDisconnect, hook};
use crate::child;
use crate::trouble::{self, Trouble};

/// How long the command runs on for the store to hear of the end first.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);

/// Why a registration is over.
#[derive(Debug)]
pub enum End {
    /// It was told to end.
    Stopped,
    /// The command ended, with this code.
    Command(u8),
    /// It was lost, and that ends it; why.
    Lost(String),
    /// The id could not be printed.
    Output(io::Error),
}

/// Everything that a registration runs with.
pub struct Drive {
    /// The registration.
    pub registration: Registration,
    /// The command, where there is one.
    pub child: Option<Child>,
    /// What is done when it was lost.
    pub on_disconnect: OnDisconnect,
    /// Leaving may take twice this.
    pub timeout: Duration,
    /// Says when to end.
    pub drain: Drain,
    /// For the command.
    pub forwarded: Forwarded,
}

/// Lines that run, and the one that runs next.
#[derive(Default)]
struct Hooks {
    running: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    next: Option<String>,
}

impl Drive {
    /// Until it is told to end, or ends by what happens.
    pub async fn run(mut self) -> End {
        let end = self.hold().await;
        if matches!(end, End::Lost(_)) {
            // Nobody is sent here any more, and the store may be away.
            self.timeout = Duration::ZERO;
        }
        self.leave().await;
        end
    }

    async fn hold(&mut self) -> End {
        let service = self.registration.service().clone();
        let what = format!("registering {} of {}", service.id, service.name);
        let (begin, mut trouble, mut hooks) = (Instant::now(), Trouble::default(), Hooks::default());
        let (mut changes, mut printed, mut there) = (self.registration.changes(), false, false);
        loop {
            let due = trouble.due().map(|due| begin + due);
            let presence = tokio::select! {
                Some(presence) = changes.next() => presence,
                () = self.drain.draining() => return End::Stopped,
                exit = child::ended(self.child.as_ref()) => {
                    let Exit { status, why, strays } = exit;
                    tracing::info!(?status, ?why, strays, "the command has ended");
                    self.child = None;
                    return End::Command(child::exit_code(status));
                }
                number = self.forwarded.next() => {
                    child::tell(self.child.as_ref(), "of a signal", |child| child.signal(number));
                    continue;
                }
                () = hooks.done() => {
                    if let (Some(why), OnDisconnect::Command(line)) = (hooks.next.take(), &self.on_disconnect) {
                        hooks.running = Some(Box::pin(hook(line.clone(), service.clone(), why)));
                    }
                    continue;
                }
                () = reached(due) => {
                    trouble::log(trouble.tick(begin.elapsed()), &what);
                    continue;
                }
            };
            match presence {
                Presence::Registered => {
                    trouble::log(trouble.see(begin.elapsed(), None), &what);
                    there = true;
                    if !std::mem::replace(&mut printed, true) {
                        tracing::info!(name = %service.name, id = service.id, "registered");
                        if let Err(error) = print(&service.id) {
                            return End::Output(error);
                        }
                    }
                }
                Presence::Away(why) => {
                    let why = why.map(|why| why.to_string());
                    if std::mem::take(&mut there) {
                        let why =
                            why.clone().unwrap_or_else(|| "the store did not confirm it in time".to_owned());
                        tracing::warn!("the registration of {} was lost: {why}", service.id);
                        match &self.on_disconnect {
                            OnDisconnect::Exit => return End::Lost(why),
                            OnDisconnect::Log => {}
                            OnDisconnect::Command(_) => hooks.next = Some(why),
                        }
                    }
                    trouble::log(trouble.see(begin.elapsed(), why), &what);
                }
                Presence::Left => return End::Stopped,
            }
        }
    }

    /// First nobody is sent here any more, then the command is stopped. A store that does not answer at once is told beside that.
    async fn leave(self) {
        let Self { registration, child, timeout, mut forwarded, .. } = self;
        let end = Instant::now() + timeout * 2;
        let mut leaving = tokio::spawn(registration.leave());
        let left = tokio::time::timeout(FIRST_PATIENCE.min(timeout), &mut leaving).await.is_ok();
        if let Some(child) = &child {
            child::tell(Some(child), "to stop", Child::stop);
            loop {
                tokio::select! {
                    exit = child.wait() => {
                        let Exit { status, why, strays } = exit;
                        tracing::info!(?status, ?why, strays, "the command has ended");
                        break;
                    }
                    number = forwarded.next() => child::tell(Some(child), "of a signal", |child| child.signal(number)),
                }
            }
        }
        if !left && tokio::time::timeout_at(end, leaving).await.is_err() {
            tracing::warn!("the store was not told of the end: the registration ends by its ttl");
        }
    }
}

impl Hooks {
    /// Comes to an end when a line may run and one wants to.
    async fn done(&mut self) {
        if let Some(running) = &mut self.running {
            running.await;
            self.running = None;
        }
        if self.next.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

fn print(id: &str) -> io::Result<()> {
    let mut to = io::stdout().lock();
    writeln!(to, "{id}").and_then(|()| to.flush())
}

async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
