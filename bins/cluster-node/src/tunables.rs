//! The settings of the cluster by the names of their flags: out of values, over the API, out of a reload. Pure.

use std::time::Duration;

use cluster::Settings;
use daemon::settings::{Values, format_duration, parse_duration, parse_size};
use serde_json::{Map, Value, json};

/// What can be changed while the node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunables {
    /// The cluster's.
    pub cluster: Settings,
    /// How long a login lasts.
    pub token_duration: Duration,
}

type Of<T> = fn(&mut Tunables) -> &mut T;

const DURATIONS: &[(&str, Of<Duration>)] = &[
    ("ping-interval", |all| &mut all.cluster.ping_interval),
    ("join-delay", |all| &mut all.cluster.join_delay),
    ("read-timeout", |all| &mut all.cluster.read_timeout),
    ("connect-interval", |all| &mut all.cluster.connect_interval),
    ("connect-timeout", |all| &mut all.cluster.connect_timeout),
    ("resend-for", |all| &mut all.cluster.resend_for),
    ("token-duration", |all| &mut all.token_duration),
];
const SIZES: &[(&str, Of<usize>)] = &[
    ("window", |all| &mut all.cluster.window_bytes),
    ("max-message", |all| &mut all.cluster.max_message),
    ("buffer-bytes", |all| &mut all.cluster.buffer_bytes),
];
const COUNTS: &[(&str, Of<usize>)] =
    &[("window-messages", |all| &mut all.cluster.window_messages), ("buffer", |all| &mut all.cluster.buffer)];
const LOG_TRAFFIC: &str = "log-traffic";
const EXPECT: &str = "expect";
const SHORTEST_LOGIN: Duration = Duration::from_secs(1);

impl Tunables {
    /// As flags, environment and file say; `None` where one of them was refused.
    pub fn of(values: &Values) -> Option<Self> {
        let mut all = Self { cluster: Settings::default(), token_duration: Duration::ZERO };
        for (key, of) in DURATIONS {
            *of(&mut all) = values.opt_duration(key)?;
        }
        for (key, of) in SIZES {
            *of(&mut all) = usize::try_from(values.opt_size(key)?).ok()?;
        }
        for (key, of) in COUNTS {
            *of(&mut all) = values.opt_integer(key)?;
        }
        all.cluster.log_traffic = values.switch(LOG_TRAFFIC);
        all.cluster.expect = values.opt_integer(EXPECT);
        Some(all)
    }

