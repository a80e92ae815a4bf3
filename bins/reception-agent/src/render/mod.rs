//! `[[render]]`: files out of services, and telling who reads them.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`settings`] | the table; its rows as [`RenderSpec`] |
//! | [`decide`] | when to render what; pure |
//! | [`keyrouter`], [`template`] | the two forms; pure |
//! | [`file`] | the file, replaced as a whole |
//! | [`tell`] | signal or command |
//! | [`run`] | the task that keeps one file |
//! | [`board`] | what is counted |

pub mod board;
pub mod decide;
pub mod file;
pub mod keyrouter;
pub mod run;
pub mod settings;
pub mod tell;
pub mod template;

use std::path::PathBuf;

pub use board::Counters;
pub use run::run;
pub use settings::{COLUMNS, check, specs};

/// One `[[render]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderSpec {
    /// The file.
    pub path: PathBuf,
    /// What is in it, and when.
    pub rule: decide::Rule,
    /// What it looks like.
    pub format: Format,
    /// How its readers are told.
    pub on_change: tell::OnChange,
}

/// What a file looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// keyrouter's file of services.
    Keyrouter,
    /// A template of the operator's, as it was when the configuration was read.
    Template(template::Template),
}
