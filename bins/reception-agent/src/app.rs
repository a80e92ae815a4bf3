//! The subcommands.

use daemon::{Failure, Start};
use reception::{Name, Scope};

use crate::ask::{self, Question};
use crate::config::Config;
use crate::{elect, register, serve, watch};

/// Does what the subcommand says.
///
/// # Errors
/// What kept it from being done, in one sentence, with its exit code.
pub fn run(start: Start<Config>) -> anyhow::Result<()> {
    let json = start.loaded.values().knows("json") && start.loaded.values().switch("json");
    let name = start.arguments.get("name").unwrap_or_default().to_owned();
    let checked = || Name::new(&name).map_err(|error| Failure::usage(error.to_string()));
    match start.subcommand {
        Some("register") => register::run(start, &name),
        Some("elect") => elect::run(start, &name),
        Some("serve") => serve::run(start),
        Some("watch") => watch::run(start, &checked()?, json),
        Some("list") => {
            let scope = if start.loaded.values().switch("all") { Scope::All } else { Scope::Passing };
            answer(&start, &Question::List(checked()?, scope), json)
        }
        Some("services") => answer(&start, &Question::Services, json),
        Some("leader") => answer(&start, &Question::Leader(checked()?), json),
        _ => Err(Failure::usage("one of register, list, watch, services, leader, elect and serve is needed")
            .into()),
    }
}

fn answer(start: &Start<Config>, question: &Question, json: bool) -> anyhow::Result<()> {
    start.log.quiet(start.loaded.values());
    ask::run(&start.config.client, question, json, &mut std::io::stdout().lock())
}
