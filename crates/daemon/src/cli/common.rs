//! The settings that every daemon has.
use crate::settings::{Kind, Setting};

/// Accepted level names: those of syslog and Python's logging, and those of Rust's.
pub(crate) const LEVELS: &[&str] =
    &["trace", "debug", "info", "notice", "warning", "warn", "error", "critical"];

/// Settings that are added to every daemon's own.
pub const COMMON: &[Setting] = &[
    Setting::new("log-level", Kind::Choice(LEVELS), "Least level that is logged; changes with a reload")
        .flag("log-level")
        .default("info")
        .value_name("LEVEL")
        .group("Common options"),
    Setting::new("log-format", Kind::Choice(&["text", "json"]), "Form of the log on stderr")
        .flag("log-format")
        .default("text")
        .value_name("FORMAT")
        .at_start()
        .group("Common options"),
    Setting::new("drain-timeout", Kind::DURATION, "Longest wait for work in flight before the end")
        .flag("drain-timeout")
        .default("10s")
        .group("Common options"),
    Setting::new("drain-delay", Kind::DURATION, "Time between failing readiness and closing listeners")
        .flag("drain-delay")
        .default("0s")
        .group("Common options"),
];
