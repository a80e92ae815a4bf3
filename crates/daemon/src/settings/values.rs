//! Values by key, each with the source that it came from.
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::address::Address;
use super::problems::Place;
use super::setting::Setting;
use super::value::Value;

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// An environment variable.
    Env,
    /// The file.
    File {
        /// The line of its key.
        line: usize,
    },
    /// The table of settings, or nobody.
    Default,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    pub(crate) source: Source,
}

/// The values of a table of settings: a daemon's own, or those of one row of an array of tables.
///
/// A getter for a key that the table lacks, or for another kind than the table's, is a mistake in
/// the daemon and panics with a sentence that says so.
#[derive(Debug, Clone)]
pub struct Values {
    pub(crate) program: &'static str,
    pub(crate) file: Option<Arc<str>>,
    pub(crate) json: bool,
    /// Where the row starts, for what it lacks; 0 for the whole file.
    pub(crate) line: usize,
    pub(crate) settings: Vec<&'static Setting>,
    pub(crate) entries: BTreeMap<&'static str, Entry>,
    /// Keys whose value was refused: what else is said of them would only repeat it.
    pub(crate) broken: BTreeSet<&'static str>,
}

/// A row of an array of tables.
#[derive(Debug, Clone)]
pub enum Row {
    /// A table in a file.
    Table(Values),
    /// A text that the daemon reads itself, as from a repeated flag.
    Text(TextRow),
}

impl Row {
    /// Where the row stands, for what is wrong with it as a whole.
    pub fn place(&self) -> Place {
        match self {
            Self::Table(values) => Place::file(values.file.as_deref().unwrap_or("file"), values.line),
            Self::Text(row) => row.place.clone(),
        }
    }
}

/// A row given as one text.
#[derive(Debug, Clone)]
pub struct TextRow {
    pub(crate) text: String,
    pub(crate) place: Place,
}

impl TextRow {
    /// The text as given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where it was given.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident, $optional:ident -> $type:ty, $variant:ident, $noun:literal, $convert:expr;)*) => { $(
        $(#[$doc])*
        ///
        /// # Panics
        /// When the key is unknown, of another kind, or has neither a value nor a default.
        pub fn $name(&self, key: &str) -> $type {
            self.$optional(key).unwrap_or_else(|| no_value(key, concat!("opt_", stringify!($name))))
        }

        $(#[$doc])*
        /// `None` where it is not set and has no default.
        ///
        /// # Panics
        /// When the key is unknown or of another kind.
        pub fn $optional(&self, key: &str) -> Option<$type> {
            let convert: fn(&Value) -> Option<$type> = |value| match value {
                Value::$variant(value) => Some($convert(value)),
                _ => None,
            };
            let value = self.value(key)?;
            Some(convert(value).unwrap_or_else(|| wrong_getter(key, $noun)))
        }
    )* };
}

impl Values {
    getters! {
        /// A switch; off where nobody says otherwise (see [`Values::switch`]).
        switch_given, opt_switch -> bool, Switch, "a switch", |value: &bool| *value;
        /// A text, choice, host, URL or regular expression.
        text, opt_text -> String, Text, "a text", |value: &String| value.clone();
        /// A text, choice, host, URL or regular expression, in the spelling of the table.
        choice, opt_choice -> String, Text, "a choice", |value: &String| value.clone();
        /// A file or directory.
        path, opt_path -> PathBuf, Text, "a path", |value: &String| PathBuf::from(value);
        /// A number that may have decimals.
        number, opt_number -> f64, Number, "a number", |value: &f64| *value;
        /// A time span.
        duration, opt_duration -> Duration, Duration, "a duration", |value: &Duration| *value;
        /// A number of bytes.
        size, opt_size -> u64, Size, "a size", |value: &u64| *value;
        /// An address with a port.
        address, opt_address -> Address, Address, "an address", |value: &Address| value.clone();
    }

    /// A switch; off where it is not set.
    ///
    /// # Panics
    /// When the key is unknown or of another kind.
    pub fn switch(&self, key: &str) -> bool {
        self.opt_switch(key).unwrap_or(false)
    }

