//! The values. Pure: the same updates in the same order make the same state and the same answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

/// Keys and values, sorted by key.
#[derive(Debug, Default)]
pub(crate) struct Store(BTreeMap<String, Bytes>);

impl Store {
    /// Sets a value; true when the key is new.
    pub(crate) fn put(&mut self, key: String, value: Bytes) -> bool {
        self.0.insert(key, value).is_none()
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<Bytes> {
        self.0.get(key).cloned()
    }

    /// Removes a key; false when there was none.
    pub(crate) fn delete(&mut self, key: &str) -> bool {
        self.0.remove(key).is_some()
    }

    /// The number of keys.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Everything, sorted. A value that is no text is `{"hex": "..."}`, so that equal dumps mean equal states.
    pub(crate) fn dump(&self) -> Value {
        let shown = |(key, value): (&String, &Bytes)| (key.clone(), show(value));
        Value::Object(self.0.iter().map(shown).collect())
    }
}

fn show(value: &[u8]) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => text.into(),
        Err(_) => {
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            serde_json::json!({ "hex": hex })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_answer_whether_they_changed_anything() {
        let mut store = Store::default();
        assert!(store.put("b".to_owned(), "1".into()));
        assert!(!store.put("b".to_owned(), "2".into()));
        assert!(store.put("a".to_owned(), Bytes::from_static(&[0xff])));
        assert_eq!(store.dump().to_string(), r#"{"a":{"hex":"ff"},"b":"2"}"#);
        assert_eq!((store.delete("a"), store.delete("a"), store.len()), (true, false, 1));
    }
}
