//! The file that holds a key pair.
//!
//! ```text
//! # A CURVE key pair of Muster. Keep it secret ...
//! version = 1
//! public = "40 characters"
//! secret = "40 characters"
//! ```

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::{KeyError, KeyFileError};
use crate::key::KeyPair;

/// The newest format that is read, and the one that is written.
const VERSION: u32 = 1;
/// More than a key file ever has.
const MAX_BYTES: u64 = 16 * 1024;
const PUBLIC: &str = "public";
const SECRET: &str = "secret";

/// The text of a key file; for printing on stdout, which the user redirects.
pub fn render(pair: &KeyPair) -> Zeroizing<String> {
    Zeroizing::new(format!(
        "# A CURVE key pair of Muster. Whoever has it can join: mode 0600, never in a repository.\n\
         version = {VERSION}\n{PUBLIC} = \"{}\"\n{SECRET} = \"{}\"\n",
        pair.public(),
        pair.secret_z85().as_str(),
    ))
}

/// Writes a new key file, readable by its owner only.
///
/// # Errors
///
/// When the file exists already (no key is ever overwritten) or cannot be written.
pub fn write(path: &Path, pair: &KeyPair) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Write { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(render(pair).as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// Reads a key file.
///
/// # Errors
///
/// When others than the owner may read or write it, and when it holds no key pair of a known version.
pub fn read(path: &Path) -> Result<KeyPair, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    // The mode is asked of the open file, so that nobody can swap it in between.
    let mut file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.mode() & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode: meta.mode() & 0o777 });
    }
    let mut text = Zeroizing::new(String::new());
    Read::by_ref(&mut file).take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    parse(&text).map_err(|reason| KeyFileError::Content { path: path.to_owned(), reason })
}

fn parse(text: &str) -> Result<KeyPair, KeyError> {
    let (mut version, mut public, mut secret) = (None, None, None);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line_error = || KeyError::Line { line: index + 1 };
        let (key, value) = line.split_once('=').ok_or_else(line_error)?;
        let value = value.trim();
        let text = || value.strip_prefix('"')?.strip_suffix('"');
        match key.trim() {
            "version" => version = Some(value.parse::<u32>().map_err(|_| line_error())?),
            PUBLIC => public = Some(text().ok_or_else(line_error)?),
            SECRET => secret = Some(text().ok_or_else(line_error)?),
            _ => return Err(line_error()),
        }
        // What comes after the version may look otherwise in a newer one.
        if let Some(found) = version.filter(|found| *found != VERSION) {
            return Err(KeyError::Version { found, known: VERSION });
        }
    }
    version.ok_or(KeyError::Missing { what: "version" })?;
    let public = public.ok_or(KeyError::Missing { what: PUBLIC })?;
    KeyPair::from_z85(public, secret.ok_or(KeyError::Missing { what: SECRET })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rendered_is_read() {
        let pair = KeyPair::generate().unwrap();
        assert_eq!(parse(&render(&pair)).unwrap().public(), pair.public());
    }

    #[test]
    fn each_kind_of_damage_is_named() {
        let (pair, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let good = render(&pair);
        let swapped = good.replace(&pair.public().to_string(), &other.public().to_string());
        assert!(matches!(parse(&swapped), Err(KeyError::NotAPair)));
        let newer = good.replace("version = 1", "version = 2");
        assert!(matches!(parse(&newer), Err(KeyError::Version { found: 2, .. })));
        assert!(matches!(parse(&good.replace("secret", "sekret")), Err(KeyError::Line { line: 4 })));
        assert!(matches!(parse("version = 1\n"), Err(KeyError::Missing { what: "public" })));
        assert!(matches!(parse(""), Err(KeyError::Missing { what: "version" })));
        let short = good.replace(&pair.public().to_string(), "abc");
        assert!(matches!(parse(&short), Err(KeyError::NotZ85 { what: "public key" })));
    }
}
