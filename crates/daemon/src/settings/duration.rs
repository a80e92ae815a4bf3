//! Time spans as text: `500ms`, `10s`, `1m30s`, `1.5h`.
use std::time::Duration;

use super::setting::BareUnit;

/// Why a text is no time span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing there.
    #[error("is empty; write a time such as 500ms, 10s or 1m30s")]
    Empty,
    /// A number that does not say of what.
    #[error("'{0}' has no unit; write {0}s, {0}ms, {0}m or {0}h")]
    NoUnit(String),
    /// Something else.
    #[error("'{0}' is not a time; write one such as 500ms, 10s or 1m30s")]
    Malformed(String),
    /// More than can be counted.
    #[error("'{0}' is too long a time")]
    TooLong(String),
}

/// Nanoseconds of each unit. `ms` stands before `m`, since the first that fits is taken.
const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Reads a time span. A plain number is refused (but for 0) unless `bare` says what it counts.
pub fn parse_duration(text: &str, bare: Option<BareUnit>) -> Result<Duration, DurationError> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(DurationError::Empty);
    }
    if trimmed.bytes().all(|byte| byte.is_ascii_digit()) {
        return parse_bare(trimmed, bare);
    }
    let malformed = || DurationError::Malformed(trimmed.to_owned());
    let too_long = || DurationError::TooLong(trimmed.to_owned());
    let mut nanos: u128 = 0;
    let mut rest = trimmed;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(malformed)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
        let part = scaled(number, *scale).ok_or_else(malformed)?;
        nanos = nanos.checked_add(part).ok_or_else(too_long)?;
        rest = after;
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| too_long())?;
    Ok(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

fn parse_bare(digits: &str, bare: Option<BareUnit>) -> Result<Duration, DurationError> {
    let number: u64 = digits.parse().map_err(|_| DurationError::TooLong(digits.to_owned()))?;
    match bare {
        _ if number == 0 => Ok(Duration::ZERO),
        Some(BareUnit::Milliseconds) => Ok(Duration::from_millis(number)),
        Some(BareUnit::Seconds) => Ok(Duration::from_secs(number)),
        Some(BareUnit::Minutes) => number
            .checked_mul(60)
            .map(Duration::from_secs)
            .ok_or_else(|| DurationError::TooLong(digits.to_owned())),
        None => Err(DurationError::NoUnit(digits.to_owned())),
    }
}

/// `number` (with at most nine decimals) times `scale`, in whole nanoseconds.
fn scaled(number: &str, scale: u64) -> Option<u128> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && decimals.is_empty()) || decimals.len() > 9 || decimals.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: u128 = if decimals.is_empty() { 0 } else { decimals.parse().ok()? };
    let divisor = 10u128.pow(decimals.len() as u32);
    Some(u128::from(whole) * u128::from(scale) + fraction * u128::from(scale) / divisor)
}

/// The shortest form that [`parse_duration`] reads back as the same time span.
pub fn format_duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for (name, scale) in UNITS.iter().rev() {
        let scale = u128::from(*scale);
        // A day is rarely what somebody wrote: 36h stays 36h.
        if *name == "d" && !rest.is_multiple_of(scale) {
            continue;
        }
        if rest >= scale {
            text.push_str(&format!("{}{name}", rest / scale));
            rest %= scale;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_single_units_and_sums() {
        let cases = [
            ("10s", 10_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            (" 0s ", 0),
            ("0", 0),
            ("1d", 86_400_000),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text, None), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn a_plain_number_needs_a_unit_from_somewhere() {
        assert_eq!(parse_duration("10", None), Err(DurationError::NoUnit("10".into())));
        assert_eq!(parse_duration("10", Some(BareUnit::Seconds)), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("30", Some(BareUnit::Minutes)), Ok(Duration::from_secs(1800)));
        assert_eq!(parse_duration("10s", Some(BareUnit::Minutes)), Ok(Duration::from_secs(10)));
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in ["", "s", "-1s", "1x", "1s2", "1..5s", ".s", "10 s", "ten", "1S"] {
            assert!(parse_duration(text, None).is_err(), "{text}");
        }
        assert!(matches!(parse_duration("99999999999999999999", None), Err(DurationError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in 0u64..u64::from(u32::MAX), nanos in 0u32..1_000_000_000) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration), None), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".{0,24}") {
            drop(parse_duration(&text, Some(BareUnit::Minutes)));
        }
    }
}
