//! From the table of settings to clap's commands, and from an argument list to a [`Call`].
use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{Action, Arguments, Call, service};
use crate::settings::{Flags, Kind, Program, Setting, Subcommand};

const COMMON_HEADING: &str = "Common options";

/// The whole command tree of a program, for parsing, help, completions and the man page.
pub fn command(program: &'static Program) -> Command {
    let mut root =
        Command::new(program.name)
            .about(program.about)
            .version(program.version)
            .max_term_width(100)
            .args(program.own_settings().chain(super::COMMON).filter_map(|s| setting_arg(program, s)))
            .args(common_args(program))
            // Added by hand, so that they stand under their heading instead of on top of the page.
            .disable_help_flag(true)
            .disable_version_flag(true)
            .disable_help_subcommand(true)
            .subcommands(program.subcommands.iter().map(|known| own_subcommand(program, known)))
            .subcommand(
                service::subcommand().args(unit_settings(program).filter_map(|s| setting_arg(program, s))),
            )
            .subcommand(Command::new("completions").about("Print completions for a shell").arg(
                Arg::new("shell").required(true).value_parser(clap::value_parser!(clap_complete::Shell)),
            ))
            .subcommand(Command::new("man").about("Print the manual page"))
            .subcommand(Command::new("reference").about("Print the table of settings").hide(true))
            .subcommand(
                Command::new("healthcheck").about("Ask the running daemon's /readyz and exit with 0 or 1"),
            );
    if program.bare_service_words {
        root = root.subcommands(service::subcommand().get_subcommands().cloned().map(|word| word.hide(true)));
    }
    if !program.examples.is_empty() {
        let lines = program.examples.trim().lines().map(|line| format!("\n  {}", line.trim()));
        root = root.after_help(format!("Examples:{}", lines.collect::<String>()));
    }
    root
}

/// The command tree with the words of each choice, which shells complete. For parsing they stay
/// out, so that a wrong word is told together with all other problems.
pub(super) fn completed(program: &'static Program) -> Command {
    program.all_settings().into_iter().fold(command(program), |tree, setting| {
        let known = setting.flag.is_some() && tree.get_arguments().any(|arg| arg.get_id() == setting.key);
        match setting.kind {
            Kind::Choice(words) if known => tree.mut_arg(setting.key, |arg| {
                arg.value_parser(clap::builder::PossibleValuesParser::new(words))
            }),
            Kind::Path if known => tree.mut_arg(setting.key, |arg| arg.value_hint(clap::ValueHint::AnyPath)),
            _ => tree,
        }
    })
}

/// What the service's own command line can hold beside the settings of all subcommands.
fn unit_settings(program: &Program) -> impl Iterator<Item = &'static Setting> {
    let of_unit = program.subcommands.iter().filter(|known| Some(known.name) == program.unit.subcommand);
    of_unit.flat_map(|known| known.settings)
}

fn own_subcommand(program: &Program, known: &'static Subcommand) -> Command {
    let mut command = Command::new(known.name).about(known.about);
    command = command.args(known.settings.iter().filter_map(|setting| setting_arg(program, setting)));
    for argument in known.arguments {
        let mut arg = Arg::new(argument.name).help(argument.help).required(argument.required);
        if argument.many {
            arg = arg.num_args(1..).action(ArgAction::Append);
        }
        command = command.arg(arg.last(argument.after_dashes));
    }
    command
}

fn setting_arg(program: &Program, setting: &'static Setting) -> Option<Arg> {
    let flag = setting.flag?;
    let mut help = setting.help.to_owned();
    if let Kind::Choice(words) = setting.kind {
        help.push_str(&format!(" ({})", words.join(", ")));
    }
    if let Some(default) = setting.default_note.or(setting.default) {
        help.push_str(&format!(" [default: {default}]"));
    }
    help.push_str(&format!(" [env: {}]", setting.env_name(program.name)));
    let mut arg = Arg::new(setting.key)
        .long(flag)
        .help(help)
        .help_heading(setting.group)
        .value_name(setting.value_name.unwrap_or(setting.kind.value_name()))
        .global(true);
    if let Some(letter) = setting.short {
        arg = arg.short(letter);
    }
    if !setting.kind.is_list() {
        // Given by a script and again by its caller, the later one counts.
        arg = arg.overrides_with(setting.key);
    }
    arg = match setting.kind {
        Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        kind if kind.is_list() => arg.action(ArgAction::Append),
        Kind::Integer { .. } | Kind::Number => arg.allow_negative_numbers(true),
        _ => arg,
    };
    Some(arg)
}

