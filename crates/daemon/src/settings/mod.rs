//! One table of settings per daemon drives its flags, environment variables, file keys, `--help`,
//! `--print-config`, man page, completions and the table in its reference page.
//!
//! A value is looked for in the flags, then the environment, then the file, then the table's
//! default. Every problem met on the way is collected, so that one run shows them all.
mod address;
mod duration;
mod file;
mod load;
mod print;
mod problems;
mod program;
mod setting;
mod size;
mod value;
mod values;
mod walk;

pub use address::{Address, AddressError};
pub use duration::{DurationError, format_duration, parse_duration};
pub use load::{Environment, Flags, Loaded};
pub(crate) use print::changed_at_start;
pub use print::{print_config, reference_table};
pub use problems::{Place, Problem, Problems};
pub use program::{Api, Argument, Program, Subcommand, Unit};
pub use setting::{BareUnit, Kind, Setting};
pub use size::{SizeError, format_size, parse_size};
pub use values::{Row, Source, TextRow, Values};

/// A daemon's own typed configuration, made from values that already have the right types.
///
/// Checks that span several settings belong here: report each with [`Problems::report`], which
/// finds the file and line, the flag or the variable that the value came from.
pub trait Config: Sized {
    /// The configuration, or `None` when `problems` says why there is none.
    fn from_values(values: &Values, problems: &mut Problems) -> Option<Self>;

    /// What `--check-config` prints on stdout beside its verdict, ending with a newline: what follows from the
    /// values and a user wants to know before a start.
    fn report(&self) -> String {
        String::new()
    }

    /// What `--check-config` looks at besides: files that only a start reads, or that a running daemon
    /// waits for. A value that was refused already has its default here.
    fn check(_values: &Values, _problems: &mut Problems) {}
}
