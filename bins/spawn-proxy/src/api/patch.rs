//! What a client wants of nodes, out of JSON: every key may be left out, and unknown ones are passed over.

use common::node::NodeId;
use serde_json::{Map, Value};

use super::fault::Fault;

/// What is to change in one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Patch {
    /// Another host.
    pub(super) host: Option<String>,
    /// Another port; 0 was written but is none.
    pub(super) port: Option<u16>,
    /// Another priority.
    pub(super) priority: Option<i64>,
    /// Takes part or does not.
    pub(super) active: Option<bool>,
    /// Rests or does not.
    pub(super) maintenance: Option<bool>,
}

/// The change of one node, out of a request's body; `null` changes nothing.
///
/// # Errors
/// When the body is no JSON object, or a key has a value that cannot be its own.
pub(super) fn one(body: &[u8]) -> Result<Patch, Fault> {
    match json(body)? {
        Value::Null => Ok(Patch::default()),
        Value::Object(map) => patch(&map, ""),
        other => Err(Fault::body(format!("The body is {}: send a JSON object", kind(&other)))),
    }
}

/// The changes of several nodes, each with the node that it is for.
///
/// # Errors
/// As [`one`], and when an item does not say which node it is for.
pub(super) fn many(body: &[u8]) -> Result<Vec<(NodeId, Patch)>, Fault> {
    let items = match json(body)? {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        other => {
            return Err(Fault::body(format!("The body is {}: send a JSON array of objects", kind(&other))));
        }
    };
    items.iter().enumerate().map(|(place, item)| identified(item, place)).collect()
}

fn identified(item: &Value, place: usize) -> Result<(NodeId, Patch), Fault> {
    let Value::Object(map) = item else {
        return Err(Fault::body(format!("Item {place} is {}: use a JSON object", kind(item))));
    };
    let patch = patch(map, &format!("item {place}: "))?;
    let (host, port) = (patch.host.clone().unwrap_or_default(), patch.port.unwrap_or_default());
    if host.is_empty() || port == 0 {
        return Err(Fault::empty("host/port"));
    }
    Ok((NodeId::new(&host, port).map_err(Fault::node)?, patch))
}

fn json(body: &[u8]) -> Result<Value, Fault> {
    if body.trim_ascii().is_empty() {
        return Err(Fault::body("The body is empty: send JSON"));
    }
    serde_json::from_slice(body).map_err(|error| Fault::body(format!("The body is no JSON: {error}")))
}

fn patch(map: &Map<String, Value>, place: &str) -> Result<Patch, Fault> {
    let wrong =
        |key: &str, value: &Value, want: &str| Fault::body(format!("{place}'{key}' is {value}: use {want}"));
    let mut patch = Patch::default();
    for (key, value) in map {
        // `null` leaves a key as it is; keys were never told apart by case.
        let key = key.to_ascii_lowercase();
        match (key.as_str(), value) {
            (_, Value::Null) => {}
            ("host", Value::String(host)) => patch.host = Some(host.clone()),
            ("host", _) => return Err(wrong("host", value, "a text")),
            ("port", _) => {
                let port = value.as_u64().and_then(|port| u16::try_from(port).ok());
                patch.port = Some(port.ok_or_else(|| wrong("port", value, "a number from 1 to 65535"))?);
            }
            ("priority", _) => {
                patch.priority =
                    Some(value.as_i64().ok_or_else(|| wrong("priority", value, "a whole number"))?);
            }
            ("active", Value::Bool(active)) => patch.active = Some(*active),
            ("maintenance", Value::Bool(maintenance)) => patch.maintenance = Some(*maintenance),
            ("active" | "maintenance", _) => return Err(wrong(&key, value, "true or false")),
            _ => {}
        }
    }
    Ok(patch)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(fault: Fault) -> (u16, String, String) {
        let data = fault.data();
        (
            fault.status().as_u16(),
            data["message"].as_str().unwrap().into(),
            data["info"].as_str().unwrap().into(),
        )
    }

    #[test]
    fn only_what_is_named_changes() {
        assert_eq!(one(b"null").unwrap(), Patch::default());
        assert_eq!(one(b"{}").unwrap(), Patch::default());
        assert_eq!(one(br#" {"color":"red","priority":null} "#).unwrap(), Patch::default());
        let patch = one(br#"{"priority":-3,"Active":true,"maintenance":false,"host":"h","port":0}"#).unwrap();
        let want = Patch {
            host: Some("h".into()),
            port: Some(0),
            priority: Some(-3),
            active: Some(true),
            maintenance: Some(false),
        };
        assert_eq!(patch, want);
        assert!(many(b"null").unwrap().is_empty() && many(b"[]").unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_understood_is_named_without_the_names_of_types() {
        let bodies: [&[u8]; 12] = [
            b"",
            b"  ",
            b"{",
            b"[]",
            b"7",
            b"{} x",
            br#"{"port":-1}"#,
            br#"{"port":65536}"#,
            br#"{"port":"80"}"#,
            br#"{"priority":1.5}"#,
            br#"{"active":"yes"}"#,
            b"\xff\xfe",
        ];
        for body in bodies {
            let (status, message, info) = told(one(body).unwrap_err());
            assert_eq!((status, message.as_str()), (400, "Could not recognize parameters"), "{body:?}");
            assert!(!info.is_empty() && !info.contains("u64") && !info.contains("Go "), "{info}");
        }
        let (_, _, info) = told(one(br#"{"port":65536}"#).unwrap_err());
        assert_eq!(info, "'port' is 65536: use a number from 1 to 65535");
    }

    #[test]
    fn items_of_an_array_say_which_node_they_are_for() {
        let items = many(br#"[{"host":"::1","port":80},{"host":"h","port":81,"priority":2}]"#).unwrap();
        assert_eq!(items.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["[::1]:80", "h:81"]);
        let without: [&[u8]; 4] = [
            br#"[{"port":80}]"#,
            br#"[{"host":"h"}]"#,
            br#"[{"host":"","port":80}]"#,
            br#"[{"host":"h","port":0}]"#,
        ];
        for body in without {
            let (status, message, _) = told(many(body).unwrap_err());
            assert_eq!((status, message.as_str()), (400, "The parameter 'host/port' could not be empty"));
        }
        let (_, message, info) = told(many(br#"[{"host":"ho st","port":80}]"#).unwrap_err());
        assert_eq!(
            (message.as_str(), info.as_str()),
            ("Could not recognize ho st parameter", "ho st parameter is not alpha-numeric")
        );
        let wrong: [&[u8]; 4] = [b"{}", b"[1]", b"[null]", br#"[{"host":"h","port":70000}]"#];
        for body in wrong {
            assert_eq!(told(many(body).unwrap_err()).1, "Could not recognize parameters");
        }
    }

    proptest! {
        #[test]
        fn no_body_is_too_strange(body in "[\\[\\]{}:,\"a-z0-9. -]{0,60}") {
            let _ = one(body.as_bytes());
            let _ = many(body.as_bytes());
        }
    }
}
