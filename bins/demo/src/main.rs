//! `demo`: a small key-value store over HTTP, written with no thought of clustering.

#![forbid(unsafe_code)]

mod serve;
mod store;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A small key-value store in memory: PUT, GET and DELETE /kv/KEY, GET /info, GET /dump.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    /// The name that /info gives
    #[arg(long, env = "DEMO_NAME", default_value = "demo")]
    name: String,
    /// Where to listen: HOST:PORT, [::1]:PORT, or :PORT for every address; port 0 takes a free one
    #[arg(long, env = "DEMO_ADDRESS", default_value = "127.0.0.1:8080")]
    address: String,
    /// The longest value that is taken, in bytes; a longer one is 413
    #[arg(long, env = "DEMO_MAX_BODY", default_value_t = 1024 * 1024)]
    max_body: usize,
}

#[expect(clippy::print_stderr, reason = "a failed start is told on stderr")]
fn main() -> ExitCode {
    match run(Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot watch for signals")?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let listener = runtime.block_on(serve::listen(&flags.address))?;
    runtime.spawn(serve::serve(listener, serve::Service::new(flags.name, flags.max_body)));
    signals.forever().next();
    // What was answered is all that counts here, and it lives in memory: there is nothing to drain.
    runtime.shutdown_background();
    Ok(())
}