    /// A whole number in the type that the daemon wants.
    ///
    /// # Panics
    /// When the key is unknown or of another kind, when there is no value, or when the bounds in
    /// the table are wider than the type.
    pub fn integer<T: TryFrom<i64>>(&self, key: &str) -> T {
        self.opt_integer(key).unwrap_or_else(|| no_value(key, "opt_integer"))
    }

    /// A whole number; `None` where it is not set and has no default.
    ///
    /// # Panics
    /// When the key is unknown or of another kind, or when the bounds in the table are wider than
    /// the type.
    pub fn opt_integer<T: TryFrom<i64>>(&self, key: &str) -> Option<T> {
        let number = match self.value(key)? {
            Value::Integer(number) => *number,
            _ => wrong_getter(key, "a whole number"),
        };
        match T::try_from(number) {
            Ok(number) => Some(number),
            Err(_) => {
                panic!("the bounds of setting '{key}' let {number} through, which its type cannot hold")
            }
        }
    }

    /// Whether the table has this key: the settings of other subcommands are not in it.
    pub fn knows(&self, key: &str) -> bool {
        self.settings.iter().any(|setting| setting.key == key)
    }

    /// A list of texts; empty where it is not set.
    ///
    /// # Panics
    /// When the key is unknown or of another kind.
    pub fn texts(&self, key: &str) -> Vec<String> {
        match self.value(key) {
            None => Vec::new(),
            Some(Value::Texts(texts)) => texts.clone(),
            Some(_) => wrong_getter(key, "a list of texts"),
        }
    }

    /// The rows of an array of tables; none where it is not set.
    ///
    /// # Panics
    /// When the key is unknown or of another kind.
    pub fn tables(&self, key: &str) -> &[Row] {
        match self.value(key) {
            None => &[],
            Some(Value::Rows(rows)) => rows,
            Some(_) => wrong_getter(key, "an array of tables"),
        }
    }

    /// Whether somebody gave a value, be it the default's.
    ///
    /// # Panics
    /// When the key is unknown.
    pub fn is_set(&self, key: &str) -> bool {
        self.source(key) != Source::Default
    }

    /// Where the value came from.
    ///
    /// # Panics
    /// When the key is unknown.
    pub fn source(&self, key: &str) -> Source {
        let key = self.setting(key).key;
        self.entries.get(key).map_or(Source::Default, |entry| entry.source)
    }

    /// How a message names the place of the key's value, or where it would belong.
    ///
    /// # Panics
    /// When the key is unknown.
    pub fn place(&self, key: &str) -> Place {
        let setting = self.setting(key);
        let file = self.file.as_deref();
        match (self.source(key), setting.flag, file) {
            (Source::File { line }, _, Some(file)) => Place::file(file, line),
            (Source::Env, ..) => Place::named(&setting.env_name(self.program)),
            (Source::Default, _, Some(file)) if self.line > 0 => Place::file(file, self.line),
            (_, Some(flag), _) => Place::flag(flag),
            // There is nothing but the call that could hold it.
            (_, None, None) => Place::word(setting.key),
            _ => Place::named(setting.key),
        }
    }

    /// The name of the file, where one was read.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Whether the file is JSON, as the files of older programs are.
    pub const fn is_json(&self) -> bool {
        self.json
    }

    pub(crate) fn setting(&self, key: &str) -> &'static Setting {
        match self.settings.iter().find(|setting| setting.key == key) {
            Some(setting) => setting,
            None => panic!("setting '{key}' is not in the table"),
        }
    }

    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        let key = self.setting(key).key;
        self.entries.get(key).map(|entry| &entry.value)
    }
}

fn no_value(key: &str, instead: &str) -> ! {
    panic!("setting '{key}' has neither a value nor a default; ask for it by {instead}")
}

fn wrong_getter(key: &str, noun: &str) -> ! {
    panic!("setting '{key}' is not {noun} in the table")
}
