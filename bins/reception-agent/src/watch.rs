//! `watch`: a list, then each change of it.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use daemon::lifecycle::Lifecycle;
use daemon::{Failure, Start};
use reception::{Name, Service, Snapshot, View, Watcher};
use tokio::time::Instant;

use crate::config::Config;
use crate::form;
use crate::trouble::{self, Trouble};

/// How often it is looked at whether the first list still cannot be had.
const LOOK: Duration = Duration::from_millis(500);

/// Prints until it is told to end, or nobody reads.
///
/// # Errors
/// When it cannot start, or standard output cannot be written.
pub fn run(start: Start<Config>, name: &Name, as_json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let ended = runtime.block_on(async {
        let lifecycle = Lifecycle::new(&start)?;
        let drain = lifecycle.drain.clone();
        let printing = tokio::spawn({
            let (watcher, name) = (start.config.client.watcher(name), name.clone());
            async move {
                let stop = drain.draining();
                let ended = tokio::select! {
                    ended = print(watcher, name, as_json) => ended,
                    () = stop => Ok(()),
                };
                drain.begin();
                ended
            }
        });
        lifecycle.run(|_: Config, _| Ok(())).await;
        printing.await.context("the watch broke")
    });
    runtime.shutdown_background();
    match ended? {
        // `watch web | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ended => ended.map_err(|error| Failure::running(format!("standard output: {error}")).into()),
    }
}

async fn print(mut watcher: Watcher<Snapshot>, name: Name, as_json: bool) -> io::Result<()> {
    let what = format!("watching {name}");
    let (begin, mut trouble, mut before) = (Instant::now(), Trouble::default(), None);
    loop {
        tokio::select! {
            view = watcher.next() => {
                let Some(view) = view else { return Ok(()) };
                let lines = if as_json { vec![form::list(&name, &view).to_string()] } else { told(before.as_ref(), &view) };
                say(&lines)?;
                before = Some(view);
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        let why = match watcher.latest() {
            Ok(view) => view.trouble.filter(|_| view.unsure_since.is_some()),
            Err(why) => why,
        };
        trouble::log(trouble.see(begin.elapsed(), why.map(|why| why.to_string())), &what);
    }
}

/// The lines for people. `= N instances` says that the lines above are all there is to tell, and that the store says so now.
fn told(before: Option<&View<Snapshot>>, view: &View<Snapshot>) -> Vec<String> {
    let services = |view: &View<Snapshot>| -> Vec<Service> { view.services().into_iter().cloned().collect() };
    let mut lines = form::changes(&before.map(services).unwrap_or_default(), &services(view));
    let was_stale = before.is_some_and(View::is_stale);
    match &view.trouble {
        Some(why) if view.is_stale() && !was_stale => {
            lines.push(format!("! stale: {}", why.to_string().escape_debug()));
        }
        _ if !view.is_stale() && (before.is_none() || was_stale) => {
            lines.push(format!("= {} instances", view.value.instances.len()));
        }
        _ => {}
    }
    lines
}

fn say(lines: &[String]) -> io::Result<()> {
    let mut to = io::stdout().lock();
    for line in lines {
        writeln!(to, "{line}")?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use reception::{Error, Instance};

    use super::*;

    fn view(ids: &[&str], stale: bool) -> View<Snapshot> {
        let instance = |id: &&str| Instance {
            service: Service::new("web", "h", 1).unwrap().with_id(id).unwrap(),
            created: 1,
        };
        let snapshot = Snapshot { instances: ids.iter().map(instance).collect(), index: 0 };
        let why = Error::Disconnected { backend: "b".into(), what: "gone".into() };
        View {
            unsure_since: stale.then(supervise::Boottime::now),
            trouble: stale.then_some(why),
            ..form::fresh(snapshot)
        }
    }

    #[test]
    fn the_full_state_then_changes_then_what_is_stale() {
        let (none, one, two) = (view(&[], false), view(&["a"], false), view(&["a", "b"], false));
        assert_eq!(told(None, &none), ["= 0 instances"]);
        assert_eq!(told(None, &two), ["+ a h:1", "+ b h:1", "= 2 instances"]);
        assert_eq!(told(Some(&two), &one), ["- b"]);
        let stale = view(&["a"], true);
        assert_eq!(told(Some(&one), &stale), ["! stale: b: gone"]);
        assert!(told(Some(&stale), &stale).is_empty());
        assert_eq!(told(Some(&stale), &two), ["+ b h:1", "= 2 instances"]);
    }
}
