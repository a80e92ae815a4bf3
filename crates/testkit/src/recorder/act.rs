//! How a node misbehaves: rules that pick requests, and what is done to them.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

/// The head of a request, as a rule sees it.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target.
    pub uri: &'a Uri,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// How many requests this rule had matched before this one.
    pub count: u64,
}

/// What is done to a request. All but [`Act::CloseBefore`] read its body whole first.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers with this status.
    Status(u16),
    /// Answers with this status and `Retry-After`.
    RetryAfter(u16, u64),
    /// Answers with a status, headers and a body.
    Answer(u16, Vec<(String, String)>, Bytes),
    /// Takes it in and answers as usual, so much later.
    Delay(Duration),
    /// Takes it in at once and answers so much later.
    Late(Duration),
    /// Closes the connection on the head: nothing is taken in.
    CloseBefore,
    /// Takes it in and closes the connection without an answer.
    CloseAfter,
    /// Takes it in and never answers, until the client goes away.
    Hang,
    /// Takes it in, announces a longer body than it sends, and closes the connection.
    Truncate,
    /// Streams these chunks without a length, with a pause before each.
    Stream(Vec<Bytes>, Duration),
    /// Switches protocols (101, `Upgrade: echo`) and sends back every byte.
    Echo,
}

type When = Box<dyn FnMut(&Seen<'_>) -> bool + Send>;

/// Which requests an [`Act`] is for. Without any restriction: all of them, reads and checks too.
pub struct Rule {
    act: Act,
    methods: Vec<Method>,
    path: Option<String>,
    when: Option<When>,
    skip: u64,
    times: u64,
    count: u64,
}

impl Rule {
    /// A rule that does this.
    pub fn new(act: Act) -> Self {
        Self { act, methods: Vec::new(), path: None, when: None, skip: 0, times: u64::MAX, count: 0 }
    }

    /// Only for this method; further calls add further ones.
    pub fn method(mut self, method: Method) -> Self {
        self.methods.push(method);
        self
    }

    /// Only for updates: POST, PUT, PATCH, DELETE.
    pub fn updates(self) -> Self {
        self.method(Method::POST).method(Method::PUT).method(Method::PATCH).method(Method::DELETE)
    }

    /// Only for reads: GET, HEAD, OPTIONS.
    pub fn reads(self) -> Self {
        self.method(Method::GET).method(Method::HEAD).method(Method::OPTIONS)
    }

    /// Only for paths that start so.
    pub fn path(mut self, prefix: impl Into<String>) -> Self {
        self.path = Some(prefix.into());
        self
    }

    /// Only where this says so.
    pub fn when(mut self, when: impl FnMut(&Seen<'_>) -> bool + Send + 'static) -> Self {
        self.when = Some(Box::new(when));
        self
    }

    /// Not for the first so many that match.
    pub fn skip(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// For no more than so many.
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// What this rule does to the request, if it is for it.
    pub(super) fn apply(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Act> {
        let by_method = self.methods.is_empty() || self.methods.contains(method);
        let by_path = self.path.as_ref().is_none_or(|prefix| uri.path().starts_with(prefix.as_str()));
        if !by_method || !by_path {
            return None;
        }
        let seen = Seen { method, uri, headers, count: self.count };
        if !self.when.as_mut().is_none_or(|when| when(&seen)) {
            return None;
        }
        let place = self.count;
        self.count += 1;
        (place >= self.skip && place - self.skip < self.times).then(|| self.act.clone())
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule").field("act", &self.act).field("methods", &self.methods).finish_non_exhaustive()
    }
}