fn common_args(program: &Program) -> [Arg; 5] {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .help(help)
            .action(ArgAction::SetTrue)
            .global(true)
            .help_heading(COMMON_HEADING)
    };
    [
        Arg::new("config")
            .long("config")
            .value_name("FILE")
            .help(format!("Configuration file, TOML or JSON [env: {}]", program.config_env()))
            .help_heading(COMMON_HEADING)
            .overrides_with("config")
            .global(true),
        switch("check-config", "Check the configuration, print every problem, start nothing")
            .short('t')
            .alias("test")
            .overrides_with("check-config"),
        switch("print-config", "Print the values in force and where each comes from, start nothing")
            .overrides_with("print-config"),
        Arg::new("help")
            .short('h')
            .long("help")
            .help("Print help")
            .action(ArgAction::Help)
            .global(true)
            .help_heading(COMMON_HEADING),
        Arg::new("version")
            .short('V')
            .long("version")
            .help("Print the version")
            .action(ArgAction::Version)
            .help_heading(COMMON_HEADING),
    ]
}

/// Reads an argument list, the program's name included.
pub fn parse(
    program: &'static Program,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Call, clap::Error> {
    let matches = command(program).try_get_matches_from(arguments)?;
    let Some((word, inner)) = matches.subcommand() else {
        let call = collect(program, None, &matches);
        if program.subcommand_required && call.action == Action::Run {
            return Err(missing_subcommand(program));
        }
        return Ok(call);
    };
    let own = program.subcommands.iter().find(|known| known.name == word);
    let mut call = collect(program, own, inner);
    if own.is_none() {
        call.action = match word {
            "completions" => match inner.get_one("shell") {
                Some(shell) => Action::Completions(*shell),
                None => return Err(missing_subcommand(program)),
            },
            "man" => Action::ManPage,
            "reference" => Action::Reference,
            "healthcheck" => Action::Healthcheck,
            _ => Action::Service(service::request(word, inner)?),
        };
    }
    Ok(call)
}

fn missing_subcommand(program: &'static Program) -> clap::Error {
    let words: Vec<&str> = program.subcommands.iter().map(|known| known.name).collect();
    let message = format!("one of the subcommands {} is needed\n", words.join(", "));
    command(program).error(clap::error::ErrorKind::MissingSubcommand, message)
}

fn collect(program: &'static Program, own: Option<&'static Subcommand>, matches: &ArgMatches) -> Call {
    let mut flags = Flags::default();
    let subcommand = own.map(|known| known.name);
    // Another subcommand's flags are not in the matches.
    for setting in program.settings_for(subcommand.or(program.unit.subcommand)) {
        if let Ok(Some(texts)) = matches.try_get_many::<String>(setting.key) {
            flags.texts.insert(setting.key, texts.cloned().collect());
        }
    }
    flags.config = matches.get_one("config").cloned();
    let mut arguments = Arguments::default();
    for argument in own.into_iter().flat_map(|known| known.arguments) {
        if let Ok(Some(words)) = matches.try_get_many::<String>(argument.name) {
            arguments.0.insert(argument.name, words.cloned().collect());
        }
    }
    let action = if matches.get_flag("check-config") {
        Action::Check
    } else if matches.get_flag("print-config") {
        Action::Print
    } else {
        Action::Run
    };
    Call { subcommand, flags, arguments, action }
}

/// One plain sentence for a call that the help does not have.
pub(super) fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut sentence = lines.next().unwrap_or("the call is wrong").trim_start_matches("error: ").to_owned();
    let details = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    for detail in details {
        sentence.push_str(if sentence.ends_with(':') { " " } else { "; " });
        sentence.push_str(detail.trim_start_matches("tip: "));
    }
    sentence
}
