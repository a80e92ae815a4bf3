//! Plain HTTP requests, one connection each.

use std::io;
use std::net::SocketAddr;

use crate::raw::Raw;

/// An answer, read whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers as sent, in order.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON. Panics, showing it, when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON in this {}: {error}: {:?}", self.status, self.text()))
    }
}

/// A request to be sent on a connection of its own.
#[derive(Clone, Debug)]
pub struct Ask {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// A request of this method for this target.
pub fn ask(method: &str, target: &str) -> Ask {
    Ask { method: method.to_owned(), target: target.to_owned(), headers: Vec::new(), body: Vec::new() }
}

/// GET of this target. Panics when there is no answer.
pub async fn get(addr: SocketAddr, target: &str) -> Answer {
    ask("GET", target).of(addr).await
}

impl Ask {
    /// One more header. `Host` is sent unless it is given here.
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// The body, with its length.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        self.header("Content-Length", body.len()).body_as_is(body)
    }

    /// What follows the head, without a length: chunks, or less or more than a header of its own says.
    pub fn body_as_is(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it and gives the answer. Panics when there is none.
    pub async fn of(self, addr: SocketAddr) -> Answer {
        let what = format!("{} http://{addr}{}", self.method, self.target);
        self.try_of(addr).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Sends it and gives the answer, or why there is none. Interim answers are left out.
    pub async fn try_of(self, addr: SocketAddr) -> io::Result<Answer> {
        let mut raw = Raw::try_connect(addr).await?;
        raw.send(self.to_bytes(addr)).await;
        loop {
            let answer = raw.answer_to(&self.method).await?;
            if answer.status >= 200 {
                return Ok(answer);
            }
        }
    }

    fn to_bytes(&self, addr: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {addr}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("Connection: close\r\n\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}
