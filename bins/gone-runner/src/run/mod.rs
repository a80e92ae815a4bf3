//! `run`: contends for the lease, and runs the command while it is held.

pub mod api;
pub mod board;
pub mod child;
pub mod decide;
pub mod drive;
pub mod health;
pub mod listen;
pub mod messages;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use daemon::drain::Drain;
use daemon::forward::Forwarded;
use daemon::lifecycle::Lifecycle;
use daemon::log::log_listening;
use daemon::signals::{Request, Signals};
use daemon::{Failure, Start};
use gone::lease::{End, State};
use gone::message::{Inbox, InboxOptions};
use gone::{Keeper, Options};
use tokio::sync::watch;

use crate::config::{Config, Live, RunConfig};
use api::{Api, Opened};
use board::Board;
use child::Command;
use decide::Runner;
use drive::Drive;

/// How long answers of the API may take after the child's end.
const LAST_ANSWERS: Duration = Duration::from_millis(300);

/// How much later than the last of its own times the loop may end.
const MOMENT: Duration = Duration::from_secs(1);

/// Runs until it is told to end, or the child's end ends it.
///
/// # Errors
/// What kept it from starting; or the child's code, where the runner ends with it.
pub fn run(start: Start<Config>) -> anyhow::Result<()> {
    let config = &start.config;
    let (Some(id), Some(run)) = (&config.id, &config.run) else {
        return Err(Failure::usage("--id is needed").into());
    };
    let command = Command {
        words: run.command.clone(),
        id: id.as_str().to_owned(),
        expiry: run.timing.expiry,
        grace: run.timing.grace,
        acknowledges: run.child_acknowledges,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut lifecycle = Lifecycle::new(&start)?;
        let forwarded = Forwarded::install()?;
        let Some(inbox) = lifecycle.start(open_inbox(config, run)).await else { return Ok(None) };
        let inbox = Arc::new(inbox?);
        let last_wait = start.loaded.values().duration("drain-timeout");
        Ready { config, run, command, inbox, forwarded, last_wait }.serve(lifecycle).await
    });
    // What hangs on a disk or a resolver must not hold up the end.
    runtime.shutdown_background();
    match ended? {
        None | Some(0) => Ok(()),
        Some(code) => Err(Failure::code(code, format!("the child ended with {code}")).into()),
    }
}

async fn open_inbox(config: &Config, run: &RunConfig) -> anyhow::Result<Inbox> {
    let listen = match run.listen {
        Some(addr) => addr,
        None => SocketAddr::new(listen::reaching(config.lock.as_ref()).await, 0),
    };
    let options = InboxOptions {
        listen: format!("tcp://{listen}"),
        encryption: config.encryption(),
        limits: run.limits,
        compat: config.compat,
    };
    if config.key.is_none() && !listen.ip().is_loopback() {
        tracing::warn!(%listen, "messages are neither encrypted nor authenticated: give a --key-file");
    }
    Inbox::listen(options).await.context("messages cannot come in")
}

/// All that it takes to contend.
struct Ready<'a> {
    config: &'a Config,
    run: &'a RunConfig,
    command: Command,
    inbox: Arc<Inbox>,
    forwarded: Forwarded,
    last_wait: Duration,
}

impl Ready<'_> {
    /// Until contending has ended; gives the child's code, where the runner ends with it.
    async fn serve(self, mut lifecycle: Lifecycle) -> anyhow::Result<Option<u8>> {
        let Self { config, run, command, inbox, forwarded, last_wait } = self;
        let bound = inbox.endpoint().trim_start_matches("tcp://").parse().context("the link's address")?;
        log_listening("link", bound);
        let address = listen::advertised(run.advertise.as_ref(), bound);
        let options =
            Options { timing: run.timing, address: address.clone(), fresh: run.fresh, compat: config.compat };
        let keeper = Keeper::new(config.lock.clone(), &command.id, options)?;
        let api = config.api.as_ref().map(Opened::new).transpose()?;
        let (live, watched) = watch::channel(run.live.clone());

        let handle = keeper.start()?;
        let states = handle.watch();
        let board = Board::new(&command.id, &address, states.clone());
        lifecycle.metrics.register(|registry| {
            board.counters.register(registry.sub_registry_with_prefix("gone_runner"));
        });
        tokio::spawn(board.clone().follow(lifecycle.readiness.condition("lease", false)));
        let operators = Drain::new();
        let api = api
            .map(|api| api.serve(board.clone(), inbox.clone(), lifecycle.admin.clone(), operators.clone()));
        let (runner, form, drain) = (Runner::new(run.live.rules), run.form, lifecycle.drain.clone());
        let farewell = inbox.clone();
        let drive =
            Drive { handle, runner, command, form, inbox, board, live: watched, drain, forwarded, last_wait };
        // The drain is over when the child is dead and the lock was told.
        lifecycle.own_end = run.timing.grace + MOMENT;
        let (drain, running) = (lifecycle.drain.clone(), lifecycle.drain.guard());
        let driven = tokio::spawn(async move {
            let code = drive.run().await;
            // The child's end can be the runner's.
            drain.begin();
            drop(running);
            code
        });
        lifecycle.run(move |new: Config, _| reload(&new, &live, api.as_ref())).await;
        // A child that the kernel does not let die is waited for all the same.
        let code = tokio::select! {
            code = driven => code.context("the runner's loop broke")?,
            () = another_signal(Signals::install()?) => end_at_once(),
        };
        operators.begin();
        operators.wait_idle(LAST_ANSWERS).await;
        operators.expire();
        // Senders hear what was acknowledged last. Whoever still looks at the API keeps the inbox as it is.
        if let Some(inbox) = Arc::into_inner(farewell) {
            inbox.close(LAST_ANSWERS).await;
        }
        refused(&states)?;
        Ok(code)
    }
}

async fn another_signal(mut signals: Signals) {
    while signals.next().await == Request::Reload {
        tracing::info!("SIGHUP ignored: the runner is ending");
    }
}

/// Nothing is told to the lock any more: the guard kills the child when this process is gone, and until it is dead
/// the lease must not be free.
fn end_at_once() -> ! {
    tracing::warn!("second signal: ending at once, the child is killed");
    daemon::log::flush();
    std::process::exit(daemon::error::exit::FAILED.into())
}

fn reload(new: &Config, live: &watch::Sender<Live>, api: Option<&Api>) -> Result<(), String> {
    let Some(run) = &new.run else { return Ok(()) };
    if let (Some(api), Some(config)) = (api, &new.api) {
        api.reload(config)?;
    }
    live.send_if_modified(|live| {
        let changed = *live != run.live;
        live.clone_from(&run.live);
        changed
    });
    Ok(())
}

fn refused(states: &watch::Receiver<State>) -> anyhow::Result<()> {
    match &*states.borrow() {
        State::Ended(End::OtherExpiry { recorded }) => Err(Failure::configuration(format!(
            "others use this id with an expiry of {recorded:?}: give all runners of an id the same --expiry"
        ))
        .into()),
        _ => Ok(()),
    }
}
