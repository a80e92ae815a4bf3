//! Lists for callers: at once, when they change, or each change as it comes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daemon::drain::Drain;
use futures_util::StreamExt;
use http::Response;
use reception::{View, Watcher};
use serde_json::Value;
use tokio::time::Instant;

use super::answer::{Content, Events, events, text};
use super::body::time;
use super::refusal::Refusal;
use crate::serve::views::Use;

/// A list as JSON.
type Render<T> = Arc<dyn Fn(&View<T>) -> Value + Send + Sync>;

/// How a list becomes an answer.
pub struct Lens<T> {
    /// What differs whenever the list does.
    pub index: fn(&T) -> u64,
    /// The answer.
    pub render: Render<T>,
}

/// What a query asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The index that the caller has.
    pub index: Option<u64>,
    /// For how long to wait for another one.
    pub wait: Duration,
}

impl Query {
    /// Out of a URL's query; a wait is cut to `longest`.
    ///
    /// # Errors
    /// 400.
    pub fn parse(text: Option<&str>, longest: Duration) -> Result<Self, Refusal> {
        let mut query = Self::default();
        for pair in text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("index", value) => {
                    let index =
                        value.parse().map_err(|_| Refusal::bad(format!("index: '{value}' is no number")))?;
                    query.index = Some(index);
                }
                ("wait", value) => query.wait = time("wait", value)?.min(longest),
                (other, _) => {
                    return Err(Refusal::bad(format!(
                        "'{other}' is not known in the query: there are wait and index"
                    )));
                }
            }
        }
        Ok(query)
    }
}

/// The first view of a list, which is waited for.
///
/// # Errors
/// 503 with the reason when there is none within `patience`.
pub async fn first<T>(watcher: &mut Watcher<T>, patience: Duration) -> Result<View<T>, Refusal>
where
    T: Clone + PartialEq + Send + Sync + 'static,
{
    if let Ok(view) = watcher.latest() {
        return Ok(view);
    }
    match tokio::time::timeout(patience, watcher.next()).await {
        Ok(Some(view)) => Ok(view),
        _ => {
            let why =
                watcher.latest().err().flatten().map_or("no answer yet".to_owned(), |why| why.to_string());
            Err(Refusal::unanswered(format!("the list cannot be had: {why}")))
        }
    }
}

/// Answers once: when the list is another one than the caller has, or after its wait, for which it has to have a place.
///
/// # Errors
/// 503 when there is no list, or no place.
pub async fn once<T, P>(
    mut using: Use<T>,
    lens: Lens<T>,
    query: Query,
    patience: Duration,
    drain: &Drain,
    place: impl FnOnce() -> Result<P, Refusal>,
) -> Result<Response<Content>, Refusal>
where
    T: Clone + PartialEq + Send + Sync + 'static,
{
    let ends = Instant::now() + query.wait;
    let mut view = first(&mut using.watcher, patience).await?;
    let known = |view: &View<T>| query.index == Some((lens.index)(&view.value));
    if known(&view) && !query.wait.is_zero() {
        let _place = place()?;
        loop {
            tokio::select! {
                Some(next) = using.watcher.next() => {
                    view = next;
                    if !known(&view) {
                        break;
                    }
                }
                () = tokio::time::sleep_until(ends) => break,
                () = drain.draining() => break,
            }
        }
    }
    Ok(text(using.text(&view, &*lens.render)))
}

/// Answers with an event for the list as it is, and one for each change, until the caller goes or the end begins. What
/// the caller does not take in time is not kept for it: it gets the list as it is when it takes more.
///
/// # Errors
/// 503 when there is no list.
pub async fn stream<T>(
    mut using: Use<T>,
    lens: Lens<T>,
    patience: Duration,
    heartbeat: Duration,
    drain: Drain,
    held: impl Send + 'static,
) -> Result<Response<Content>, Refusal>
where
    T: Clone + PartialEq + Send + Sync + 'static,
{
    first(&mut using.watcher, patience).await?;
    // As a clone it tells everything from the beginning.
    let watcher = using.watcher.clone();
    let told = futures_util::stream::unfold((watcher, using, held), move |(mut watcher, using, held)| {
        let (drain, render, index) = (drain.clone(), lens.render.clone(), lens.index);
        async move {
            let pieces = tokio::select! {
                view = watcher.next() => {
                    let view = view?;
                    event(using.text(&view, &*render), index(&view.value))
                }
                () = tokio::time::sleep(heartbeat) => vec![Bytes::from_static(b":\n\n")],
                () = drain.draining() => return None,
            };
            Some((futures_util::stream::iter(pieces), (watcher, using, held)))
        }
    });
    Ok(events(Events(told.flatten().boxed())))
}

/// An event in pieces, of which the largest is shared: a line is the data, an empty one ends it.
fn event(line: Bytes, index: u64) -> Vec<Bytes> {
    let head = Bytes::from(format!("event: services\nid: {index}\ndata: "));
    vec![head, line, Bytes::from_static(b"\n")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_and_waits_are_cut() {
        let parse = |text| Query::parse(Some(text), Duration::from_secs(60));
        let wait = Duration::from_secs(30);
        assert_eq!(parse("wait=30s&index=7").unwrap(), Query { index: Some(7), wait });
        assert_eq!(parse("wait=2h").unwrap().wait, Duration::from_secs(60));
        assert_eq!(Query::parse(None, wait).unwrap(), Query::default());
        for bad in ["index=x", "wait=5", "wiat=5s"] {
            assert_eq!(parse(bad).unwrap_err().status, 400, "{bad}");
        }
    }
}
