//! The task that keeps one file.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use daemon::drain::Drain;
use tokio::time::Instant;

use super::board::{Board, Counters};
use super::decide::{Act, Before, Decider, Outcome, Picture};
use super::file::Target;
use super::tell::OnChange;
use super::{Format, RenderSpec, keyrouter};
use crate::held::Why;
use crate::view::Receiver;

/// How often the file is looked at: somebody may have removed or changed it.
const LOOK: Duration = Duration::from_secs(5);

/// How many services a line of the log names.
const NAMED: usize = 5;

/// Keeps the file of `spec` until `stop` drains. What is being told then is told to its end, unless `stop` expires.
pub async fn run(spec: RenderSpec, mut views: Receiver, counters: Counters, stop: Drain) {
    let start = Instant::now();
    let mut keeper = Keeper::new(spec, &counters).await;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stopping = stop.draining();
    let mut watched = true;
    let first = views.borrow_and_update().clone();
    keeper.decider.see(start.elapsed(), &first);
    'keep: loop {
        keeper.tell_how_it_stands();
        while let Some(act) = keeper.decider.act(start.elapsed()) {
            let _guard = stop.guard();
            tokio::select! {
                () = keeper.act(act, start) => {}
                () = stop.expired() => break 'keep,
            }
            if stop.is_draining() {
                break;
            }
        }
        keeper.tell_how_it_stands();
        let next = keeper.decider.next().map(|at| start + at);
        tokio::select! {
            biased;
            () = &mut stopping => break 'keep,
            changed = views.changed(), if watched => match changed {
                Ok(()) => {
                    let newest = views.borrow_and_update().clone();
                    keeper.decider.see(start.elapsed(), &newest);
                }
                // Nobody sees anything any more.
                Err(_) => {
                    watched = false;
                    keeper.decider.see(start.elapsed(), &crate::view::Views::default());
                }
            },
            () = until(next) => keeper.decider.tick(start.elapsed()),
            _ = look.tick() => keeper.look(start.elapsed()).await,
        }
    }
    keeper.board.ended();
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

struct Keeper {
    spec: RenderSpec,
    target: Target,
    board: Board,
    decider: Decider,
    /// What the file held when it was right last.
    held: Option<Vec<u8>>,
    /// What was logged last, so that it is logged when it changes.
    told_held: BTreeMap<Why, Vec<String>>,
    told_odd: Vec<String>,
    /// A failure to write or to tell was logged, and it still fails.
    look_failed: bool,
}

impl Keeper {
    async fn new(spec: RenderSpec, counters: &Counters) -> Self {
        let target = Target::new(&spec.path);
        let tells = spec.on_change != OnChange::None;
        let found = target.clone();
        let before = blocking(move || {
            let full = found.read()?.is_some_and(|bytes| !bytes.is_empty());
            Ok(Before { full, untold: tells && found.is_marked() })
        });
        // What cannot be read may be full: careful.
        let before = before.await.unwrap_or(Before { full: true, untold: false });
        Self {
            decider: Decider::new(spec.rule.clone(), before, Duration::ZERO),
            board: counters.of(&spec.path),
            target,
            spec,
            held: None,
            told_held: BTreeMap::new(),
            told_odd: Vec::new(),
            look_failed: false,
        }
    }

    async fn act(&mut self, act: Act, start: Instant) {
        match act {
            Act::Render(picture) => {
                let outcome = self.render(&picture).await;
                self.decider.rendered(start.elapsed(), outcome);
            }
            Act::Tell => {
                let worked = self.tell().await;
                self.decider.told(start.elapsed(), worked);
            }
        }
    }

