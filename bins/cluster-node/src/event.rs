//! Events as others see them: the kind, and data as JSON. Pure.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cluster::Event;
use jiff::{Timestamp, Unit};
use serde_json::{Map, Value, json};

/// The name of an event's kind.
pub fn kind(event: &Event) -> &'static str {
    match event {
        Event::Message(_) => "message",
        Event::Join(_) => "join",
        Event::Leave(_) => "leave",
        Event::Quorum(_) => "quorum",
        Event::Undelivered(_) => "undelivered",
        Event::Api(_) => "api",
        Event::Log(_) => "log",
        Event::Gap(_) => "gap",
    }
}

/// The node that it is about, where there is one.
pub fn node(event: &Event) -> &str {
    match event {
        Event::Message(message) => &message.node,
        Event::Join(node) | Event::Leave(node) => node,
        Event::Undelivered(lost) => &lost.node,
        Event::Api(call) => &call.from,
        Event::Quorum(_) | Event::Log(_) | Event::Gap(_) => "",
    }
}

/// Its data.
pub fn data(event: &Event, at: SystemTime) -> Value {
    let mut data = match event {
        Event::Message(message) => {
            let mut data = json!({
                "node": &*message.node,
                "sequence": message.sequence,
                "content_type": message.content_type.as_deref(),
            });
            put_bytes(&mut data, "payload", &message.payload);
            if message.missed > 0 {
                data["missed"] = message.missed.into();
            }
            data
        }
        Event::Join(node) | Event::Leave(node) => json!({ "node": &**node }),
        Event::Quorum(quorum) => json!({ "quorum": quorum }),
        Event::Undelivered(lost) => {
            json!({ "node": &*lost.node, "from": lost.from, "to": lost.to, "count": lost.count })
        }
        Event::Api(call) => {
            let mut data = json!({ "from": &*call.from, "action": &*call.action });
            put_bytes(&mut data, "data", &call.data);
            data
        }
        Event::Log(line) => json!({ "level": line.level.as_str(), "message": line.message }),
        Event::Gap(count) => json!({ "count": count }),
    };
    data["time"] = time(at).into();
    data
}

/// As text where it is text, else as base64 under a name that says so.
fn put_bytes(data: &mut Value, name: &str, bytes: &[u8]) {
    let Value::Object(fields) = data else { return };
    match std::str::from_utf8(bytes) {
        Ok(text) => fields.insert(name.to_owned(), text.into()),
        Err(_) => fields.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

/// RFC 3339 in UTC, to the millisecond.
pub fn time(at: SystemTime) -> String {
    let time = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
    time.round(Unit::Millisecond).unwrap_or(time).to_string()
}

/// What it takes of the ring's memory, about.
pub fn cost(event: &Event) -> usize {
    const OVERHEAD: usize = 128;
    OVERHEAD
        + match event {
            Event::Message(message) => message.payload.len(),
            Event::Api(call) => call.data.len(),
            Event::Log(line) => line.message.len(),
            _ => 0,
        }
}

/// An object of JSON out of a body.
///
/// # Errors
/// A sentence.
pub fn object(body: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("the body is not a JSON object".to_owned()),
        Err(error) => Err(format!("the body is not JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use cluster::{ApiCall, Message, Undelivered};

    use super::*;

    fn message(payload: &'static [u8], missed: u64) -> Event {
        Event::Message(Message {
            node: "n2".into(),
            sequence: 7,
            missed,
            direct: false,
            content_type: Some("text/plain".into()),
            payload: payload.into(),
        })
    }

    fn shown(event: &Event) -> Value {
        data(event, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn data_has_the_documented_shapes() {
        let time = "1970-01-01T00:00:00Z";
        assert_eq!(
            shown(&message(b"hi", 0)),
            json!({"node":"n2","sequence":7,"content_type":"text/plain","payload":"hi","time":time})
        );
        assert_eq!(
            shown(&message(b"\xff", 3)),
            json!({"node":"n2","sequence":7,"content_type":"text/plain","payload_base64":"/w==","missed":3,"time":time})
        );
        assert_eq!(shown(&Event::Quorum(false)), json!({"quorum":false,"time":time}));
        let lost = Undelivered { node: "n3".into(), from: 1, to: 9, count: 4 };
        assert_eq!(
            shown(&Event::Undelivered(lost)),
            json!({"node":"n3","from":1,"to":9,"count":4,"time":time})
        );
        let call = ApiCall { from: "n2".into(), action: "flush".into(), data: "x".into() };
        assert_eq!(shown(&Event::Api(call)), json!({"from":"n2","action":"flush","data":"x","time":time}));
    }
}
