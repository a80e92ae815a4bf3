//! What the command line and the unit file need to know of a daemon.
use super::setting::Setting;

/// A daemon as its users meet it: name, settings, subcommands.
///
/// ```
/// use daemon::settings::{Api, Program};
///
/// static PROGRAM: Program = Program {
///     examples: "spawn-proxy --node 10.0.0.1:8080 --node 10.0.0.2:8080",
///     api: Api::HostPort { host: "api.host", port: "api.port", certificates: &[] },
///     ..Program::new("spawn-proxy", "Reads go to one node, writes to all", "1.0.0")
/// };
/// # assert_eq!(PROGRAM.name, "spawn-proxy");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The name of the executable.
    pub name: &'static str,
    /// One sentence for the top of the help.
    pub about: &'static str,
    /// The version, as in `env!("CARGO_PKG_VERSION")`.
    pub version: &'static str,
    /// Command lines for the end of the help, one a line.
    pub examples: &'static str,
    /// The table of settings. The common ones (log, drain) are added to it.
    pub settings: &'static [Setting],
    /// Tables that it shares with other programs.
    pub shared: &'static [&'static [Setting]],
    /// Subcommands beside those that every daemon has.
    pub subcommands: &'static [Subcommand],
    /// Whether the bare program is of no use, as where a subcommand says what to do.
    pub subcommand_required: bool,
    /// Where the admin routes are, for `healthcheck`.
    pub api: Api,
    /// Whether `install`, `remove`, `start`, `stop` and `status` also work without `service`.
    pub bare_service_words: bool,
    /// What the systemd unit of this daemon needs.
    pub unit: Unit,
}

impl Program {
    /// A program without settings, to be completed by struct update.
    pub const fn new(name: &'static str, about: &'static str, version: &'static str) -> Self {
        Self {
            name,
            about,
            version,
            examples: "",
            settings: &[],
            shared: &[],
            subcommands: &[],
            subcommand_required: false,
            api: Api::None,
            bare_service_words: false,
            unit: Unit::DEFAULT,
        }
    }

    /// The settings that hold for this subcommand, the common ones included.
    pub(crate) fn settings_for(&self, subcommand: Option<&str>) -> Vec<&'static Setting> {
        let own = self.subcommands.iter().filter(|known| Some(known.name) == subcommand);
        let own = own.flat_map(|known| known.settings);
        self.own_settings().chain(own).chain(crate::cli::COMMON).collect()
    }

    /// Every setting that a file of this program may hold. One that several subcommands have is there once.
    pub(crate) fn all_settings(&self) -> Vec<&'static Setting> {
        let of_subcommands = self.subcommands.iter().flat_map(|known| known.settings);
        let mut seen = std::collections::BTreeSet::new();
        let all = self.own_settings().chain(of_subcommands).chain(crate::cli::COMMON);
        all.filter(|setting| seen.insert(setting.key)).collect()
    }

    /// Those that hold whatever the subcommand.
    pub(crate) fn own_settings(&self) -> impl Iterator<Item = &'static Setting> {
        self.settings.iter().chain(self.shared.iter().copied().flatten())
    }

    /// The environment variable that names the file.
    pub(crate) fn config_env(&self) -> String {
        format!("{}_CONFIG", self.name).to_uppercase().replace('-', "_")
    }
}

/// Which settings say where the admin routes listen.
#[derive(Debug, Clone, Copy)]
pub enum Api {
    /// Nowhere: no `healthcheck`.
    None,
    /// One setting of kind `Address`.
    Address {
        /// Its key.
        address: &'static str,
        /// Keys of the certificate's file, the first that is set counts; none set: plain HTTP.
        certificates: &'static [&'static str],
    },
    /// A host and a port.
    HostPort {
        /// The host's key.
        host: &'static str,
        /// The port's key.
        port: &'static str,
        /// Keys of the certificate's file, the first that is set counts; none set: plain HTTP.
        certificates: &'static [&'static str],
    },
}

/// A daemon's own subcommand.
#[derive(Debug, Clone, Copy)]
pub struct Subcommand {
    /// The word on the command line.
    pub name: &'static str,
    /// One sentence for the help.
    pub about: &'static str,
    /// Settings that only this subcommand has.
    pub settings: &'static [Setting],
    /// What stands after the word, in order.
    pub arguments: &'static [Argument],
}

/// A word after a subcommand that is no flag.
#[derive(Debug, Clone, Copy)]
pub struct Argument {
    /// Its name in the help and for the daemon to ask by.
    pub name: &'static str,
    /// One sentence for the help.
    pub help: &'static str,
    /// Whether it has to be there.
    pub required: bool,
    /// Whether it takes all that follows.
    pub many: bool,
    /// Whether it stands behind `--`, as a command to run does.
    pub after_dashes: bool,
}

impl Argument {
    /// One word that has to be there.
    pub const fn required(name: &'static str, help: &'static str) -> Self {
        Self { name, help, required: true, many: false, after_dashes: false }
    }

    /// One word that may be left out.
    pub const fn optional(name: &'static str, help: &'static str) -> Self {
        Self { required: false, ..Self::required(name, help) }
    }

    /// A command with its arguments behind `--`.
    pub const fn command(name: &'static str, help: &'static str) -> Self {
        Self { name, help, required: false, many: true, after_dashes: true }
    }
}

/// What differs from daemon to daemon in a systemd unit.
#[derive(Debug, Clone, Copy)]
pub struct Unit {
    /// A subcommand for the unit's command line, where the bare program does not serve.
    pub subcommand: Option<&'static str>,
    /// The flag that takes the state directory, where there is one (`data-dir`).
    pub state_flag: Option<&'static str>,
    /// Whether ports below 1024 are usual for it.
    pub low_ports: bool,
    /// More lines for the `[Service]` section.
    pub extra: &'static [&'static str],
    /// Keys of durations that the end may take beside the drain.
    pub stop_after: &'static [&'static str],
}

impl Unit {
    /// A daemon without state on ports that need no privilege.
    pub const DEFAULT: Self =
        Self { subcommand: None, state_flag: None, low_ports: false, extra: &[], stop_after: &[] };
}
