//! `service install | remove | start | stop | status`: writes the systemd unit and drives systemctl.
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};

use crate::error::Failure;
use crate::settings::{Environment, Flags, Kind, Loaded, Program};
use crate::systemd::{UnitOptions, unit_text};

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    verb: Verb,
    root: PathBuf,
    user: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Install,
    Remove,
    Start,
    Stop,
    Status,
}

const VERBS: &[(&str, Verb, &str)] = &[
    ("install", Verb::Install, "Write the systemd unit, enable it at boot"),
    ("remove", Verb::Remove, "Stop the service and delete its unit"),
    ("start", Verb::Start, "Start the service"),
    ("stop", Verb::Stop, "Stop the service"),
    ("status", Verb::Status, "Show how the service fares"),
];

/// The `service` subcommand with its verbs.
pub(super) fn subcommand() -> Command {
    let root = Arg::new("root")
        .long("root")
        .value_name("DIR")
        .default_value("/")
        .help("Work on the system that lies in this directory, without starting or stopping anything");
    let verbs = VERBS.iter().map(|(word, verb, about)| {
        let command = Command::new(*word).about(*about).arg(root.clone());
        match verb {
            Verb::Install => command.arg(
                Arg::new("user")
                    .long("user")
                    .value_name("NAME")
                    .help("Run as this user [default: one made for the service]"),
            ),
            _ => command,
        }
    });
    Command::new("service")
        .about("Install and drive the systemd service")
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .subcommands(verbs)
}

/// The request of `service VERB` or of a bare `VERB`.
pub(super) fn request(word: &str, matches: &ArgMatches) -> Result<Request, clap::Error> {
    if word == "service" {
        return match matches.subcommand() {
            Some((verb, inner)) => request(verb, inner),
            None => Err(clap::Error::new(clap::error::ErrorKind::MissingSubcommand)),
        };
    }
    let known = VERBS.iter().find(|(name, ..)| *name == word);
    let Some((_, verb, _)) = known else {
        return Err(clap::Error::new(clap::error::ErrorKind::InvalidSubcommand));
    };
    let text = |name| matches.try_get_one::<String>(name).ok().flatten().cloned();
    let root = text("root").unwrap_or_else(|| "/".to_owned()).into();
    Ok(Request { verb: *verb, root, user: text("user") })
}

/// Does what was asked for; the text is for stdout.
pub(super) fn perform(
    program: &'static Program,
    request: &Request,
    flags: &Flags,
) -> Result<String, Failure> {
    let service = Service {
        name: program.name,
        unit: request.root.join("etc/systemd/system").join(format!("{}.service", program.name)),
        live: request.root == Path::new("/"),
    };
    match request.verb {
        Verb::Install => service.install(program, request, flags),
        Verb::Remove => service.remove(),
        Verb::Start => service.drive("start", &["start"]),
        Verb::Stop => service.drive("stop", &["stop"]),
        Verb::Status => service.status(),
    }
}

/// The flags that were given, as words for the unit: it runs elsewhere, so paths are made absolute.
fn words(
    program: &Program,
    flags: &Flags,
    absolute: impl Fn(&str) -> Result<String, Failure>,
) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    for setting in program.settings_for(program.unit.subcommand) {
        let (Some(flag), Some(texts)) = (setting.flag, flags.texts.get(setting.key)) else { continue };
        for text in texts {
            let text = if matches!(setting.kind, Kind::Path) { absolute(text)? } else { text.clone() };
            words.push(format!("--{flag}={text}"));
        }
    }
    Ok(words)
}

/// How long the end may take, by the flags and the file that the unit will name: its environment is another one.
fn stop_within(program: &'static Program, flags: &Flags) -> Duration {
    let values = Loaded::best_effort(program, program.unit.subcommand, flags, &Environment::default());
    let keys = ["drain-delay", "drain-timeout"].iter().chain(program.unit.stop_after);
    keys.filter_map(|key| values.opt_duration(key)).fold(Duration::ZERO, Duration::saturating_add)
}

struct Service {
    name: &'static str,
    unit: PathBuf,
    /// Whether the unit is one of the running system.
    live: bool,
}

