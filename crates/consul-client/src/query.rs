//! How a list is asked for, and how fresh it is.

use std::time::{Duration, SystemTime};

use http_fetch::Answer;

/// Who may answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// The leader, without asking the others whether it still is: in rare moments, an old one.
    #[default]
    Default,
    /// The leader, after a majority has confirmed it.
    Consistent,
    /// Any server, however far behind: the reply says how far.
    Stale,
}

/// How to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Who may answer.
    pub consistency: Consistency,
    /// Answer when the index is above this one, or after so long.
    pub wait: Option<(u64, Duration)>,
}

impl Query {
    /// Confirmed by a majority, at once.
    pub fn consistent() -> Self {
        Self { consistency: Consistency::Consistent, wait: None }
    }

    pub(crate) fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = match self.consistency {
            Consistency::Default => Vec::new(),
            Consistency::Consistent => vec![("consistent", String::new())],
            Consistency::Stale => vec![("stale", String::new())],
        };
        if let Some((index, wait)) = self.wait {
            parameters.push(("index", index.to_string()));
            parameters.push(("wait", millis(wait)));
        }
        parameters
    }

    /// How much longer than usual the answer may take: Consul adds up to a sixteenth of the wait.
    pub(crate) fn extra(&self) -> Duration {
        self.wait.map_or(Duration::ZERO, |(_, wait)| wait + wait / 16)
    }
}

/// What was asked for, with how fresh it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<T> {
    /// What was asked for.
    pub value: T,
    /// For the next blocking query; zero when the server told none.
    pub index: u64,
    /// The answering server knew a leader.
    pub known_leader: bool,
    /// How long ago the answering server last heard from the leader; zero when it is the leader.
    pub last_contact: Duration,
    /// The answering agent's clock, to the second.
    pub date: Option<SystemTime>,
}

impl<T> Reply<T> {
    /// Whether a newer state may exist that this reply does not show. An empty list that is stale is no truth.
    pub fn is_stale(&self) -> bool {
        !self.known_leader || !self.last_contact.is_zero()
    }

    pub(crate) fn of(answer: &Answer, value: T) -> Self {
        let number = |name: &str| answer.header(name).and_then(|text| text.parse::<u64>().ok());
        Self {
            value,
            index: number("x-consul-index").unwrap_or(0),
            known_leader: answer.header("x-consul-knownleader").is_none_or(|text| text == "true"),
            last_contact: Duration::from_millis(number("x-consul-lastcontact").unwrap_or(0)),
            date: answer.date(),
        }
    }
}

/// A duration as Consul reads it.
pub(crate) fn millis(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}
