//! The messages between a node and its applications: the first frame says which kind. Pure.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use cluster::{Event, Names, Payload, Target};
use serde_json::{Value, json};
use zmq_link::Multipart;

use crate::event;

/// The version of what is written here.
pub const VERSION: u32 = 1;

/// What an application says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// It wants events, and can take so many.
    Hello(u64),
    /// It can take so many more.
    Credit(u64),
    /// A message to be sent.
    Send(Target, Payload),
}

/// Reads what came.
///
/// # Errors
/// A sentence for the application.
pub fn read(message: &Multipart) -> Result<Said, String> {
    let frames: Vec<&Bytes> = message.iter().collect();
    match frames.as_slice() {
        [kind] if ***kind == *b"hello" => Ok(Said::Hello(0)),
        [kind, credit] if ***kind == *b"hello" => Ok(Said::Hello(number(credit)?)),
        [kind, credit] if ***kind == *b"credit" => Ok(Said::Credit(number(credit)?)),
        [kind, target, payload] if ***kind == *b"send" => {
            Ok(Said::Send(to(target)?, Payload::from(Bytes::clone(payload))))
        }
        [kind, target, payload, content_type] if ***kind == *b"send" => {
            let content_type = text(content_type)?;
            let payload = Payload::from(Bytes::clone(payload));
            let payload = if content_type.is_empty() { payload } else { payload.of_type(content_type) };
            Ok(Said::Send(to(target)?, payload))
        }
        [kind, rest @ ..] => Err(format!(
            "'{}' with {} more frames is not understood: there are hello [CREDIT], credit N, send TARGET PAYLOAD [CONTENT-TYPE]",
            String::from_utf8_lossy(&kind[..kind.len().min(32)]),
            rest.len()
        )),
        [] => Err("a message of no frames is not understood".to_owned()),
    }
}

fn text(frame: &Bytes) -> Result<&str, String> {
    std::str::from_utf8(frame).map_err(|_| "a frame that has to be text is not UTF-8".to_owned())
}

fn number(frame: &Bytes) -> Result<u64, String> {
    let text = text(frame)?;
    text.parse().map_err(|_| format!("'{text}' is no number: credit is written in decimal digits"))
}

fn to(frame: &Bytes) -> Result<Target, String> {
    let name = text(frame)?;
    Ok(if name == "*" { Target::Cluster } else { Target::Node(name.into()) })
}

/// How an application is greeted.
#[derive(Debug)]
pub struct Welcome<'a> {
    /// This node.
    pub node: &'a str,
    /// Its members.
    pub members: Vec<Arc<str>>,
    /// Whether there is a quorum.
    pub quorum: bool,
    /// Messages that may be unanswered.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Welcome<'_> {
    /// As it is sent.
    pub fn frames(&self) -> Multipart {
        let members: Vec<&str> = self.members.iter().map(|name| &**name).collect();
        let data = json!({
            "version": VERSION,
            "node": self.node,
            "members": members,
            "quorum": self.quorum,
            "messages": self.messages,
            "bytes": self.bytes,
        });
        pair("welcome", data.to_string())
    }
}

/// An event: kind, node, sequence, payload, and a message's content type where it has one.
pub fn of_event(event: &Event, at: SystemTime) -> Multipart {
    let mut frames = Multipart::single(event::kind(event));
    if let Event::Message(message) = event {
        frames.push(name(&message.node));
        frames.push(Bytes::from(message.sequence.to_string()));
        frames.push(message.payload.clone());
        if let Some(content_type) = &message.content_type {
            frames.push(name(content_type));
        }
        return frames;
    }
    frames.push(Bytes::copy_from_slice(event::node(event).as_bytes()));
    frames.push(Bytes::new());
    frames.push(event::data(event, at).to_string());
    frames
}

/// Messages that a node sent and that were lost before this one.
pub fn missed(node: &str, count: u64, at: SystemTime) -> Multipart {
    let mut frames = Multipart::single("gap");
    frames.push(Bytes::copy_from_slice(node.as_bytes()));
    frames.push(Bytes::new());
    frames.push(json!({ "count": count, "node": node, "time": event::time(at) }).to_string());
    frames
}