impl Service {
    fn install(
        &self,
        program: &'static Program,
        request: &Request,
        flags: &Flags,
    ) -> Result<String, Failure> {
        let executable = std::env::current_exe().map_err(|error| {
            Failure::running(format!("the path of {} cannot be found: {error}", self.name))
        })?;
        let absolute = |path: &str| {
            std::path::absolute(path)
                .map(|path| path.display().to_string())
                .map_err(|error| Failure::running(format!("{path}: {error}")))
        };
        let options = UnitOptions {
            executable: executable.display().to_string(),
            config: flags.config.as_deref().map(absolute).transpose()?,
            flags: words(program, flags, absolute)?,
            user: request.user.clone(),
            stop_within: stop_within(program, flags),
            notify_reload: self.live && self.systemd_version().is_some_and(|version| version >= 253),
        };
        let folder = self.unit.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&self.unit, unit_text(program, &options)))
            .map_err(|error| self.refused("written", &error))?;
        let mut said = format!("{} written\n", self.unit.display());
        if self.live {
            self.systemctl(&["daemon-reload"])?;
            self.systemctl(&["enable", self.name])?;
            said.push_str(&format!(
                "{0} will start at boot; start it now with '{0} service start'\n",
                self.name
            ));
        }
        Ok(said)
    }

    fn remove(&self) -> Result<String, Failure> {
        if !self.unit.exists() {
            let unit = self.unit.display();
            return Err(Failure::running(format!("{unit} does not exist: the service is not installed")));
        }
        if self.live {
            self.systemctl(&["disable", "--now", self.name])?;
        }
        std::fs::remove_file(&self.unit).map_err(|error| self.refused("deleted", &error))?;
        if self.live {
            self.systemctl(&["daemon-reload"])?;
        }
        Ok(format!("{} deleted\n", self.unit.display()))
    }

    fn drive(&self, verb: &str, arguments: &[&str]) -> Result<String, Failure> {
        if !self.live {
            return Err(Failure::usage(format!(
                "--root is for install and remove: there is nothing to {verb}"
            )));
        }
        let mut all = arguments.to_vec();
        all.push(self.name);
        self.systemctl(&all)?;
        Ok(format!("{}: {verb} done\n", self.name))
    }

    fn status(&self) -> Result<String, Failure> {
        if !self.live {
            let state = if self.unit.exists() { "installed" } else { "not installed" };
            return Ok(format!("{}: {state}\n", self.name));
        }
        let output = self.call(&["status", "--no-pager", self.name])?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        let text =
            if said.trim().is_empty() { String::from_utf8_lossy(&output.stderr).into_owned() } else { said };
        Err(Failure::running(text.trim().to_owned()))
    }

    /// From a first line such as `systemd 257 (257.9-1)`.
    fn systemd_version(&self) -> Option<u32> {
        let output = self.call(&["--version"]).ok()?;
        String::from_utf8_lossy(&output.stdout).split_whitespace().nth(1)?.parse().ok()
    }

    fn systemctl(&self, arguments: &[&str]) -> Result<(), Failure> {
        let output = self.call(arguments)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let reason = said.trim().lines().next().unwrap_or("no reason given").to_owned();
        Err(Failure::running(format!("systemctl {} failed: {reason}", arguments.join(" "))))
    }

    fn call(&self, arguments: &[&str]) -> Result<std::process::Output, Failure> {
        Process::new("systemctl").args(arguments).output().map_err(|error| {
            let reason = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "systemctl is not installed; run the daemon under what starts services here".to_owned()
                }
                _ => format!("systemctl cannot be run: {error}"),
            };
            Failure::running(reason)
        })
    }

    fn refused(&self, done: &str, error: &std::io::Error) -> Failure {
        let unit = self.unit.display();
        let hint = match error.kind() {
            std::io::ErrorKind::PermissionDenied => "; run this as root",
            _ => "",
        };
        Failure::running(format!("{unit} cannot be {done}: {error}{hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Setting;

    static PROGRAM: Program = Program {
        settings: &[
            Setting::new("file", Kind::Path, "A file").flag("file"),
            Setting::new("on", Kind::Switch, "A switch").flag("on"),
        ],
        ..Program::new("demo", "Shows it", "1.0.0")
    };

    fn request(verb: Verb, root: &Path) -> Request {
        Request { verb, root: root.to_owned(), user: None }
    }

    #[test]
    fn installs_and_removes_under_a_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let unit = root.join("etc/systemd/system/demo.service");
        let status = |root| perform(&PROGRAM, &request(Verb::Status, root), &Flags::default()).unwrap();
        assert_eq!(status(root), "demo: not installed\n");
        let texts = [("file", vec!["/srv/a".to_owned()]), ("on", vec!["true".to_owned()])];
        let flags = Flags { config: Some("/etc/demo.toml".to_owned()), texts: texts.into() };
        perform(&PROGRAM, &request(Verb::Install, root), &flags).unwrap();
        let text = std::fs::read_to_string(&unit).unwrap();
        assert!(text.contains(" --config /etc/demo.toml --file=/srv/a --on=true\n"), "{text}");
        assert_eq!(status(root), "demo: installed\n");
        perform(&PROGRAM, &request(Verb::Remove, root), &Flags::default()).unwrap();
        assert!(!unit.exists());
        let again = perform(&PROGRAM, &request(Verb::Remove, root), &Flags::default()).unwrap_err();
        assert!(again.to_string().contains("not installed"));
        assert_eq!(
            perform(&PROGRAM, &request(Verb::Start, root), &Flags::default()).unwrap_err().exit_code(),
            2
        );
    }
}
