//! Bringing flags, environment and file together, at start and at every reload.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Config;
use super::file::{self, Content, Member, Node};
use super::problems::{Place, Problems};
use super::program::Program;
use super::setting::{Kind, Setting};
use super::value::{self, Value};
use super::values::{Entry, Row, Source, TextRow, Values};

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
        let values = gather(program, subcommand, &flags, &environment, &mut problems);
        let Some(values) = values else { return Err(problems) };
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

/// All values, or `None` where the file cannot be made sense of at all.
fn gather(
    program: &'static Program,
    subcommand: Option<&'static str>,
    flags: &Flags,
    environment: &Environment,
    problems: &mut Problems,
) -> Option<Values> {
    let settings = program.settings_for(subcommand);
    let config_env = program.config_env();
    let from_env = environment.get(&config_env).filter(|name| !name.is_empty());
    let path = flags.config.as_ref().or(from_env);
    let mut values = Values {
        program: program.name,
        file: path.map(|name| Arc::from(name.as_str())),
        line: 0,
        settings: settings.clone(),
        entries: BTreeMap::new(),
        broken: BTreeSet::new(),
    };
    if let Some(name) = path {
        let bytes = std::fs::read(name);
        let text = bytes.map(String::from_utf8);
        let place = Place::file(name, 0);
        match text {
            Ok(Ok(text)) => {
                let file = file::parse(name, &text, problems);
                let readable = problems.is_empty();
                let known = program.all_settings();
                Walk { known: &known, json: file.json, problems, values: &mut values }
                    .members(&file.root, "");
                if !readable {
                    return None;
                }
            }
            Ok(Err(_)) => {
                problems.at(&place, "is not UTF-8 text");
                return None;
            }
            Err(error) => {
                problems.at(&place, format!("cannot be read: {}", plain(&error)));
                return None;
            }
        }
    }
    for setting in settings {
        take_env(setting, environment, &mut values, problems);
        take_flag(setting, flags, &mut values, problems);
    }
    fill_defaults(&mut values);
    Some(values)
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
    let (Some(flag), Some(texts)) = (setting.flag, flags.texts.get(setting.key)) else { return };
    let place = Place::flag(flag);
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
fn fill_defaults(values: &mut Values) {
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

/// A walk through the tables of a file that matches keys with settings.
struct Walk<'a> {
    known: &'a [&'static Setting],
    json: bool,
    problems: &'a mut Problems,
    values: &'a mut Values,
}

