//! A JSON body, read as the original's decoder read it: names in any case, the last of a name
//! counts, `null` is nothing, unknown names do not matter, whole numbers are written as such.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{ArgumentError, Arguments};

/// What a lookup's body asks for.
pub(super) fn parse(body: &[u8]) -> Result<Arguments<'static>, ArgumentError> {
    let mut fields = Asked::default();
    read(body, &mut fields)?;
    Ok(Arguments { key: Cow::Owned(fields.key), min: fields.min, max: fields.max })
}

#[derive(Default)]
struct Asked {
    key: Vec<u8>,
    min: i64,
    max: i64,
}

impl Fields for Asked {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "key" => {
                self.key = match map.next_value_seed(Text("key"))? {
                    Some(key) => key,
                    None => std::mem::take(&mut self.key),
                }
            }
            "min" => self.min = map.next_value_seed(Integer("min"))?.unwrap_or(self.min),
            "max" => self.max = map.next_value_seed(Integer("max"))?.unwrap_or(self.max),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Where the members of an object go.
pub(super) trait Fields {
    /// Takes the value of a member with this name, in lower case; false, and nothing is read, when it is
    /// not known.
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// Reads one object, or `null` for one without members, and nothing behind it.
pub(super) fn read(body: &[u8], fields: &mut impl Fields) -> Result<(), ArgumentError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ArgumentError::new("the body is empty: send a JSON object with key, min and max"));
    }
    let body = replace_invalid(body);
    let mut reader = serde_json::Deserializer::from_slice(&body);
    let read = Object(fields).deserialize(&mut reader).and_then(|()| reader.end());
    read.map_err(|error| ArgumentError::new(format!("the JSON body is not right: {error}")))
}

/// Each byte that belongs to no character becomes U+FFFD.
fn replace_invalid(body: &[u8]) -> Cow<'_, [u8]> {
    if str::from_utf8(body).is_ok() {
        return Cow::Borrowed(body);
    }
    let mut replaced = Vec::with_capacity(body.len() + 64);
    for chunk in body.utf8_chunks() {
        replaced.extend_from_slice(chunk.valid().as_bytes());
        chunk.invalid().iter().for_each(|_| replaced.extend_from_slice("\u{fffd}".as_bytes()));
    }
    Cow::Owned(replaced)
}

struct Object<'a, F>(&'a mut F);

impl<'de, F: Fields> DeserializeSeed<'de> for Object<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de, F: Fields> Visitor<'de> for Object<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if !self.0.take(&name.to_ascii_lowercase(), &mut map)? {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// A text as bytes, or nothing for `null`. Halves of surrogate pairs become U+FFFD.
pub(super) struct Text(pub(super) &'static str);

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Option<Vec<u8>>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Option<Vec<u8>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text for {}", self.0)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        // As bytes, because a text with half of a pair is no text of Rust's.
        reader.deserialize_bytes(self)
    }

    fn visit_bytes<E>(self, text: &[u8]) -> Result<Self::Value, E> {
        Ok(Some(replace_surrogates(text)))
    }
}

/// In what the decoder gives, only halves of surrogate pairs are not UTF-8: three bytes from ED A0 80.
fn replace_surrogates(text: &[u8]) -> Vec<u8> {
    if str::from_utf8(text).is_ok() {
        return text.to_vec();
    }
    let mut replaced = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        replaced.extend_from_slice(chunk.valid().as_bytes());
        if chunk.invalid().first() == Some(&0xED) {
            replaced.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    replaced
}

/// A whole number, or nothing for `null`.
pub(super) struct Integer(pub(super) &'static str);

impl<'de> DeserializeSeed<'de> for Integer {
    type Value = Option<i64>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl Visitor<'_> for Integer {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number of 64 bits for {}", self.0)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
        let wrong = |_| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self);
        i64::try_from(number).map(Some).map_err(wrong)
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Self::Value, E> {
        // The only whole number that the decoder has no other form for.
        if number == 0.0 && number.is_sign_negative() {
            return Ok(Some(0));
        }
        Err(E::invalid_type(serde::de::Unexpected::Float(number), &self))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: impl AsRef<[u8]>) -> Result<(Vec<u8>, i64, i64), String> {
        let found = parse(body.as_ref()).map_err(|error| error.to_string())?;
        Ok((found.key.into_owned(), found.min, found.max))
    }

    #[test]
    fn members_are_read_as_the_original_read_them() {
        for (body, key, min, max) in [
            (r#"{"key":"ryans","min":1,"max":3}"#, "ryans", 1, 3),
            (r#"{"KEY":"ryans","Min":1,"mAx":3}"#, "ryans", 1, 3),
            (r#"{"key":"a","key":"b","max":3,"zzz":[{}]}"#, "b", 0, 3),
            (r#"{"key":null,"min":null,"max":-3}"#, "", 0, -3),
            (r#"{"key":"a","key":null,"min":-0,"max":2,"max":null}"#, "a", 0, 2),
            (r#"{"key":"\ud800","max":1}"#, "\u{fffd}", 0, 1),
            (r#"{"key":"a\udc00\ud83d\ude00b","max":1}"#, "a\u{fffd}😀b", 0, 1),
            (r#" {"key":"\u00e9\n"} "#, "é\n", 0, 0),
            ("{}", "", 0, 0),
            ("null", "", 0, 0),
        ] {
            assert_eq!(asked(body), Ok((key.as_bytes().to_vec(), min, max)), "{body}");
        }
        let invalid = asked(b"{\"key\":\"\xff\xe2\x82x\",\"max\":1}");
        assert_eq!(invalid, Ok(("\u{fffd}\u{fffd}\u{fffd}x".into(), 0, 1)));
    }

    #[test]
    fn what_is_wrong_names_the_field() {
        for (body, named) in [
            (r#"{"min":"1"}"#, "min"),
            (r#"{"min":1.0}"#, "min"),
            (r#"{"max":1e0}"#, "max"),
            (r#"{"max":99999999999999999999}"#, "max"),
            (r#"{"max":9223372036854775808}"#, "max"),
            (r#"{"key":7}"#, "key"),
            (r#"{"key":["a"]}"#, "key"),
            ("[]", "an object"),
            ("hello", "JSON"),
            ("{\"key\":", "JSON"),
            ("{} trailing", "trailing"),
            ("{}{}", "trailing"),
            ("", "empty"),
            (" ", "empty"),
        ] {
            let error = asked(body).expect_err(body);
            assert!(error.contains(named), "{body}: {error}");
        }
        let deep = "[".repeat(500_000);
        assert!(asked(format!("{{\"x\":{deep}")).is_err());
    }
}
