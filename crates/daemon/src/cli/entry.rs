//! The entry of every daemon: from the argument list to the exit code.
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use super::command::{command, completed, parse, sentence};
use super::{Action, Call, healthcheck, service};
use crate::error::{Failure, exit, exit_code};
use crate::log::LogControl;
use crate::settings::{Config, Environment, Loaded, Problems, Program, print_config, reference_table};

/// Words of a subcommand that are no flags, by the name in its table.
#[derive(Debug, Clone, Default)]
pub struct Arguments(pub(super) BTreeMap<&'static str, Vec<String>>);

impl Arguments {
    /// The first word of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str)
    }

    /// All words of this name.
    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

/// What a daemon starts with.
#[derive(Debug)]
pub struct Start<C> {
    /// The daemon's own configuration.
    pub config: C,
    /// The values that it was made of, for reloads.
    pub loaded: Loaded,
    /// The subcommand, where one of the daemon's own was called.
    pub subcommand: Option<&'static str>,
    /// Its words that are no flags.
    pub arguments: Arguments,
    /// Changes the log's level.
    pub log: LogControl,
}

/// Runs a daemon with the process's arguments and environment, to its exit code.
pub fn main<C: Config>(program: &'static Program, run: fn(Start<C>) -> anyhow::Result<()>) -> ExitCode {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let code = main_with(program, std::env::args_os(), environment, run);
    ExitCode::from(code)
}

/// Like [`main`], with the arguments and environment given.
pub fn main_with<C: Config>(
    program: &'static Program,
    arguments: impl IntoIterator<Item = OsString>,
    environment: Environment,
    run: fn(Start<C>) -> anyhow::Result<()>,
) -> u8 {
    let call = match parse(program, arguments) {
        Ok(call) => call,
        Err(error) if !error.use_stderr() => {
            // Help or version was asked for; a reader that went away is no failure.
            drop(error.print());
            return exit::DONE;
        }
        Err(error) => {
            complain(program, &format!("{} (see {} --help)", sentence(&error), program.name));
            return exit::USAGE;
        }
    };
    match act(program, call, environment, run) {
        Ok(()) => exit::DONE,
        Err(error) => {
            let code = exit_code(&error);
            let text = one_line(&error);
            if !text.is_empty() {
                complain(program, &text);
            }
            code
        }
    }
}

/// The chain of causes as one sentence, each cause once.
fn one_line(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    sentence.replace('\n', " ")
}

fn complain(program: &Program, text: &str) {
    // Nobody is left to tell when stderr is gone.
    drop(writeln!(std::io::stderr(), "{}: {text}", program.name));
}

fn say(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // `daemon --print-config | head` is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| Failure::running(format!("standard output: {error}")).into()),
    }
}

fn act<C: Config>(
    program: &'static Program,
    call: Call,
    environment: Environment,
    run: fn(Start<C>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    match call.action {
        Action::Completions(shell) => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut completed(program), program.name, &mut text);
            return say(&String::from_utf8_lossy(&text));
        }
        Action::ManPage => {
            let mut text = Vec::new();
            clap_mangen::Man::new(command(program)).render(&mut text)?;
            return say(&String::from_utf8_lossy(&text));
        }
        Action::Reference => return say(&reference_table(program)),
        Action::Service(request) => {
            return say(&service::perform(program, &request, &call.flags)?);
        }
        Action::Healthcheck => {
            let values = Loaded::best_effort(program, None, &call.flags, &environment);
            return say(&healthcheck::ask(program, &values)?);
        }
        _ => {}
    }
    if call.action == Action::Check {
        return check::<C>(program, call, environment);
    }
    let loaded = Loaded::load::<C>(program, call.subcommand, call.flags, environment);
    let (loaded, config) = loaded.map_err(|problems| refused(program, &problems, problems.is_usage()))?;
    match call.action {
        Action::Print => say(&print_config(loaded.values())),
        _ => {
            let log = crate::log::init(loaded.values());
            for warning in loaded.warnings() {
                tracing::warn!("{warning}");
            }
            crate::signals::ignore_sigpipe();
            let Call { subcommand, arguments, .. } = call;
            let ended = run(Start { config, loaded, subcommand, arguments, log });
            crate::log::flush();
            ended
        }
    }
}

fn check<C: Config>(program: &'static Program, call: Call, environment: Environment) -> anyhow::Result<()> {
    let mut problems = Problems::default();
    let values = Loaded::best_effort(program, call.subcommand, &call.flags, &environment);
    C::check(&values, &mut problems);
    let mut report = String::new();
    match Loaded::load::<C>(program, call.subcommand, call.flags, environment) {
        Err(found) => problems.extend(found),
        Ok((loaded, config)) => {
            report = config.report();
            for warning in loaded.warnings() {
                complain(program, &format!("warning: {warning}"));
            }
        }
    }
    if !problems.is_empty() {
        return Err(refused(program, &problems, false).into());
    }
    for warning in problems.warnings() {
        complain(program, &format!("warning: {warning}"));
    }
    let what = values.file().unwrap_or("the configuration");
    say(&format!("{report}{what}: good\n"))
}

/// Prints every problem on a line of its own; what is left to return is the code.
fn refused(program: &Program, problems: &Problems, usage: bool) -> Failure {
    for warning in problems.warnings() {
        complain(program, &format!("warning: {warning}"));
    }
    for problem in problems.iter() {
        // The form that editors and CI systems find the line by.
        drop(writeln!(std::io::stderr(), "{problem}"));
    }
    let code = if usage { exit::USAGE } else { exit::CONFIG };
    Failure::code(code, "")
}
