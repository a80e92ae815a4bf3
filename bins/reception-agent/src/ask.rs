//! `list`, `services` and `leader`: one question, one answer.

use std::io::Write;

use anyhow::Context;
use daemon::Failure;
use reception::{Client, Error, Name, Scope};

use crate::form;

/// What is asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// The instances of a name.
    List(Name, Scope),
    /// The names.
    Services,
    /// Who leads a name.
    Leader(Name),
}

/// Asks once and prints the answer, as JSON or as lines.
///
/// # Errors
/// When the store does not answer in time, or standard output cannot be written.
pub fn run(client: &Client, question: &Question, as_json: bool, to: &mut impl Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(answer(client, question, as_json));
    // A driver's blocking work that hangs must not keep the answer from being printed.
    runtime.shutdown_background();
    let text = text.map_err(|error| told(question, &client.address(), error))?;
    to.write_all(text.as_bytes()).and_then(|()| to.flush()).context("standard output")
}

async fn answer(client: &Client, question: &Question, as_json: bool) -> Result<String, Error> {
    let (json, lines) = match question {
        Question::List(name, scope) => {
            let view = form::fresh(client.list_services(name, *scope).await?);
            let lines = view.services().into_iter().map(form::line).collect();
            (form::list(name, &view), lines)
        }
        Question::Services => {
            let view = form::fresh(client.names().await?);
            let lines = view.value.names.iter().map(ToString::to_string).collect();
            (form::names(&view), lines)
        }
        Question::Leader(name) => {
            let leader = client.leader(name).await?;
            let line = leader
                .as_ref()
                .map(|leader| format!("{} token {}", form::line(&leader.service), leader.token));
            (form::leader(name, leader.as_ref()), Vec::from_iter(line))
        }
    };
    let lines = if as_json { vec![json.to_string()] } else { lines };
    Ok(lines.into_iter().map(|line| line + "\n").collect())
}

/// What a user is to do about a store that gives no answer.
const ABSENT: &str = "Does it run there? Another store is named with --backend";

/// What was asked, of which store, why there is no answer, and what to do.
fn told(question: &Question, backend: &str, error: Error) -> Failure {
    let asked = match question {
        Question::List(name, _) => format!("the instances of {name}"),
        Question::Services => "the names of services".to_owned(),
        Question::Leader(name) => format!("the leader of {name}"),
    };
    let (cause, advice) = match error {
        Error::Disconnected { what, .. } => (cause(backend, &what), ABSENT),
        Error::Silent { within, .. } => {
            (format!("no answer within {within:?}"), "Does it run there? --timeout sets how long to wait")
        }
        Error::NoServers { .. } => {
            ("it is alive but returned no servers".to_owned(), "Does ZooKeeper run where it looks?")
        }
        Error::BadResponse { what, .. } => (
            format!("an answer that is not understood ({what})"),
            "Is it that kind of store? Another one is named with --backend",
        ),
        // It says itself what to do.
        Error::Refused { what, .. } => {
            return Failure::running(format!("{backend} was asked for {asked}: it refuses: {what}"));
        }
        other => return Failure::running(other.to_string()),
    };
    Failure::running(format!("{backend} was asked for {asked}: {cause}. {advice}"))
}

/// Without the store's address, what a library was doing, and numbers of the system.
fn cause(backend: &str, what: &str) -> String {
    let (_, place) = backend.split_once("://").unwrap_or_default();
    let hosts = place.split('/').next().unwrap_or_default();
    if let Some(rest) = what.strip_prefix(&format!("none of {hosts} ")) {
        return format!("none of its servers {rest}");
    }
    let what = match what.split_once("cannot connect: ") {
        // The innermost reason is the plainest.
        Some((_, chain)) => chain.rsplit(": ").next().unwrap_or(chain),
        None => after_address(what),
    };
    let what = what.split(" (os error ").next().unwrap_or(what);
    let mut letters = what.chars();
    match letters.next() {
        // An abbreviation stays as it is.
        Some(first) if letters.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => what.to_owned(),
    }
}

/// What follows `http://HOST:PORT: `, where that is there.
fn after_address(what: &str) -> &str {
    let address = ["http://", "https://"].iter().filter_map(|scheme| what.find(scheme)).min();
    let rest = address.and_then(|at| what[at..].split_once(": "));
    rest.map_or(what, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_short_and_without_the_address() {
        let etcd = "etcd: reading keys: http://127.0.0.1:1: cannot connect: client error (Connect): tcp connect error: Connection refused (os error 111)";
        assert_eq!(cause("etcd://127.0.0.1:1", etcd), "connection refused");
        let name = "Consul at http://x:1: reading a key: cannot connect: client error (Connect): dns error: failed to lookup address information: Name or service not known";
        assert_eq!(cause("consul://x:1", name), "name or service not known");
        let broken = "Consul at http://x:1: reading a key: the answer broke off: HTTP 500";
        assert_eq!(cause("consul://x:1", broken), "reading a key: the answer broke off: HTTP 500");
        let zookeeper = "none of a:1,b:2 gave a session";
        assert_eq!(cause("zk://a:1,b:2/prod", zookeeper), "none of its servers gave a session");
        assert_eq!(
            cause("file:/x", "reading /x: Not a directory (os error 20)"),
            "reading /x: Not a directory"
        );
        assert_eq!(cause("consul://x:1", "HTTP 500"), "HTTP 500");
    }

    #[test]
    fn a_failure_names_the_store_once_and_what_to_do() {
        let (backend, name) = ("etcd://h:1", Name::new("web").unwrap());
        let of = |question: &Question, error| told(question, backend, error).to_string();
        let store = backend.to_owned();
        let refused = "etcd: x: http://h:1: cannot connect: y: Connection refused (os error 111)".to_owned();
        assert_eq!(
            of(
                &Question::List(name.clone(), Scope::All),
                Error::Disconnected { backend: store.clone(), what: refused }
            ),
            "etcd://h:1 was asked for the instances of web: connection refused. Does it run there? Another store is named with --backend"
        );
        let within = std::time::Duration::from_secs(2);
        assert_eq!(
            of(&Question::Leader(name), Error::Silent { backend: store.clone(), within }),
            "etcd://h:1 was asked for the leader of web: no answer within 2s. Does it run there? --timeout sets how long to wait"
        );
        let refused = Error::Refused { backend: store, what: "user or password are wrong".to_owned() };
        assert_eq!(
            of(&Question::Services, refused),
            "etcd://h:1 was asked for the names of services: it refuses: user or password are wrong"
        );
    }
}
