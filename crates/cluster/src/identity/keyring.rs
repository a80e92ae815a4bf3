//! Secrets that nodes share: the first is used, all are accepted.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::KeyringError;
use crate::identity::derive::Master;

/// Shortest secret, in bytes.
const SHORTEST: usize = 16;
/// Most secrets of a ring.
const MOST: usize = 16;
/// Longest file, in bytes.
const LARGEST_FILE: u64 = 64 * 1024;

/// The keys that were made of the secrets, in their order.
#[derive(Debug, Clone)]
pub struct Keyring {
    pub(super) masters: Vec<Master>,
}

impl Keyring {
    /// The ring of these secrets. Takes about 20 ms for each.
    ///
    /// # Errors
    ///
    /// When there is none, or more than 16, one is shorter than 16 bytes, or twice there. Lines in errors are
    /// counted from 1, as if each secret were a line.
    pub fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Result<Self, KeyringError> {
        let secrets = secrets.into_iter().map(|secret| Zeroizing::new(secret.as_ref().to_owned()));
        Self::of((1..).zip(secrets).collect())
    }

    /// The ring of a file's text: one secret a line, spaces around it left out; empty lines and lines that begin
    /// with `#` are none.
    ///
    /// # Errors
    ///
    /// As [`Keyring::new`].
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        let lines = (1..).zip(text.lines().map(str::trim));
        let secrets = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        Self::of(secrets.map(|(line, secret)| (line, Zeroizing::new(secret.to_owned()))).collect())
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, when others than its owner may read or change it, and as [`Keyring::new`].
    pub fn read(path: &Path) -> Result<Self, KeyringError> {
        let failed = |source| KeyringError::Read { path: path.to_owned(), source };
        // The mode is asked of the open file, so that nobody can swap it in between.
        let mut file = File::open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if meta.mode() & 0o077 != 0 {
            return Err(KeyringError::Exposed { path: path.to_owned(), mode: meta.mode() & 0o777 });
        }
        let mut text = Zeroizing::new(String::new());
        let read =
            Read::by_ref(&mut file).take(LARGEST_FILE + 1).read_to_string(&mut text).map_err(failed)?;
        if read as u64 > LARGEST_FILE {
            return Err(KeyringError::TooBig { path: path.to_owned() });
        }
        Self::parse(&text)
    }

    fn of(secrets: Vec<(usize, Zeroizing<String>)>) -> Result<Self, KeyringError> {
        if secrets.is_empty() {
            return Err(KeyringError::Empty);
        }
        if secrets.len() > MOST {
            return Err(KeyringError::TooMany(MOST));
        }
        for (at, (line, secret)) in secrets.iter().enumerate() {
            if secret.len() < SHORTEST {
                return Err(KeyringError::Short { line: *line, bytes: secret.len() });
            }
            if let Some((first, _)) = secrets[..at].iter().find(|(_, earlier)| earlier == secret) {
                return Err(KeyringError::Twice { line: *line, first: *first });
            }
        }
        let master = |(line, secret): &(usize, Zeroizing<String>)| {
            let failed =
                |error: argon2::Error| KeyringError::Derivation { line: *line, reason: error.to_string() };
            Master::new(secret).map_err(failed)
        };
        Ok(Self { masters: secrets.iter().map(master).collect::<Result<_, _>>()? })
    }

    /// How many secrets it has.
    pub fn len(&self) -> usize {
        self.masters.len()
    }

    /// Whether it has none, which cannot be.
    pub fn is_empty(&self) -> bool {
        self.masters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_has_a_secret_a_line() {
        let ring = Keyring::parse("# the ring\n\n  a secret of many bytes  \nand another of many\n").unwrap();
        assert_eq!(ring.len(), 2);
        let same = Keyring::new(["a secret of many bytes"]).unwrap();
        assert_eq!(same.masters[0].pair("x").unwrap().public(), ring.masters[0].pair("x").unwrap().public());
    }

    #[test]
    fn each_kind_of_bad_ring_is_named() {
        assert!(matches!(Keyring::parse("# nothing\n"), Err(KeyringError::Empty)));
        assert!(matches!(Keyring::parse("\nshort\n"), Err(KeyringError::Short { line: 2, bytes: 5 })));
        let twice = "a secret of many bytes\n\na secret of many bytes\n";
        assert!(matches!(Keyring::parse(twice), Err(KeyringError::Twice { line: 3, first: 1 })));
        let many: Vec<String> = (0..17).map(|at| format!("a secret of many bytes {at}")).collect();
        assert!(matches!(Keyring::new(many), Err(KeyringError::TooMany(16))));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = testkit::TempDir::new();
        let path = folder.write("secret", "a secret of many bytes\n");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Keyring::read(&path), Err(KeyringError::Exposed { mode: 0o640, .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Keyring::read(&path).unwrap().len(), 1);
    }
}
