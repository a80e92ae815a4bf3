//! A batch: `{"keys":["a","b"],"min":1,"max":2}`.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::ArgumentError;
use super::json::{Fields, Integer, Text, read};

/// What a batch asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// UTF-8, each as often as it was given.
    pub keys: Vec<Vec<u8>>,
    /// As in a lookup.
    pub min: i64,
    /// As in a lookup.
    pub max: i64,
}

/// Why a batch cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Not what a batch looks like.
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
    /// More keys than one batch may have.
    #[error("keys are more than {0}, the limit of one batch (max-batch): send them in several")]
    TooMany(usize),
}

/// Reads the body of a batch. `min` and `max` are 1 where they are not given.
///
/// # Errors
/// Names the field that is wrong; too many keys are noticed before all are read.
pub fn parse(body: &[u8], max_keys: usize) -> Result<Batch, BatchError> {
    let mut asked = Asked { keys: None, min: None, max: None, max_keys, too_many: false };
    let read = read(body, &mut asked);
    if asked.too_many {
        return Err(BatchError::TooMany(max_keys));
    }
    read?;
    let keys = asked.keys.ok_or_else(|| ArgumentError::new("keys is missing: give a list of texts"))?;
    let min = asked.min.unwrap_or(1);
    Ok(Batch { keys, min, max: asked.max.unwrap_or(min.max(1)) })
}

struct Asked {
    keys: Option<Vec<Vec<u8>>>,
    min: Option<i64>,
    max: Option<i64>,
    max_keys: usize,
    too_many: bool,
}

impl Fields for Asked {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "keys" => self.keys = map.next_value_seed(Keys(self))?,
            "min" => self.min = map.next_value_seed(Integer("min"))?,
            "max" => self.max = map.next_value_seed(Integer("max"))?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

struct Keys<'a>(&'a mut Asked);

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = Option<Vec<Vec<u8>>>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = Option<Vec<Vec<u8>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts for keys")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut keys = Vec::new();
        while let Some(key) = list.next_element_seed(Text("keys"))? {
            if keys.len() == self.0.max_keys {
                self.0.too_many = true;
                return Err(serde::de::Error::custom("too many keys"));
            }
            let missing = || serde::de::Error::custom("null is no key: keys are texts");
            keys.push(key.ok_or_else(missing)?);
        }
        Ok(Some(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(keys: &[&str]) -> Vec<Vec<u8>> {
        keys.iter().map(|key| key.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_batch_has_keys_and_may_have_bounds() {
        let batch = |body: &str| parse(body.as_bytes(), 3).expect(body);
        let given = batch(r#"{"keys":["a","b","a"],"min":2,"max":3}"#);
        assert_eq!(given, Batch { keys: texts(&["a", "b", "a"]), min: 2, max: 3 });
        assert_eq!(batch(r#"{"Keys":["a"]}"#), Batch { keys: texts(&["a"]), min: 1, max: 1 });
        assert_eq!(batch(r#"{"keys":[],"min":2}"#), Batch { keys: vec![], min: 2, max: 2 });
        assert_eq!(batch(r#"{"keys":[],"min":0}"#), Batch { keys: vec![], min: 0, max: 1 });
    }

    #[test]
    fn what_is_wrong_names_the_field() {
        assert_eq!(parse(br#"{"keys":["a","b","c","d"],"#, 3), Err(BatchError::TooMany(3)));
        for body in
            [r#"{}"#, "null", r#"{"keys":null}"#, r#"{"keys":"a"}"#, r#"{"keys":[1]}"#, r#"{"keys":[null]}"#]
        {
            let error = parse(body.as_bytes(), 3).expect_err(body).to_string();
            assert!(error.contains("keys"), "{body}: {error}");
        }
        assert!(parse(br#"{"keys":["a"],"min":"1"}"#, 3).expect_err("a text").to_string().contains("min"));
        assert!(parse(b"", 3).is_err());
    }
}
