//! systemd: telling it how the daemon fares, and the hardened unit that it runs by.
mod notify;
mod unit;

pub use notify::Notifier;
pub use unit::{UnitOptions, unit_text};
