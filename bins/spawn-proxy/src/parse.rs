//! From values to the typed configuration, with every problem told at once.

use std::collections::HashSet;
use std::path::PathBuf;
use std::str::FromStr;

use common::node::{Node, NodeId, Priority};
use daemon::http::{Limits, Token};
use daemon::settings::{Address, Config as DaemonConfig, Problems, Row, Values};
use http::Method;
use regex::bytes::Regex;

use crate::config::{
    Ack, Class, Config, HealthConfig, LiveConfig, LogConfig, Ordering, Rules, UpdatesConfig, WhenFull,
};
use crate::delivery::backoff::Backoff;
use crate::route::QueryMode;

/// The first wait after a failed delivery.
const FIRST_RETRY: std::time::Duration = std::time::Duration::from_millis(100);

impl DaemonConfig for Config {
    fn from_values(values: &Values, problems: &mut Problems) -> Option<Self> {
        let nodes = nodes(values, problems);
        let live = live(values, problems);
        let log_dir = log_dir(values, problems);
        let api_token = token(values, problems);
        let (port, api_port): (u16, u16) = (values.opt_integer("port")?, values.opt_integer("api.port")?);
        if port == api_port && port != 0 && values.opt_text("host")? == values.opt_text("api.host")? {
            problems.report(
                values,
                "api.port",
                format!("port {port} is the proxy's already: give the API another"),
            );
        }
        Some(Self {
            proxy_address: Address::new(&values.opt_text("host")?, port).to_string(),
            api_address: Address::new(&values.opt_text("api.host")?, api_port).to_string(),
            data_dir: values.opt_path("data-dir")?,
            log_dir: log_dir?,
            log: LogConfig {
                max_pending_bytes: values.opt_size("max-pending-bytes")?,
                remember: values.opt_duration("updates.remember")?,
                max_keys: values.opt_integer("max-keys")?,
                retain: values.opt_duration("updates.retain")?,
                retain_bytes: values.opt_size("updates.retain-bytes")?,
            },
            limits: Limits::from_values(values)?,
            workers: values.opt_integer("workers").unwrap_or_else(processors),
            insecure_api: values.switch("api.insecure"),
            api_token: api_token?,
            cors_origin: values.opt_text("api.cors-origin"),
            nodes: nodes?,
            live: live?,
        })
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn live(values: &Values, problems: &mut Problems) -> Option<LiveConfig> {
    let rules = rules(values, problems);
    let health = health(values, problems);
    Some(LiveConfig {
        mode: QueryMode {
            round_robin: values.switch("query-mode.round-robin"),
            by_priority: values.switch("query-mode.by-priority"),
        },
        health: health?,
        rules: rules?,
        timeout: values.opt_duration("timeout")?,
        body_timeout: values.opt_duration("body-timeout")?,
        max_body: values.opt_size("max-body")?,
        max_buffer: values.opt_size("max-buffer")?,
        max_lag: values.opt_duration("reads.max-lag")?,
        host_of_node: values.opt_choice("reads.host")? == "node",
        updates: updates(values)?,
    })
}

fn health(values: &Values, problems: &mut Problems) -> Option<HealthConfig> {
    let url = values.opt_text("health-check.url")?;
    let url = if url.is_empty() { "/".to_owned() } else { url };
    if !url.starts_with('/') || url.parse::<http::Uri>().is_err() {
        problems.report(values, "health-check.url", format!("'{url}' is not a path: write it as /health"));
        return None;
    }
    let regexp = match values
        .opt_text("health-check.regexp")
        .filter(|text| !text.is_empty())
        .map(|text| Regex::new(&text))
    {
        None => None,
        Some(Ok(regexp)) => Some(regexp),
        Some(Err(error)) => {
            problems.report(values, "health-check.regexp", error.to_string());
            return None;
        }
    };
    Some(HealthConfig {
        interval: values.opt_duration("health-check.seconds")?,
        timeout: values.opt_duration("health-check.timeout")?,
        url,
        strict: values.is_set("health-check.url"),
        regexp,
    })
}

fn updates(values: &Values) -> Option<UpdatesConfig> {
    Some(UpdatesConfig {
        ack: match values.opt_choice("updates.ack")?.as_ref() {
            "queued" => Ack::Queued,
            "quorum" => Ack::Quorum,
            "all" => Ack::All,
            _ => Ack::First,
        },
        ordering: if values.opt_choice("updates.ordering")? == "global" {
            Ordering::Global
        } else {
            Ordering::Path
        },
        timeout: values.opt_duration("updates.timeout")?,
        max_attempts: values.opt_integer("updates.max-attempts")?,
        backoff: Backoff { first: FIRST_RETRY, longest: values.opt_duration("updates.retry-max")? },
        concurrency: values.opt_integer("updates.concurrency")?,
        unanimous_answer: values.opt_choice("updates.unanimous-5xx")? == "answer",
        when_full: match values.opt_choice("updates.when-full")?.as_ref() {
            "refuse" => WhenFull::Refuse,
            _ => WhenFull::Park,
        },
        status_url: values.opt_text("updates.status-url").map(|url| url.trim_end_matches('/').to_owned()),
    })
}

fn rules(values: &Values, problems: &mut Problems) -> Option<Rules> {
    let mut methods = |key: &str| -> Option<Vec<Method>> {
        let parsed = values
            .texts(key)
            .iter()
            .map(|name| Method::from_str(name).map_err(|_| name.clone()))
            .collect::<Result<_, _>>();
        parsed.map_err(|name| problems.report(values, key, format!("'{name}' is not a method"))).ok()
    };
    let (reads, updates) = (methods("reads.methods"), methods("updates.methods"));
    let (reads, updates) = (reads?, updates?);
    if let Some(both) = reads.iter().find(|method| updates.contains(method)) {
        problems.report(
            values,
            "updates.methods",
            format!("{both} is in reads.methods too: a method is one or the other"),
        );
        return None;
    }
    let mut overrides = Vec::new();
    for (key, class) in [("reads.match", Class::Read), ("updates.match", Class::Update)] {
        for row in values.tables(key) {
            overrides.push((class, matched(row, problems)?));
        }
    }
    let overrides = overrides.into_iter().map(|(class, (method, prefix))| (class, method, prefix)).collect();
    Some(Rules { overrides, reads, updates })
}

fn matched(row: &Row, problems: &mut Problems) -> Option<(Option<Method>, String)> {
    let Row::Table(values) = row else {
        problems.at(&row.place(), "write it as a table with method and path");
        return None;
    };
    let method = match values.opt_text("method").map(|name| Method::from_str(&name)).transpose() {
        Ok(method) => method,
        Err(error) => {
            problems.report(values, "method", error.to_string());
            return None;
        }
    };
    let prefix = values.opt_text("path").unwrap_or_else(|| "/".to_owned());
    if !prefix.starts_with('/') {
        problems.report(values, "path", format!("'{prefix}' does not begin with a slash"));
        return None;
    }
    Some((method, prefix))
}

fn log_dir(values: &Values, problems: &mut Problems) -> Option<PathBuf> {
    let Some(url) = values.opt_text("log") else { return Some(values.opt_path("data-dir")?.join("log")) };
    match url.strip_prefix("file:").filter(|path| !path.is_empty()) {
        Some(path) => Some(path.into()),
        None => {
            problems.report(values, "log", format!("'{url}' is not a log: write file:DIR"));
            None
        }
    }
}

/// `None` when there is a problem; `Some(None)` when no token is asked for.
#[expect(clippy::option_option, reason = "the outer one says whether the configuration is usable")]
fn token(values: &Values, problems: &mut Problems) -> Option<Option<Token>> {
    let Some(path) = values.opt_path("api.token-file") else { return Some(None) };
    Token::read(&path).map(Some).map_err(|error| problems.report(values, "api.token-file", error)).ok()
}

fn nodes(values: &Values, problems: &mut Problems) -> Option<Vec<Node>> {
    let mut seen = HashSet::new();
    let mut nodes = Vec::new();
    let mut good = true;
    for row in values.tables("nodes") {
        let parsed = match row {
            Row::Table(values) => node_of_table(values, problems),
            Row::Text(row) => node_of_text(row.text()).map_err(|error| problems.at(row.place(), error)).ok(),
        };
        match parsed {
            Some(node) if !seen.insert(node.id.clone()) => {
                problems.at(&row.place(), format!("node {} is there twice", node.id));
                good = false;
            }
            Some(node) => nodes.push(node),
            None => good = false,
        }
    }
    good.then_some(nodes)
}

fn node_of_table(values: &Values, problems: &mut Problems) -> Option<Node> {
    let (Some(host), Some(port)) = (values.opt_text("host"), values.opt_integer::<u16>("port")) else {
        for key in ["host", "port"].into_iter().filter(|key| !values.is_set(key)) {
            problems.report(values, key, format!("a node needs a {key}"));
        }
        return None;
    };
    match NodeId::new(&host, port) {
        Ok(id) => Some(Node {
            id,
            priority: Priority(values.integer("priority")),
            active: values.opt_switch("active").unwrap_or(!values.is_json()),
            maintenance: values.switch("maintenance"),
        }),
        Err(error) => {
            problems.report(values, "host", error.to_string());
            None
        }
    }
}

/// `HOST:PORT[,priority=N][,maintenance][,inactive]`
fn node_of_text(text: &str) -> Result<Node, String> {
    let mut parts = text.split(',').map(str::trim);
    let id: NodeId = parts.next().unwrap_or_default().parse().map_err(|error| format!("{error}"))?;
    let mut node = Node { id, priority: Priority(0), active: true, maintenance: false };
    for part in parts {
        match part.split_once('=') {
            Some(("priority", number)) => {
                let parsed = number
                    .parse()
                    .map_err(|_| format!("'{number}' is not a priority: use a whole number"))?;
                node.priority = Priority(parsed);
            }
            None if part == "maintenance" => node.maintenance = true,
            None if part == "inactive" => node.active = false,
            _ => return Err(format!("'{part}' is not understood: use priority=N, maintenance or inactive")),
        }
    }
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_in_one_word() {
        let node = node_of_text("[::1]:80,priority=-2,maintenance,inactive").unwrap();
        assert_eq!(
            (node.id.as_str(), node.priority.0, node.active, node.maintenance),
            ("[::1]:80", -2, false, true)
        );
        assert!(node_of_text("h:1").unwrap().active);
        for bad in ["h", "h:1,priority=x", "h:1,prio=1", "h:1,,", "h:0"] {
            assert!(node_of_text(bad).is_err(), "{bad}");
        }
    }
}