fn name(text: &Arc<str>) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// What became of messages, in the order in which they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// So many in a row, numbered in a row.
    Sent {
        /// How many.
        count: u64,
        /// The number of the first.
        sequence: u64,
        /// Who gets them.
        accepted: Names,
        /// Who does not.
        undelivered: Names,
    },
    /// So many in a row were not taken.
    Refused {
        /// How many.
        count: u64,
        /// Why.
        error: String,
    },
}

impl Outcome {
    /// Takes in the outcome that follows, where it is of the same kind.
    pub fn join(&mut self, next: &Self) -> bool {
        match (self, next) {
            (
                Self::Sent { count, sequence, accepted, undelivered },
                Self::Sent { count: more, sequence: from, accepted: also, undelivered: nor },
            ) if *from == *sequence + *count && same(accepted, also) && same(undelivered, nor) => {
                *count += more;
                true
            }
            (Self::Refused { count, error }, Self::Refused { count: more, error: why }) if error == why => {
                *count += more;
                true
            }
            _ => false,
        }
    }

    fn json(&self) -> Value {
        let names = |names: &Names| names.iter().map(|name| Value::from(&**name)).collect::<Vec<_>>();
        match self {
            Self::Sent { count, sequence, accepted, undelivered } => json!({
                "count": count,
                "sequence": sequence,
                "accepted": names(accepted),
                "undelivered": names(undelivered),
            }),
            Self::Refused { count, error } => json!({ "count": count, "error": error }),
        }
    }
}

fn same(one: &Names, other: &Names) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

/// The answer to messages.
pub fn sent(outcomes: &[Outcome]) -> Multipart {
    pair("sent", Value::from(outcomes.iter().map(Outcome::json).collect::<Vec<_>>()).to_string())
}

/// A sign of life.
pub fn ping() -> Multipart {
    Multipart::single("ping")
}

/// What was not understood, or cannot be.
pub fn error(sentence: &str) -> Multipart {
    pair("error", sentence.to_owned())
}

fn pair(kind: &'static str, rest: String) -> Multipart {
    let mut frames = Multipart::single(kind);
    frames.push(rest);
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(frames: &[&'static [u8]]) -> Multipart {
        frames.iter().copied().collect()
    }

    #[test]
    fn what_applications_say_is_read() {
        assert_eq!(read(&message(&[b"hello"])), Ok(Said::Hello(0)));
        assert_eq!(read(&message(&[b"hello", b"500"])), Ok(Said::Hello(500)));
        assert_eq!(read(&message(&[b"credit", b"7"])), Ok(Said::Credit(7)));
        let all = Said::Send(Target::Cluster, "x".into());
        assert_eq!(read(&message(&[b"send", b"*", b"x"])), Ok(all));
        let one = Said::Send(Target::Node("n2".into()), Payload::from("x").of_type("text/plain"));
        assert_eq!(read(&message(&[b"send", b"n2", b"x", b"text/plain"])), Ok(one));
    }

    #[test]
    fn what_is_not_understood_is_told() {
        for bad in [
            &[b"hello".as_slice(), b"many"] as &[&'static [u8]],
            &[b"credit"],
            &[b"credit", b"-1"],
            &[b"send", b"*"],
            &[b"send", b"\xff", b"x"],
            &[b""],
        ] {
            assert!(read(&message(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn outcomes_in_a_row_are_one() {
        let all: Names = ["n2".into(), "n3".into()].into();
        let none: Names = [].into();
        let sent = |sequence, accepted: &Names, undelivered: &Names| Outcome::Sent {
            count: 1,
            sequence,
            accepted: accepted.clone(),
            undelivered: undelivered.clone(),
        };
        let mut first = sent(7, &all, &none);
        assert!(first.join(&sent(8, &["n2".into(), "n3".into()].into(), &none)));
        assert!(!first.join(&sent(10, &all, &none)), "not in a row");
        assert!(!first.join(&sent(9, &none, &all)), "not of the same");
        assert_eq!(first.json(), json!({"count":2,"sequence":7,"accepted":["n2","n3"],"undelivered":[]}));
        let refused = |error: &str| Outcome::Refused { count: 1, error: error.to_owned() };
        let mut first = refused("a");
        assert!(first.join(&refused("a")) && !first.join(&refused("b")));
        assert_eq!(first.json(), json!({"count":2,"error":"a"}));
    }
}
