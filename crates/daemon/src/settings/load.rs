//! Bringing flags, environment and file together, at start and at every reload.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Config;
use super::file;
use super::problems::{Place, Problems};
use super::program::Program;
use super::setting::{Kind, Setting};
use super::value::{self, Value};
use super::values::{Entry, Row, Source, TextRow, Values};
use super::walk::Walk;

/// Environment variables by name.
pub type Environment = BTreeMap<String, String>;

/// What the command line says: texts by the key of their setting, and the file's name.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// The file, where one is named.
    pub config: Option<String>,
    /// Texts by key; several for a repeated flag.
    pub texts: BTreeMap<&'static str, Vec<String>>,
}

/// A configuration as loaded, with all that it takes to load it again.
#[derive(Debug, Clone)]
pub struct Loaded {
    program: &'static Program,
    subcommand: Option<&'static str>,
    flags: Flags,
    environment: Environment,
    values: Values,
    warnings: Vec<String>,
}

impl Loaded {
    /// Reads everything, checks everything, and makes the daemon's own configuration of it.
    pub fn load<C: Config>(
        program: &'static Program,
        subcommand: Option<&'static str>,
        flags: Flags,
        environment: Environment,
    ) -> Result<(Self, C), Problems> {
        let mut problems = Problems::default();
        let (values, readable) = gather(program, subcommand, &flags, &environment, &mut problems);
        if !readable {
            return Err(problems);
        }
        // The daemon's own checks run beside other problems, so that one run shows them all.
        let config = C::from_values(&values, &mut problems);
        let Some(config) = config.filter(|_| problems.is_empty()) else {
            if problems.is_empty() {
                let place = Place::named(program.name);
                problems.at(&place, "the configuration was refused without a reason");
            }
            return Err(problems);
        };
        let warnings = problems.warnings().map(ToString::to_string).collect();
        Ok((Self { program, subcommand, flags, environment, values, warnings }, config))
    }

    /// The values as far as they can be made out, with defaults for the rest: enough to find a
    /// daemon that runs on well while somebody edits its file.
    pub fn best_effort(
        program: &'static Program,
        subcommand: Option<&'static str>,
        flags: &Flags,
        environment: &Environment,
    ) -> Values {
        gather(program, subcommand, flags, environment, &mut Problems::default()).0
    }

    /// Reads the file again, with the same flags and environment. Nothing changes on problems.
    pub fn reload<C: Config>(&self) -> Result<(Self, C), Problems> {
        Self::load(self.program, self.subcommand, self.flags.clone(), self.environment.clone())
    }

    /// The values in force.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// What the user should know although nothing is wrong.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The program that this is the configuration of.
    pub fn program(&self) -> &'static Program {
        self.program
    }
}

/// All values, and whether the file could be made sense of: where not, only its syntax counts.
fn gather(
    program: &'static Program,
    subcommand: Option<&'static str>,
    flags: &Flags,
    environment: &Environment,
    problems: &mut Problems,
) -> (Values, bool) {
    let settings = program.settings_for(subcommand);
    let config_env = program.config_env();
    let from_env = environment.get(&config_env).filter(|name| !name.is_empty());
    let path = flags.config.as_ref().or(from_env);
    let mut values = Values {
        program: program.name,
        file: path.map(|name| Arc::from(name.as_str())),
        json: false,
        line: 0,
        settings: settings.clone(),
        entries: BTreeMap::new(),
        broken: BTreeSet::new(),
    };
    let readable = path.is_none_or(|name| take_file(name, program, &mut values, problems));
    for setting in settings {
        take_env(setting, environment, &mut values, problems);
        take_flag(setting, flags, &mut values, problems);
    }
    fill_defaults(&mut values);
    (values, readable)
}

/// Takes the values of a file; false where it cannot be read or is against the form's syntax.
fn take_file(name: &str, program: &'static Program, values: &mut Values, problems: &mut Problems) -> bool {
    let place = Place::file(name, 0);
    let text = match std::fs::read(name).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => {
            problems.at(&place, "is not UTF-8 text");
            return false;
        }
        Err(error) => {
            problems.at(&place, format!("cannot be read: {}", plain(&error)));
            return false;
        }
    };
    let file = file::parse(name, &text, problems);
    let readable = problems.is_empty();
    let known = program.all_settings();
    Walk { known: &known, json: file.json, problems, values }.members(&file.root, "");
    readable
}

/// The system's own words without the number behind them.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

fn take_env(
    setting: &'static Setting,
    environment: &Environment,
    values: &mut Values,
    problems: &mut Problems,
) {
    let name = setting.env_name(values.program);
    let Some(text) = environment.get(&name).filter(|text| !text.is_empty()) else { return };
    let place = Place::named(&name);
    if matches!(setting.kind, Kind::Integer { .. }) && text.starts_with("tcp://") {
        // Kubernetes sets NAME_PORT like this in every pod beside a service of that name.
        problems.warn_at(&place, "looks like what Kubernetes sets for a service of this name; ignored");
        return;
    }
    let texts = if setting.kind.is_list() {
        text.split_whitespace().map(str::to_owned).collect()
    } else {
        vec![text.clone()]
    };
    take_texts(setting, &texts, Source::Env, &place, values, problems);
}

fn take_flag(setting: &'static Setting, flags: &Flags, values: &mut Values, problems: &mut Problems) {
    let Some(texts) = flags.texts.get(setting.key) else { return };
    // Without a flag it is the words of the subcommand's argument of the same name.
    let place = setting.flag.map_or_else(|| Place::word(setting.key), Place::flag);
    let with_password = |text: &String| value::has_password(text);
    if matches!(setting.kind, Kind::Url) && texts.iter().any(with_password) {
        let env = setting.env_name(values.program);
        let message = format!(
            "has a password in it, which every user of this host could read; give it in {env} or in the file"
        );
        problems.refuse_secret(place, message);
        values.broken.insert(setting.key);
        return;
    }
    take_texts(setting, texts, Source::Flag, &place, values, problems);
}

fn take_texts(
    setting: &'static Setting,
    texts: &[String],
    source: Source,
    place: &Place,
    values: &mut Values,
    problems: &mut Problems,
) {
    let value = match (setting.kind, texts) {
        (Kind::Texts, texts) => Ok(Value::Texts(texts.to_vec())),
        (Kind::Tables(_), texts) => {
            let row = |text: &String| Row::Text(TextRow { text: text.clone(), place: place.clone() });
            Ok(Value::Rows(texts.iter().map(row).collect()))
        }
        (_, [.., last]) => value::from_text(setting, last),
        (_, []) => return,
    };
    match value {
        Ok(value) => {
            values.broken.remove(setting.key);
            values.entries.insert(setting.key, Entry { value, source });
        }
        Err(message) => {
            problems.at(place, message);
            values.broken.insert(setting.key);
        }
    }
}

/// Gives every setting without a value its default, also where a given one was refused, so that
/// the checks behind still have something to look at.
pub(super) fn fill_defaults(values: &mut Values) {
    for setting in values.settings.clone() {
        let Some(text) = setting.default.filter(|_| !values.entries.contains_key(setting.key)) else {
            continue;
        };
        let value = match setting.kind {
            Kind::Texts => Ok(Value::Texts(text.split_whitespace().map(str::to_owned).collect())),
            _ => value::from_text(setting, text),
        };
        match value {
            Ok(value) => values.entries.insert(setting.key, Entry { value, source: Source::Default }),
            Err(message) => panic!("the default of setting '{}' is wrong: {message}", setting.key),
        };
    }
}
