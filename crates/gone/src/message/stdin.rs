//! How messages are written to the child's stdin.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};
use serde::Serialize;

use crate::message::holder::{Delivery, Origin};

/// The form of the child's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A message a line; one that has a newline itself is refused.
    #[default]
    Lines,
    /// Four bytes of length, big end first, and the message.
    Frames,
    /// A line of JSON: `{"n","id","sender","sequence","data"|"data_base64"}`.
    Json,
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "lines" => Ok(Self::Lines),
            "frames" => Ok(Self::Frames),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is none of lines, frames, json")),
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    n: u64,
    id: &'a str,
    sender: Option<String>,
    sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

impl Form {
    /// Whether the child can be given this message.
    pub fn takes(self, data: &[u8]) -> bool {
        self != Self::Lines || !data.contains(&b'\n')
    }

    /// Appends a message as the child reads it. `id` is the runner's.
    pub fn write(self, id: &str, delivery: &Delivery, to: &mut BytesMut) {
        let data = &delivery.data;
        match self {
            Self::Lines => {
                to.put_slice(data);
                to.put_u8(b'\n');
            }
            Self::Frames => {
                to.put_u32(u32::try_from(data.len()).unwrap_or(u32::MAX));
                to.put_slice(data);
            }
            Self::Json => {
                let text = std::str::from_utf8(data).ok();
                let (sender, sequence) = match delivery.origin {
                    Origin::Sender { sender, sequence } => (Some(sender.to_string()), Some(sequence)),
                    Origin::Original => (None, None),
                };
                let data_base64 = text.is_none().then(|| STANDARD.encode(data));
                let line = Line { n: delivery.n, id, sender, sequence, data: text, data_base64 };
                let line = serde_json::to_vec(&line).expect("text and numbers are always written");
                to.put_slice(&line);
                to.put_u8(b'\n');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::frame::SenderId;

    fn written(form: Form, data: &'static [u8], origin: Origin) -> Vec<u8> {
        let mut to = BytesMut::new();
        form.write("job", &Delivery { n: 3, origin, data: data.into() }, &mut to);
        to.to_vec()
    }

    const FROM: Origin = Origin::Sender { sender: SenderId([0xab; 16]), sequence: 7 };

    #[test]
    fn each_form_is_as_documented() {
        assert_eq!(written(Form::Lines, b"text", FROM), b"text\n");
        assert_eq!(written(Form::Frames, b"a\nb", FROM), b"\0\0\0\x03a\nb");
        let sender = "ab".repeat(16);
        let line =
            format!("{{\"n\":3,\"id\":\"job\",\"sender\":\"{sender}\",\"sequence\":7,\"data\":\"a\\nb\"}}\n");
        assert_eq!(written(Form::Json, b"a\nb", FROM), line.as_bytes());
        let line = "{\"n\":3,\"id\":\"job\",\"sender\":null,\"sequence\":null,\"data_base64\":\"/w==\"}\n";
        assert_eq!(written(Form::Json, &[0xff], Origin::Original), line.as_bytes());
    }

    #[test]
    fn only_lines_refuse_a_newline() {
        assert_eq!(
            [Form::Lines, Form::Frames, Form::Json].map(|form| form.takes(b"a\nb")),
            [false, true, true]
        );
        assert!(Form::Lines.takes(b"a"));
    }
}
