//! From a path to what the file there says.

use std::io::{self, Write};
use std::path::Path;

use common::ring::Algorithm;
use daemon::Failure;
use daemon::settings::{Place, Problems};

use super::error::Error;
use super::file::{self, Content};
use super::keeper::Options;
use super::spec::Spec;

/// Reads and parses the file at `path`, at most `max` bytes. All that is wrong goes into `problems`, and
/// then there is no spec.
pub fn load(path: &Path, algorithm: Algorithm, max: u64, problems: &mut Problems) -> Option<Spec> {
    interpret(path, file::read(path, max), algorithm, problems)
}

/// What the file at `path` says, for a command that cannot do without. The file may be a pipe.
///
/// # Errors
/// Exit code 78 without a message: all problems were written to stderr, each on a line of its own.
pub fn require(path: &Path, options: &Options) -> Result<Spec, Failure> {
    load_or_tell(path, options, &mut io::stderr())
}

fn load_or_tell(path: &Path, options: &Options, errors: &mut dyn Write) -> Result<Spec, Failure> {
    let mut problems = Problems::default();
    let read = file::read_to_end(path, options.max_size);
    let spec = interpret(path, read, options.algorithm, &mut problems);
    // Nobody is left to tell when stderr is gone.
    problems.warnings().for_each(|warning| drop(writeln!(errors, "keyrouter: warning: {warning}")));
    problems.iter().for_each(|problem| drop(writeln!(errors, "{problem}")));
    spec.ok_or_else(|| Failure::configuration(""))
}

/// What was `read` from `path` says. All that is wrong goes into `problems`, and then there is no spec.
pub(super) fn interpret(
    path: &Path,
    read: Result<Content, Error>,
    algorithm: Algorithm,
    problems: &mut Problems,
) -> Option<Spec> {
    let name = path.display().to_string();
    match read {
        Ok(content) => Spec::parse(&name, &content.bytes, algorithm, problems),
        Err(error) => {
            problems.at(&Place::line_of(&name, 0), error.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::TempDir;

    #[test]
    fn a_bad_file_is_told_line_by_line() {
        let dir = TempDir::new();
        let path = dir.write("f", "a = 1\n[[Services]]\nName = 'x'\nNodes = ['a ', 7]\n");
        let options = Options { algorithm: Algorithm::Ring, hold_empty: false, max_size: 1000 };
        let mut told = Vec::new();
        let failure = load_or_tell(&path, &options, &mut told).unwrap_err();
        assert_eq!((failure.exit_code(), failure.to_string()), (78, String::new()));
        let at = path.display();
        assert_eq!(
            String::from_utf8(told).unwrap(),
            format!(
                "keyrouter: warning: {at}:4: node \"a \" begins or ends with white space\n\
                 {at}:1: unknown key 'a'\n{at}:4: 'Nodes' holds addresses, not a whole number\n"
            )
        );
        let mut problems = Problems::default();
        assert!(load(&path, Algorithm::Ring, 1000, &mut problems).is_none());
        assert_eq!(problems.iter().count(), 2);
    }
}
