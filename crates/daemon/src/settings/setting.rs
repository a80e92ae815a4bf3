//! One row of a daemon's table of settings.
use std::time::Duration;

/// What a setting holds, and how its text is read.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// On or off. The flag alone means on; `--flag=false` turns off what a file turned on.
    Switch,
    /// Any text.
    Text,
    /// A whole number within bounds.
    Integer {
        /// The least that is accepted.
        min: i64,
        /// The most that is accepted.
        max: i64,
    },
    /// A finite number.
    Number,
    /// A time span such as `500ms`, `10s` or `1m30s`.
    Duration {
        /// The shortest that is accepted.
        min: Duration,
        /// The longest that is accepted.
        max: Duration,
    },
    /// A number of bytes such as `64MiB`, `64KB` or `1024`.
    Size {
        /// The least that is accepted.
        min: u64,
        /// The most that is accepted.
        max: u64,
    },
    /// One of some words, in any case; the value is the word as spelt here.
    Choice(&'static [&'static str]),
    /// A host name or an address without a port.
    Host,
    /// `:8080`, `host:port` or `[::1]:8080`.
    Address,
    /// A file or directory.
    Path,
    /// A URL with a scheme.
    Url,
    /// A regular expression.
    Regex,
    /// A list of texts; the flag is repeated, the variable holds them with spaces between.
    Texts,
    /// An array of tables with the settings given here. By flag, variable or as a string in the
    /// array, a row is one text that the daemon reads itself.
    Tables(&'static [Setting]),
}

impl Kind {
    /// A port, 0 included.
    pub const PORT: Self = Self::Integer { min: 0, max: 65535 };
    /// A number of things, at least one.
    pub const COUNT: Self = Self::Integer { min: 1, max: i64::MAX };
    /// Any time span up to a year, zero included.
    pub const DURATION: Self = Self::Duration { min: Duration::ZERO, max: Duration::from_secs(31_536_000) };
    /// A time span of at least a millisecond, up to a year.
    pub const WAIT: Self =
        Self::Duration { min: Duration::from_millis(1), max: Duration::from_secs(31_536_000) };
    /// Any number of bytes that a signed 64-bit number can hold.
    pub const SIZE: Self = Self::Size { min: 0, max: i64::MAX as u64 };

    pub(crate) const fn is_list(&self) -> bool {
        matches!(self, Self::Texts | Self::Tables(_))
    }

    pub(crate) const fn value_name(&self) -> &'static str {
        match self {
            Self::Switch => "BOOL",
            Self::Text | Self::Choice(_) | Self::Texts | Self::Tables(_) => "TEXT",
            Self::Integer { .. } | Self::Number => "N",
            Self::Duration { .. } => "TIME",
            Self::Size { .. } => "SIZE",
            Self::Host => "HOST",
            Self::Address => "ADDRESS",
            Self::Path => "PATH",
            Self::Url => "URL",
            Self::Regex => "RE",
        }
    }
}

/// The unit of a number that comes without one, as in files whose key already names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BareUnit {
    /// `10` is ten milliseconds.
    Milliseconds,
    /// `10` is ten seconds.
    Seconds,
    /// `10` is ten minutes.
    Minutes,
}

/// One setting: its key in a file, how it is read, and everything the help says about it.
///
/// Built by `const` methods, so that a daemon's table is a `static`:
///
/// ```
/// use daemon::settings::{Kind, Setting};
///
/// static SETTINGS: &[Setting] = &[
///     Setting::new("port", Kind::PORT, "Port to serve").flag("port").short('p').default("7117"),
///     Setting::new("api.token", Kind::Text, "Token of the API").secret(),
/// ];
/// # assert_eq!(SETTINGS.len(), 2);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub(crate) key: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
    pub(crate) default: Option<&'static str>,
    pub(crate) default_note: Option<&'static str>,
    pub(crate) flag: Option<&'static str>,
    pub(crate) short: Option<char>,
    pub(crate) env: Option<&'static str>,
    pub(crate) group: &'static str,
    pub(crate) value_name: Option<&'static str>,
    pub(crate) bare_unit: Option<BareUnit>,
    pub(crate) aliases: &'static [&'static str],
    pub(crate) compat: Option<fn(&str) -> Option<String>>,
    pub(crate) secret: bool,
    pub(crate) flag_only: bool,
    pub(crate) at_start: bool,
}

