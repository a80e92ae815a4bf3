//! Matching the keys of a file with the table of settings.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::file::{Content, Member, Node};
use super::load::fill_defaults;
use super::problems::{Place, Problems};
use super::setting::{Kind, Setting};
use super::value::{self, Value};
use super::values::{Entry, Row, Source, TextRow, Values};

/// A walk through the tables of a file that matches keys with settings.
pub(super) struct Walk<'a> {
    pub(super) known: &'a [&'static Setting],
    pub(super) json: bool,
    pub(super) problems: &'a mut Problems,
    pub(super) values: &'a mut Values,
}

impl Walk<'_> {
    pub(super) fn members(&mut self, members: &[Member], prefix: &str) {
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
            json: self.json,
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
