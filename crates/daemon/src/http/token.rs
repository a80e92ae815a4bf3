//! The bearer token that an API asks for.
use std::fmt;
use std::path::Path;

use http::header::{self, HeaderMap};
use sha2::{Digest, Sha256};

/// A shorter one could be guessed.
const MIN_LENGTH: usize = 16;

/// A static bearer token. Only its digest is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// The token in a file; white space around it does not count.
    ///
    /// # Errors
    /// A sentence that names the file: it cannot be read, or holds fewer than 16 characters.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let text = text.trim();
        if text.len() < MIN_LENGTH {
            return Err(format!("{}: a token has at least {MIN_LENGTH} characters", path.display()));
        }
        Ok(Self::new(text))
    }

    /// This token.
    pub fn new(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Whether a request carries it, as `Authorization: Bearer TOKEN`, once.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else { return false };
        let Some((scheme, token)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
            return false;
        };
        scheme.eq_ignore_ascii_case("bearer") && self.is_same(&Self::new(token.trim()))
    }

    /// Compares all of both digests: how long it takes says nothing about either text.
    fn is_same(&self, other: &Self) -> bool {
        let add = |difference, (a, b): (&u8, &u8)| std::hint::black_box(difference | (a ^ b));
        self.0.iter().zip(&other.0).fold(0, add) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_compared_whole() {
        let token = Token::new("0123456789abcdef");
        let given = |values: &[&str]| {
            let headers = values.iter().map(|value| (header::AUTHORIZATION, value.parse().expect("a value")));
            token.is_in(&headers.collect())
        };
        for value in ["Bearer 0123456789abcdef", "bearer  0123456789abcdef"] {
            assert!(given(&[value]), "{value}");
            assert!(!given(&[value, value]), "twice");
        }
        for value in
            ["Bearer 0123456789abcde", "Bearer ", "Bearer", "0123456789abcdef", "Basic 0123456789abcdef"]
        {
            assert!(!given(&[value]), "{value}");
        }
        assert!(!given(&[]));
    }

    #[test]
    fn a_file_holds_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        std::fs::write(&path, " 0123456789abcdef\n").expect("written");
        assert_eq!(Token::read(&path), Ok(Token::new("0123456789abcdef")));
        std::fs::write(&path, "short\n").expect("written");
        assert!(Token::read(&path).is_err_and(|error| error.contains("at least 16 characters")));
        assert!(Token::read(&dir.path().join("none")).is_err_and(|error| error.contains("none: ")));
    }
}