impl Setting {
    /// A setting with this key in the file; dots name nested tables (`health-check.seconds`).
    pub const fn new(key: &'static str, kind: Kind, help: &'static str) -> Self {
        Self {
            key,
            kind,
            help,
            default: None,
            default_note: None,
            flag: None,
            short: None,
            env: None,
            group: "Options",
            value_name: None,
            bare_unit: None,
            aliases: &[],
            compat: None,
            secret: false,
            flag_only: false,
            at_start: false,
        }
    }

    /// The value, in the form of a flag, where nobody gives one.
    pub const fn default(self, text: &'static str) -> Self {
        Self { default: Some(text), ..self }
    }

    /// What the help calls the default where the daemon works it out (`EXPIRY/3`).
    pub const fn default_note(self, text: &'static str) -> Self {
        Self { default_note: Some(text), ..self }
    }

    /// The flag's name without its dashes. Without one, the setting is for file and environment.
    pub const fn flag(self, name: &'static str) -> Self {
        Self { flag: Some(name), ..self }
    }

    /// A one-letter flag beside the long one.
    pub const fn short(self, letter: char) -> Self {
        Self { short: Some(letter), ..self }
    }

    /// The environment variable, where the one made of program and flag does not fit.
    pub const fn env(self, name: &'static str) -> Self {
        Self { env: Some(name), ..self }
    }

    /// The heading of the help under which the flag stands.
    pub const fn group(self, heading: &'static str) -> Self {
        Self { group: heading, ..self }
    }

    /// What the help calls the flag's value.
    pub const fn value_name(self, name: &'static str) -> Self {
        Self { value_name: Some(name), ..self }
    }

    /// The unit of a duration given as a plain number.
    pub const fn bare(self, unit: BareUnit) -> Self {
        Self { bare_unit: Some(unit), ..self }
    }

    /// Other keys that a file may use for this setting.
    pub const fn aliases(self, keys: &'static [&'static str]) -> Self {
        Self { aliases: keys, ..self }
    }

    /// Accepts an older program's form: turns its text into ours, or leaves it with `None`.
    pub const fn compat(self, translate: fn(&str) -> Option<String>) -> Self {
        Self { compat: Some(translate), ..self }
    }

    /// A secret: never a flag, since any process can read another's flags, and never printed.
    pub const fn secret(self) -> Self {
        Self { secret: true, flag: None, ..self }
    }

    /// A setting that no file may hold, such as what one call of a subcommand is about.
    pub const fn flag_only(self) -> Self {
        Self { flag_only: true, ..self }
    }

    /// A setting that is read at the start alone: a reload that changes it says so in the log.
    pub const fn at_start(self) -> Self {
        Self { at_start: true, ..self }
    }

    /// The key in the file.
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// The environment variable of this setting in the program of this name.
    pub fn env_name(&self, program: &str) -> String {
        if let Some(name) = self.env {
            return name.to_owned();
        }
        let own = self.flag.unwrap_or(self.key);
        format!("{program}_{own}").to_uppercase().replace(['-', '.'], "_")
    }

    /// Whether `key` (the whole dotted path) means this setting.
    pub(crate) fn answers_to(&self, key: &str, any_case: bool) -> bool {
        let same = |name: &str| if any_case { name.eq_ignore_ascii_case(key) } else { name == key };
        !self.flag_only && (same(self.key) || self.aliases.iter().any(|alias| same(alias)))
    }
}
