//! The rows of `[[render]]`, with everything that is wrong with them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use daemon::settings::{Kind, Problems, Row, Setting, Values};
use reception::Name;

use super::decide::Rule;
use super::tell::{OnChange, SIGNALS};
use super::template::Template;
use super::{Format, RenderSpec};
use crate::held;
use crate::view::Wanted;

/// The key of the array of tables.
const KEY: &str = "render";
/// Every service.
const ALL: &str = "*";

/// The keys of one `[[render]]`.
pub static COLUMNS: &[Setting] = &[
    Setting::new("path", Kind::Path, "The file to keep"),
    Setting::new("services", Kind::Texts, "Names of the services in it, or \"*\" for all"),
    Setting::new("format", Kind::Choice(&["keyrouter"]), "What it looks like: keyrouter's file of services"),
    Setting::new("template", Kind::Path, "Or a template (minijinja) for it, read again on SIGHUP"),
    Setting::new("debounce", Kind::DURATION, "How long lists have to be quiet before the file is written")
        .default("100ms"),
    Setting::new("debounce_max", Kind::DURATION, "How long lists that are never quiet can put that off")
        .default("2s"),
    Setting::new(
        "min_instances",
        Kind::Integer { min: 0, max: 1_000_000 },
        "A list with fewer instances does not replace the last good one",
    )
    .default("0"),
    Setting::new(
        "empty_grace",
        Kind::DURATION,
        "How long an empty list has to be confirmed before it replaces a full one",
    )
    .default("30s"),
    Setting::new(
        "on_change",
        Kind::Choice(&["none", "signal", "command"]),
        "How the readers of the file are told that it changed",
    )
    .default("none"),
    Setting::new("pid_file", Kind::Path, "File with the process id to signal"),
    Setting::new("signal", Kind::Choice(SIGNALS), "The signal to send").default("HUP").compat(without_sig),
    Setting::new("command", Kind::Texts, "Program and arguments to run, as a list of words"),
    Setting::new("command_timeout", Kind::WAIT, "How long the command may take").default("30s"),
];

fn without_sig(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    upper.strip_prefix("SIG").map(str::to_owned)
}

/// The files to keep; none when `problems` says why.
pub fn specs(values: &Values, problems: &mut Problems) -> Option<Vec<RenderSpec>> {
    let mut seen = BTreeSet::new();
    let mut specs = Some(Vec::new());
    for row in values.tables(KEY) {
        let Row::Table(row) = row else {
            problems.at(
                &row.place(),
                "write it as a table: [[render]] with path, services, and format or template",
            );
            specs = None;
            continue;
        };
        let spec = spec(row, problems).filter(|spec| {
            let first = seen.insert(spec.path.clone());
            if !first {
                problems.report(
                    row,
                    "path",
                    format!("{} is kept by another [[render]] already", spec.path.display()),
                );
            }
            first
        });
        specs = specs.zip(spec).map(|(mut specs, spec)| {
            specs.push(spec);
            specs
        });
    }
    specs
}

fn spec(row: &Values, problems: &mut Problems) -> Option<RenderSpec> {
    let path = row.opt_path("path");
    match &path {
        None => problems.report(row, "path", "'path' is needed: the file to keep"),
        Some(path) if path.file_name().is_none() => {
            problems.report(row, "path", format!("{} names no file", path.display()));
        }
        Some(_) => {}
    }
    let path = path.filter(|path| path.file_name().is_some());
    let wanted = wanted(row, problems);
    let format = format(row, problems);
    let on_change = on_change(row, problems);
    let (debounce, debounce_max) = debounce(row, problems)?;
    let rule = Rule { wanted: wanted?, held: held_rule(row)?, debounce, debounce_max };
    Some(RenderSpec { path: path?, rule, format: format?, on_change: on_change? })
}

/// `min_instances` and `empty_grace`, which `[[spawn]]` has as well.
pub(crate) fn held_rule(row: &Values) -> Option<held::Rule> {
    Some(held::Rule {
        min_instances: row.opt_integer("min_instances")?,
        empty_grace: row.opt_duration("empty_grace")?,
    })
}