    async fn render(&mut self, picture: &Picture) -> Outcome {
        let text = self.text(picture).await;
        let path = self.spec.path.display();
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                self.board.failed();
                tracing::error!(%path, "the file stays as it is, its template cannot be rendered: {error}");
                return Outcome::Refused;
            }
        };
        let (target, mark) = (self.target.clone(), self.spec.on_change != OnChange::None);
        let bytes = text.into_bytes();
        let written = blocking(move || {
            let same = target.read()?.as_ref() == Some(&bytes);
            if !same {
                target.write(&bytes, mark)?;
            }
            Ok((!same, bytes))
        });
        match written.await {
            Ok((written, bytes)) => {
                let instances: usize = picture.values().map(Vec::len).sum();
                if written {
                    self.board.written();
                    tracing::info!(%path, services = picture.len(), instances, "written");
                }
                self.board.right();
                self.held = Some(bytes);
                if written { Outcome::Written } else { Outcome::Same }
            }
            Err(error) => {
                self.board.failed();
                tracing::error!(%path, "the file cannot be written, it is tried again: {error}");
                Outcome::Failed
            }
        }
    }

    async fn text(&mut self, picture: &Picture) -> Result<String, String> {
        match &self.spec.format {
            Format::Keyrouter => {
                let (text, odd) = keyrouter::render(picture);
                for problem in odd.iter().filter(|problem| !self.told_odd.contains(problem)) {
                    tracing::warn!(path = %self.spec.path.display(), "{problem}");
                }
                self.told_odd = odd;
                Ok(text)
            }
            Format::Template(template) => {
                let (template, picture) = (template.clone(), picture.clone());
                let rendered = tokio::task::spawn_blocking(move || template.render(&picture)).await;
                rendered.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
            }
        }
    }

    async fn tell(&mut self) -> bool {
        let told = self.spec.on_change.tell(&self.spec.path).await;
        let tells = self.spec.on_change != OnChange::None;
        if tells {
            self.board.told(told.is_ok());
        }
        let path = self.spec.path.display();
        match told {
            Err(problem) => {
                tracing::warn!(%path, "the readers were not told of the new file, it is tried again: {problem}");
                false
            }
            Ok(()) if tells => {
                tracing::info!(%path, "the readers were told");
                let target = self.target.clone();
                if let Err(error) = blocking(move || target.unmark()).await {
                    tracing::warn!(%path, "a mark beside the file cannot be removed, the next start tells its readers again: {error}");
                }
                true
            }
            Ok(()) => true,
        }
    }

    /// Whether the file is still what was written.
    async fn look(&mut self, now: Duration) {
        if self.held.is_none() {
            return;
        }
        let target = self.target.clone();
        let found = blocking(move || target.read()).await;
        let path = self.spec.path.display();
        match found {
            Ok(found) if found == self.held => self.look_failed = false,
            Ok(found) => {
                let what = if found.is_none() { "removed" } else { "changed" };
                tracing::warn!(%path, "somebody {what} the file: it is written again");
                self.held = None;
                self.decider.spoilt(now);
            }
            Err(error) if !self.look_failed => {
                self.look_failed = true;
                tracing::warn!(%path, "the file cannot be read: {error}");
            }
            Err(_) => {}
        }
    }

    /// Counts what is held back, and logs what changed of it.
    fn tell_how_it_stands(&mut self) {
        let held = self.decider.held();
        let begun = self.decider.has_begun();
        self.board.stands(held.values().copied(), self.decider.is_behind() || !begun);
        for why in Why::ALL {
            let of_this = held.iter().filter(|(_, other)| **other == why);
            let names: Vec<String> = of_this.map(|(name, _)| (*name).to_owned()).collect();
            let told = self.told_held.entry(why).or_default();
            // A store that is away takes all lists with it, one after the other: that is one piece of news.
            let news = if why == Why::Unconfirmed {
                begun && told.is_empty() != names.is_empty()
            } else {
                *told != names
            };
            if news {
                tell_held(&self.spec, why, &names);
                *told = names;
            }
        }
    }
}

fn tell_held(spec: &RenderSpec, why: Why, names: &[String]) {
    let (path, count) = (spec.path.display(), names.len());
    let services = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(" ");
    if names.is_empty() {
        tracing::info!(%path, why = why.word(), "the newest lists count again");
        return;
    }
    match why {
        Why::Unconfirmed => {
            tracing::warn!(%path, count, services, "lists are not certain: the last good ones stay");
        }
        Why::Empty => tracing::warn!(
            %path, count, services, grace_ms = spec.rule.held.empty_grace.as_millis() as u64,
            "lists are empty: the last good ones stay until they were empty for the grace"
        ),
        Why::Few => tracing::warn!(
            %path, count, services, min_instances = spec.rule.held.min_instances,
            "lists have too few instances: the last good ones stay"
        ),
    }
}

/// Work with files, off the runtime's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
