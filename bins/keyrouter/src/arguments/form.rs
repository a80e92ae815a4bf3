//! Fields of a query or an urlencoded body.

use std::borrow::Cow;

use super::{ArgumentError, Arguments};

/// The first value of each field.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    key: Option<Cow<'a, [u8]>>,
    min: Option<Cow<'a, [u8]>>,
    max: Option<Cow<'a, [u8]>>,
}

impl<'a> Fields<'a> {
    /// Takes the pairs of an urlencoded text. As in the original, a pair that holds a semicolon or a
    /// `%` without two hexadecimal digits behind it is no pair.
    pub(super) fn take(&mut self, text: &'a [u8]) {
        for pair in text.split(|&byte| byte == b'&') {
            let split = memchr::memchr(b'=', pair);
            let (name, value) = split.map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
            // Both have to be good, or neither counts.
            if memchr::memchr(b';', pair).is_some() {
                continue;
            }
            let (Some(name), Some(value)) = (decode(name), decode(value)) else { continue };
            self.offer(&name, value);
        }
    }

    /// Takes a value where the field has none yet.
    pub(super) fn offer(&mut self, name: &[u8], value: Cow<'a, [u8]>) {
        let field = match name {
            b"key" => &mut self.key,
            b"min" => &mut self.min,
            b"max" => &mut self.max,
            _ => return,
        };
        field.get_or_insert(value);
    }

    pub(super) fn finish(self) -> Result<Arguments<'a>, ArgumentError> {
        let min = integer("min", self.min.as_deref())?;
        let max = integer("max", self.max.as_deref())?;
        Ok(Arguments { key: self.key.unwrap_or_default(), min, max })
    }
}

/// `+` is a space, `%XX` a byte; `None` where a `%` stands for nothing.
fn decode(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if memchr::memchr2(b'%', b'+', text).is_none() {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    Some(Cow::Owned(decoded))
}

/// A decimal number with an optional sign.
fn integer(field: &str, text: Option<&[u8]>) -> Result<i64, ArgumentError> {
    let Some(text) = text else {
        return Err(ArgumentError::new(format!("{field} is missing: give a whole number")));
    };
    let shown = || {
        let text = String::from_utf8_lossy(text);
        text.chars().take(40).collect::<String>()
    };
    let digits = text.strip_prefix(b"+").or(text.strip_prefix(b"-")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ArgumentError::new(format!("{field} is no whole number: {:?}", shown())));
    }
    // Only digits and a sign: what does not fit is too large.
    str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| ArgumentError::new(format!("{field} is out of range: {:?}", shown())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(Vec<u8>, i64, i64), String> {
        let mut fields = Fields::default();
        fields.take(text.as_bytes());
        fields.finish().map(|found| (found.key.into_owned(), found.min, found.max)).map_err(|e| e.to_string())
    }

    #[test]
    fn pairs_are_decoded_and_the_first_of_a_name_counts() {
        let key = |text: &str| parse(&format!("{text}&min=1&max=3")).map(|found| found.0);
        for (text, wanted) in [
            ("key=ryans", &b"ryans"[..]),
            ("key=a&key=b", b"a"),
            ("key=a+b", b"a b"),
            ("key=a%20b", b"a b"),
            ("key=%FF%00", b"\xff\0"),
            ("key=%C3%a9", "é".as_bytes()),
            ("key=a=b", b"a=b"),
            ("key=", b""),
            ("key", b""),
            ("", b""),
            ("&&", b""),
            ("key=%zz", b""),
            ("key=%4", b""),
            ("key=a;b", b""),
            ("key=a;b&key=c", b"c"),
            ("k%65y=x", b"x"),
            ("KEY=x", b""),
        ] {
            assert_eq!(key(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn numbers_are_decimal_and_errors_name_the_field() {
        let min = |text: &str| parse(&format!("min={text}&max=3")).map(|found| found.1);
        for (text, wanted) in
            [("1", 1), ("%2B1", 1), ("01", 1), ("-5", -5), ("9223372036854775807", i64::MAX)]
        {
            assert_eq!(min(text), Ok(wanted), "{text}");
        }
        for text in ["", "one", "3.0", "%201", "0x1", "1_0", "%2B", "--1", "+1", "%FF", "9223372036854775808"]
        {
            assert!(min(text).is_err_and(|error| error.starts_with("min ")), "{text}");
        }
        assert_eq!(parse("min=1"), Err("max is missing: give a whole number".into()));
        assert_eq!(parse("max=1;min=1&min=2"), Err("max is missing: give a whole number".into()));
        assert!(parse(&format!("min={}&max=1", "x".repeat(100_000))).is_err_and(|error| error.len() < 100));
    }
}
