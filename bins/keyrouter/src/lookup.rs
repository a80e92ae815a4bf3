//! `keyrouter lookup`: the nodes of a key without a daemon.

use std::io::{self, Write};
use std::path::Path;

use common::ring::Answer;
use daemon::Failure;
use jiff::Timestamp;

use crate::services::quote::quoted;
use crate::services::{self, Catalog, Options, Spec, select};

/// Longer names are not compared with those of the file: that would take memory.
const LONGEST_SLIP: usize = 64;

/// Writes the nodes of `key` in `service` to `out`, one a line, best first: between `min` and `max` of
/// them, as an HTTP lookup would.
///
/// # Errors
/// Exit code 78 for a bad file, 1 for an unknown service or not enough nodes.
pub fn run(
    file: &Path,
    options: &Options,
    service: &str,
    key: &[u8],
    (min, max): (i64, i64),
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut spec = services::require(file, options)?;
    if !spec.services.iter().any(|known| &*known.name == service) {
        let (name, file) = (quoted(service), file.display());
        let hint =
            nearest(&spec, service).map(|near| format!(": did you mean {near:?}?")).unwrap_or_default();
        return Err(Failure::running(format!("there is no service {name} in {file}{hint}")).into());
    }
    // Rings of other services would be built in vain.
    spec.services.retain(|known| &*known.name == service);
    let catalog = Catalog::build(&spec, options.algorithm, None, 1, Timestamp::UNIX_EPOCH)?;
    let mut answer = Answer::new();
    let mut text = Vec::new();
    for found in catalog.services() {
        select(found, key, min, max, &mut answer)
            .map_err(|shortage| Failure::running(format!("service {}: {shortage}", quoted(service))))?;
        for name in answer.nodes().iter().filter_map(|&index| found.rings.name(index)) {
            text.extend_from_slice(name.as_bytes());
            text.push(b'\n');
        }
    }
    print(out, &text)
}

/// Writes `text` to `out`. A reader that went away is no failure.
pub(crate) fn print(out: &mut dyn Write, text: &[u8]) -> anyhow::Result<()> {
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| Failure::running(format!("standard output: {error}")).into()),
    }
}

/// The service that `name` most looks like.
fn nearest<'a>(spec: &'a Spec, name: &str) -> Option<&'a str> {
    let short = |name: &&str| name.len() <= LONGEST_SLIP;
    let name = Some(name).filter(short)?;
    let names = spec.services.iter().map(|service| &*service.name).filter(short);
    let scored = names.map(|known| (strsim::damerau_levenshtein(known, name), known));
    let tolerable = 1 + name.chars().count() / 4;
    scored
        .filter(|(distance, known)| *distance <= tolerable && !known.is_empty())
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use common::ring::Algorithm;
    use testkit::TempDir;

    use super::*;

    const OPTIONS: Options =
        Options { algorithm: Algorithm::Keyrouter02, hold_empty: false, max_size: 10_000 };
    const FILE: &str = "[[Services]]\nName='bar'\nNodes=['bar1:8080','bar2:8080','bar3:8080']\n\
                        [[Services]]\nName=''\nNodes=['x']\n";

    fn lookup(service: &str, key: &str, limits: (i64, i64)) -> Result<String, (u8, String)> {
        let dir = TempDir::new();
        let file = dir.write("services.toml", FILE);
        let mut out = Vec::new();
        match run(&file, &OPTIONS, service, key.as_bytes(), limits, &mut out) {
            Ok(()) => Ok(String::from_utf8(out).unwrap()),
            Err(error) => {
                let failure: Failure = error.downcast().unwrap();
                let text = failure.to_string().replace(&file.display().to_string(), "F");
                Err((failure.exit_code(), text))
            }
        }
    }

    #[test]
    fn nodes_are_those_of_the_original() {
        assert_eq!(lookup("bar", "ryans", (1, 3)).unwrap(), "bar1:8080\nbar3:8080\nbar2:8080\n");
        assert_eq!(lookup("bar", "ryans", (1, 1)).unwrap(), "bar1:8080\n");
        assert_eq!(lookup("bar", "", (1, i64::MAX)).unwrap(), "bar2:8080\nbar1:8080\nbar3:8080\n");
        assert_eq!(lookup("bar", "ryans", (0, 0)).unwrap(), "");
        assert_eq!(lookup("", "k", (1, 1)).unwrap(), "x\n");
    }

    #[test]
    fn what_cannot_be_answered_is_told() {
        let failed = |text: &str| Err((1, text.to_owned()));
        assert_eq!(
            lookup("bra", "k", (1, 1)),
            failed("there is no service \"bra\" in F: did you mean \"bar\"?")
        );
        assert_eq!(lookup("other", "k", (1, 1)), failed("there is no service \"other\" in F"));
        assert_eq!(
            lookup("bar", "k", (4, 5)),
            failed("service \"bar\": not enough nodes: min is 4, and the service has 3")
        );
        assert_eq!(
            lookup("bar", "k", (2, 1)),
            failed("service \"bar\": max cannot be less than min: max is 1, min is 2")
        );
        let missing = run(Path::new("/nowhere/f"), &OPTIONS, "a", b"k", (1, 1), &mut Vec::new()).unwrap_err();
        assert_eq!(missing.downcast_ref().map(Failure::exit_code), Some(78));
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        assert!(print(&mut writer, b"text").is_ok());
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(print(&mut full, b"text").unwrap_err().to_string().starts_with("standard output: "));
    }
}
