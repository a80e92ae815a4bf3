//! `register`: keeps an instance registered while this, or the command, runs.

pub mod disconnect;
pub mod drive;

use anyhow::Context;
use daemon::forward::Forwarded;
use daemon::lifecycle::Lifecycle;
use daemon::{Failure, Start};
use supervise::Boottime;

use crate::child::{self, Command};
use crate::config::Config;
use crate::ending;

pub use disconnect::OnDisconnect;
use drive::{Drive, End};

/// Registers until it is told to end, or the command's end ends it.
///
/// # Errors
/// What kept it from starting; the command's code; 1 for a registration that was lost where that ends it.
pub fn run(start: Start<Config>, name: &str) -> anyhow::Result<()> {
    let (Some(instance), Some(on_disconnect)) = (&start.config.instance, start.config.on_disconnect.clone())
    else {
        return Err(Failure::usage("a name is needed").into());
    };
    let service = instance.service(name).map_err(|error| Failure::usage(error.to_string()))?;
    let command = Command::of(&start, instance, &service);
    let timeout = start.config.timeout;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut lifecycle = Lifecycle::new(&start)?;
        let forwarded = Forwarded::install()?;
        // First the command, then its registration: nobody is sent to what does not run. The record ends with this process, and
        // the guard kills the command with it.
        let child = match &command {
            Some(command) => {
                let spec = command.spec(None, None)?;
                Some(spec.spawn(Boottime::NEVER).await.map_err(|error| child::not_started(&error))?)
            }
            None => None,
        };
        if let Some(child) = &child {
            tracing::info!(pid = child.pid(), guard = child.guard_pid(), "the command runs");
        }
        let registration = start.config.client.register(service);
        // The drain is over when nobody is sent here any more and the command is dead.
        lifecycle.own_end = ending::longest(command.as_ref(), timeout * 2);
        let (drain, running) = (lifecycle.drain.clone(), lifecycle.drain.guard());
        let drive = Drive { registration, child, on_disconnect, timeout, drain: drain.clone(), forwarded };
        let driven = tokio::spawn(async move {
            let end = drive.run().await;
            drain.begin();
            drop(running);
            end
        });
        lifecycle.run(|_: Config, _| Ok(())).await;
        ending::unless_signalled(driven).await?.context("the registration broke")
    });
    runtime.shutdown_background();
    match ended? {
        End::Stopped | End::Command(0) => Ok(()),
        End::Command(code) => Err(Failure::code(code, format!("the command ended with {code}")).into()),
        End::Lost(why) => Err(Failure::running(format!("the registration was lost: {why}")).into()),
        End::Output(error) => Err(Failure::running(format!("standard output: {error}")).into()),
    }
}