fn wanted(row: &Values, problems: &mut Problems) -> Option<Wanted> {
    let names = row.texts("services");
    if names.is_empty() {
        problems.report(row, "services", "'services' is needed: a list of names, or [\"*\"] for all");
        return None;
    }
    if names == [ALL] {
        return Some(Wanted::All);
    }
    let mut good = true;
    let mut seen = BTreeSet::new();
    for name in &names {
        let problem = match Name::new(name) {
            _ if name == ALL => Some("\"*\" means all services: it stands alone".to_owned()),
            Err(error) => Some(error.to_string()),
            Ok(_) if !seen.insert(name) => Some(format!("{name:?} is there twice")),
            Ok(_) => None,
        };
        if let Some(problem) = problem {
            problems.report(row, "services", problem);
            good = false;
        }
    }
    good.then_some(Wanted::Named(names))
}

fn format(row: &Values, problems: &mut Problems) -> Option<Format> {
    match (row.opt_choice("format"), row.opt_path("template")) {
        (Some(_), None) => Some(Format::Keyrouter),
        (None, Some(path)) => match Template::read(&path) {
            Ok(template) => Some(Format::Template(template)),
            Err(error) if error.line == 0 => {
                problems.report(row, "template", error.to_string());
                None
            }
            Err(error) => {
                problems.at(&daemon::settings::Place::line_of(&error.file, error.line), error.what);
                None
            }
        },
        (Some(_), Some(_)) => {
            problems.report(row, "template", "the file has a 'format' already: keep one of the two");
            None
        }
        (None, None) => {
            problems.report(row, "format", "'format' or 'template' is needed: what the file looks like");
            None
        }
    }
}

fn debounce(row: &Values, problems: &mut Problems) -> Option<(Duration, Duration)> {
    let (quiet, longest) = (row.opt_duration("debounce")?, row.opt_duration("debounce_max")?);
    if longest >= quiet {
        return Some((quiet, longest));
    }
    if row.is_set("debounce_max") {
        problems.report(row, "debounce_max", "is shorter than 'debounce': give it at least as long");
        return None;
    }
    // Who asks for more quiet than the default bound means that much.
    Some((quiet, quiet))
}

fn on_change(row: &Values, problems: &mut Problems) -> Option<OnChange> {
    let chosen = row.opt_choice("on_change")?;
    let mut good = true;
    for (key, of) in
        [("pid_file", "signal"), ("signal", "signal"), ("command", "command"), ("command_timeout", "command")]
    {
        if row.is_set(key) && chosen != of {
            problems.report(
                row,
                key,
                format!("'{key}' goes with on_change = \"{of}\", and that is \"{chosen}\""),
            );
            good = false;
        }
    }
    let on_change = match chosen.as_str() {
        "signal" => {
            let pid_file = row.opt_path("pid_file");
            if pid_file.is_none() {
                problems.report(row, "pid_file", "'pid_file' is needed for on_change = \"signal\"");
            }
            let name = row.opt_choice("signal")?;
            let signal = SIGNALS.iter().copied().find(|known| *known == name)?;
            OnChange::Signal { pid_file: pid_file?, signal }
        }
        "command" => {
            let words = row.texts("command");
            if words.first().is_none_or(String::is_empty) {
                problems.report(
                    row,
                    "command",
                    "'command' is needed for on_change = \"command\": [\"PROGRAM\", \"ARGUMENT\"]",
                );
                return None;
            }
            OnChange::Command { words, timeout: row.opt_duration("command_timeout")? }
        }
        _ => OnChange::None,
    };
    good.then_some(on_change)
}

/// What `--check-config` looks at besides: directories and programs, which may come later for a running daemon.
pub fn check(values: &Values, problems: &mut Problems) {
    for row in values.tables(KEY) {
        let Row::Table(row) = row else { continue };
        for key in ["path", "pid_file"] {
            let folder = row.opt_path(key).and_then(|path| path.parent().map(Path::to_owned));
            if let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
                problems.report(row, key, format!("there is no directory {}", folder.display()));
            }
        }
        if let Some(program) = row.texts("command").first().filter(|program| !is_there(program)) {
            problems.report(row, "command", format!("there is no program {program:?}"));
        }
    }
}

fn is_there(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests;