impl Walk<'_> {
    fn members(&mut self, members: &[Member], prefix: &str) {
        for member in members {
            let key = format!("{prefix}{}", member.key);
            self.member(member, &key, prefix);
        }
    }

    fn member(&mut self, member: &Member, key: &str, prefix: &str) {
        // A JSON null is how some writers say that there is no value.
        if matches!(member.node.content, Content::Null) {
            return;
        }
        // Encoders of the original's language match the keys of JSON in any case.
        let mut matching = self.known.iter().filter(|setting| setting.answers_to(key, self.json));
        if let Some(first) = matching.next() {
            // Two subcommands may share a key; what counts is the one that is running.
            let running = |setting: &&&'static Setting| {
                self.values.settings.iter().any(|own| std::ptr::eq(*own, **setting))
            };
            let setting = Some(first).into_iter().chain(matching).find(running).copied();
            if let Some(setting) = setting {
                self.take(setting, member);
            }
            return;
        }
        let inner = format!("{key}.");
        let starts = |name: &str| match name.get(..inner.len()) {
            Some(start) if self.json => start.eq_ignore_ascii_case(&inner),
            start => start == Some(inner.as_str()),
        };
        let is_table = self.known.iter().any(|setting| !setting.flag_only && starts(setting.key));
        match &member.node.content {
            Content::Table(members) if is_table => self.members(members, &inner),
            content if is_table => {
                let message = format!("'{key}' has to be a table, not {}", content.noun());
                self.at_line(member.line, message);
            }
            _ => self.unknown(member, key, prefix),
        }
    }

    fn at_line(&mut self, line: usize, message: String) {
        let name = self.values.file.clone().unwrap_or_else(|| Arc::from("file"));
        self.problems.at(&Place::file(&name, line), message);
    }

    fn unknown(&mut self, member: &Member, key: &str, prefix: &str) {
        let mut message = format!("unknown key '{key}'");
        if let Some(near) = self.nearest(&member.key, prefix) {
            message.push_str(&format!(": did you mean '{prefix}{near}'?"));
        }
        if self.json {
            let name = self.values.file.clone().unwrap_or_else(|| Arc::from("file"));
            self.problems.warn_at(&Place::file(&name, member.line), message);
        } else {
            self.at_line(member.line, message);
        }
    }

    /// The known key of this table that `key` most looks like.
    fn nearest(&self, key: &str, prefix: &str) -> Option<String> {
        let here = self.known.iter().filter(|setting| !setting.flag_only);
        let names = here.filter_map(|setting| setting.key.strip_prefix(prefix)?.split('.').next());
        let scored = names.map(|name| (strsim::damerau_levenshtein(name, key), name));
        let (distance, name) = scored.min()?;
        let tolerable = 1 + key.chars().count() / 4;
        (distance <= tolerable).then(|| name.to_owned())
    }

    fn take(&mut self, setting: &'static Setting, member: &Member) {
        let value = match setting.kind {
            Kind::Texts => self.texts(setting, &member.node),
            Kind::Tables(columns) => self.rows(setting, columns, &member.node),
            _ => {
                value::from_node(setting, &member.node).map_err(|message| self.at_line(member.line, message))
            }
        };
        match value {
            Ok(value) => {
                let source = Source::File { line: member.line };
                if self.values.entries.insert(setting.key, Entry { value, source }).is_some() {
                    self.at_line(member.line, format!("duplicate key '{}'", setting.key));
                }
            }
            Err(()) => {
                self.values.broken.insert(setting.key);
            }
        }
    }

    fn texts(&mut self, setting: &Setting, node: &Node) -> Result<Value, ()> {
        let Content::List(items) = &node.content else {
            self.at_line(node.line, value::wrong_kind(setting, &node.content));
            return Err(());
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match &item.content {
                Content::Text(text) => texts.push(text.clone()),
                content => {
                    let message = format!("'{}' holds texts, not {}", setting.key, content.noun());
                    self.at_line(item.line, message);
                }
            }
        }
        if texts.len() == items.len() { Ok(Value::Texts(texts)) } else { Err(()) }
    }

    fn rows(&mut self, setting: &Setting, columns: &'static [Setting], node: &Node) -> Result<Value, ()> {
        let Content::List(items) = &node.content else {
            self.at_line(node.line, value::wrong_kind(setting, &node.content));
            return Err(());
        };
        let mut rows = Vec::with_capacity(items.len());
        for item in items {
            match &item.content {
                Content::Table(members) => rows.push(Row::Table(self.row(columns, members, item.line))),
                Content::Text(text) => {
                    let place = Place::file(self.values.file.as_deref().unwrap_or("file"), item.line);
                    rows.push(Row::Text(TextRow { text: text.clone(), place }));
                }
                content => {
                    let message = format!("'{}' holds tables, not {}", setting.key, content.noun());
                    self.at_line(item.line, message);
                }
            }
        }
        if rows.len() == items.len() { Ok(Value::Rows(rows)) } else { Err(()) }
    }

    fn row(&mut self, columns: &'static [Setting], members: &[Member], line: usize) -> Values {
        let settings: Vec<&'static Setting> = columns.iter().collect();
        let mut row = Values {
            program: self.values.program,
            file: self.values.file.clone(),
            line,
            settings: settings.clone(),
            entries: BTreeMap::new(),
            broken: BTreeSet::new(),
        };
        Walk { known: &settings, json: self.json, problems: self.problems, values: &mut row }
            .members(members, "");
        fill_defaults(&mut row);
        row
    }
}
