//! Numbers of bytes as text: `64MiB`, `64KB`, `1024`.

/// Why a text is no number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Nothing there.
    #[error("is empty; write a size such as 64KiB, 8GiB or 1048576")]
    Empty,
    /// Something else.
    #[error("'{0}' is not a size; write one such as 64KiB, 8GiB or 1048576")]
    Malformed(String),
    /// More than can be counted.
    #[error("'{0}' is too large a size")]
    TooLarge(String),
}

const UNITS: &[(&str, u64)] = &[
    ("tib", 1 << 40),
    ("gib", 1 << 30),
    ("mib", 1 << 20),
    ("kib", 1 << 10),
    ("tb", 1_000_000_000_000),
    ("gb", 1_000_000_000),
    ("mb", 1_000_000),
    ("kb", 1_000),
    ("b", 1),
    ("", 1),
];

/// Reads a size in any case. `KiB` is 1024 bytes and `KB` is 1000.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(SizeError::Empty);
    }
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
    let (Some(scale), false) = (scale, number.is_empty()) else {
        return Err(SizeError::Malformed(trimmed.to_owned()));
    };
    let number: Option<u64> = number.parse().ok();
    number.and_then(|number| number.checked_mul(scale)).ok_or_else(|| SizeError::TooLarge(trimmed.to_owned()))
}

/// The size in the largest binary unit that divides it.
pub fn format_size(bytes: u64) -> String {
    for (name, scale) in [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= scale && bytes.is_multiple_of(scale) {
            return format!("{}{name}", bytes / scale);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_both_families_of_units() {
        let cases = [
            ("64MiB", 64 << 20),
            ("64KB", 64_000),
            ("1024", 1024),
            ("8gib", 8 << 30),
            ("1 MiB", 1 << 20),
            ("0", 0),
            ("7B", 7),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in ["", "MiB", "-1", "1.5MiB", "64Q", "1e3"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert!(matches!(parse_size("99999999TiB"), Err(SizeError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes in any::<u64>()) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in ".{0,24}") {
            drop(parse_size(&text));
        }
    }
}
