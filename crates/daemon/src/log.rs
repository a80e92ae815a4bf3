//! Logging on stderr, as text or JSON, with a level that a reload can change.
use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::settings::Values;

/// Changes the level of the running log.
#[derive(Debug, Clone)]
pub struct LogControl {
    level: Option<reload::Handle<LevelFilter, Registry>>,
}

impl LogControl {
    /// A control that controls nothing, for tests.
    pub const fn none() -> Self {
        Self { level: None }
    }

    /// Applies the `log-level` of reloaded values.
    pub fn apply(&self, values: &Values) {
        if let Some(handle) = &self.level {
            // Fails only when the subscriber is gone, and then there is no log.
            drop(handle.modify(|level| *level = level_of(&values.text("log-level"))));
        }
    }
}

/// Starts the log as the settings say. A log that somebody else started stays.
pub fn init(values: &Values) -> LogControl {
    let (filter, handle) = reload::Layer::new(level_of(&values.text("log-level")));
    let layer = if values.text("log-format") == "json" {
        fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed()
    } else {
        let colour =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        fmt::layer().with_ansi(colour).with_target(false).with_writer(std::io::stderr).boxed()
    };
    let started = tracing_subscriber::registry().with(filter.and_then(layer)).try_init();
    LogControl { level: started.is_ok().then_some(handle) }
}

/// The level for a name; the originals' `NOTICE` and `CRITICAL` have near kin, not twins.
fn level_of(name: &str) -> LevelFilter {
    match name {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "warning" | "warn" | "notice" => match name {
            "notice" => LevelFilter::INFO,
            _ => LevelFilter::WARN,
        },
        "error" | "critical" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    }
}

/// Logs that a listener is open, in the one form that scripts wait for.
pub fn log_listening(role: &str, addr: std::net::SocketAddr) {
    tracing::info!(role, %addr, "listening");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_accepted_name_has_a_level() {
        assert_eq!(level_of("notice"), LevelFilter::INFO);
        assert_eq!(level_of("critical"), LevelFilter::ERROR);
        assert_eq!(level_of("warn"), level_of("warning"));
        for name in crate::cli::LEVELS {
            assert_ne!(level_of(name), LevelFilter::OFF, "{name}");
        }
    }
}