    /// What is wrong with them, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.cluster.problems();
        if self.token_duration < SHORTEST_LOGIN {
            problems.push("token-duration is below 1s".to_owned());
        }
        problems
    }

    /// As JSON, with flags' names as keys.
    pub fn to_json(&self) -> Value {
        let mut all = self.clone();
        let mut fields = Map::new();
        for (key, of) in DURATIONS {
            fields.insert((*key).to_owned(), format_duration(*of(&mut all)).into());
        }
        for (key, of) in SIZES.iter().chain(COUNTS) {
            fields.insert((*key).to_owned(), (*of(&mut all)).into());
        }
        fields.insert(LOG_TRAFFIC.to_owned(), self.cluster.log_traffic.into());
        fields.insert(EXPECT.to_owned(), json!(self.cluster.expect));
        Value::Object(fields)
    }

    /// With the changes of a JSON object: all of them or none.
    ///
    /// # Errors
    /// A sentence that names everything that is wrong.
    pub fn changed(&self, changes: &Map<String, Value>) -> Result<Self, String> {
        let mut all = self.clone();
        let mut problems: Vec<String> =
            changes.iter().filter_map(|(key, value)| all.change(key, value).err()).collect();
        if problems.is_empty() {
            problems = all.problems();
        }
        if problems.is_empty() { Ok(all) } else { Err(problems.join("; ")) }
    }

    fn change(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let wrong = |what: &str| format!("{key}: {value} is no {what}");
        if let Some((_, of)) = DURATIONS.iter().find(|(name, _)| *name == key) {
            let text = value.as_str().ok_or_else(|| wrong("time such as \"500ms\""))?;
            *of(self) = parse_duration(text, None).map_err(|error| format!("{key}: {error}"))?;
        } else if let Some((_, of)) = SIZES.iter().find(|(name, _)| *name == key) {
            let bytes = match value {
                Value::String(text) => parse_size(text).map_err(|error| format!("{key}: {error}"))?,
                other => other.as_u64().ok_or_else(|| wrong("number of bytes such as \"64MiB\""))?,
            };
            *of(self) = usize::try_from(bytes).map_err(|_| wrong("number of bytes that can be had"))?;
        } else if let Some((_, of)) = COUNTS.iter().find(|(name, _)| *name == key) {
            *of(self) = number(value).ok_or_else(|| wrong("whole number"))?;
        } else if key == LOG_TRAFFIC {
            self.cluster.log_traffic = value.as_bool().ok_or_else(|| wrong("true or false"))?;
        } else if key == EXPECT {
            self.cluster.expect = match value {
                Value::Null => None,
                value => Some(number(value).ok_or_else(|| wrong("number of nodes, nor null"))?),
            };
        } else {
            let known = DURATIONS.iter().map(|(name, _)| *name);
            let known = known.chain(SIZES.iter().chain(COUNTS).map(|(name, _)| *name));
            let known: Vec<&str> = known.chain([LOG_TRAFFIC, EXPECT]).collect();
            return Err(format!(
                "'{key}' cannot be changed while the node runs: there are {}",
                known.join(", ")
            ));
        }
        Ok(())
    }

    /// With what differs between two loads of the file. What the API changed meanwhile, and the file did not, stays.
    #[must_use]
    pub fn reloaded(&self, before: &Self, now: &Self) -> Self {
        let (mut all, mut before, mut now) = (self.clone(), before.clone(), now.clone());
        for (_, of) in DURATIONS {
            follow(&mut all, &mut before, &mut now, *of);
        }
        for (_, of) in SIZES.iter().chain(COUNTS) {
            follow(&mut all, &mut before, &mut now, *of);
        }
        follow(&mut all, &mut before, &mut now, |all| &mut all.cluster.log_traffic);
        follow(&mut all, &mut before, &mut now, |all| &mut all.cluster.expect);
        all
    }
}

fn follow<T: Clone + PartialEq>(all: &mut Tunables, before: &mut Tunables, now: &mut Tunables, of: Of<T>) {
    if of(before) != of(now) {
        *of(all) = of(now).clone();
    }
}

fn number(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> Tunables {
        Tunables { cluster: Settings::default(), token_duration: Duration::from_secs(3600) }
    }

    fn changed(text: &str) -> Result<Tunables, String> {
        usual().changed(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap())
    }

    #[test]
    fn what_is_shown_can_be_sent_back() {
        let shown = usual().to_json();
        assert_eq!(usual().changed(shown.as_object().unwrap()), Ok(usual()));
        assert_eq!((&shown["ping-interval"], &shown["expect"]), (&json!("1s"), &Value::Null));
    }

    #[test]
    fn changes_are_all_or_none_and_each_problem_is_told() {
        let new =
            changed(r#"{"ping-interval":"2s","window":"1GiB","buffer":7,"expect":5,"log-traffic":true}"#);
        let new = new.unwrap().cluster;
        assert_eq!((new.ping_interval, new.window_bytes), (Duration::from_secs(2), 1 << 30));
        assert_eq!((new.buffer, new.expect, new.log_traffic), (7, Some(5), true));
        let error = changed(r#"{"ping-interval":2,"windwo":1,"expect":"x","log-traffic":1}"#).unwrap_err();
        for part in ["ping-interval: 2", "'windwo'", "expect: \"x\"", "log-traffic: 1"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert!(changed(r#"{"read-timeout":"1s"}"#).unwrap_err().contains("longer than ping-interval"));
        assert!(changed(r#"{"token-duration":"1ms"}"#).is_err());
    }

    #[test]
    fn a_reload_touches_only_what_the_file_changed() {
        let by_api = changed(r#"{"buffer":7,"join-delay":"1s"}"#).unwrap();
        let file = changed(r#"{"join-delay":"2s","expect":3}"#).unwrap();
        let all = by_api.reloaded(&usual(), &file).cluster;
        assert_eq!((all.buffer, all.join_delay, all.expect), (7, Duration::from_secs(2), Some(3)));
    }
}
