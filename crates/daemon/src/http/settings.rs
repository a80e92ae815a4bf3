//! The settings of a listener's limits, which are the same for each daemon that serves many clients.
use super::Limits;
use crate::settings::{Kind, Setting, Values};

/// For [`Program::shared`](crate::settings::Program::shared): what [`Limits::from_values`] reads.
pub static LISTENER_SETTINGS: &[Setting] = &[
    Setting::new(
        "max-connections",
        Kind::Integer { min: 1, max: 10_000_000 },
        "Connections of clients at once; others wait",
    )
    .flag("max-connections")
    .group("Limits")
    .default("50000")
    .at_start(),
    Setting::new(
        "max-header",
        Kind::Size { min: 8192, max: 16 << 20 },
        "Largest head of a request; more is 431",
    )
    .flag("max-header")
    .group("Limits")
    .default("64KiB")
    .at_start(),
    Setting::new("header-timeout", Kind::WAIT, "How long the head of a request may take")
        .flag("header-timeout")
        .group("Limits")
        .default("10s")
        .at_start(),
    Setting::new("keep-alive", Kind::WAIT, "How long a connection may be idle between requests")
        .flag("keep-alive")
        .group("Limits")
        .default("75s")
        .at_start(),
    Setting::new("send-timeout", Kind::WAIT, "How long a client may take nothing of what is sent to it")
        .flag("send-timeout")
        .group("Limits")
        .default("60s")
        .at_start(),
];

impl Limits {
    /// As [`LISTENER_SETTINGS`] say; `None` where one of them was refused.
    pub fn from_values(values: &Values) -> Option<Self> {
        let mut limits = Self::new(values.opt_integer("max-connections")?);
        limits.max_head_bytes = usize::try_from(values.opt_size("max-header")?).ok()?;
        limits.header_timeout = values.opt_duration("header-timeout")?;
        limits.idle_timeout = values.opt_duration("keep-alive")?;
        limits.send_timeout = values.opt_duration("send-timeout")?;
        Some(limits)
    }
}
