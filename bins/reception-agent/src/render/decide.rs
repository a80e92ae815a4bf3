//! When a file is rendered and its readers are told. Pure: time comes as an argument.
//!
//! What is rendered is a picture: for each service the list that counts ([`Held`]). The first picture takes every
//! service; a service that shows up later joins when it is certain. A change of the picture waits until it has been
//! quiet for the debounce, but no longer than its maximum; then the file is written, and when that changed it, its
//! readers are told. Both are tried again when they fail, at a bounded pace.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reception::Service;

use crate::held::{self, Held, Why};
use crate::pace::Pace;
use crate::view::{Views, Wanted};

/// The longest wait before something that failed is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What goes into a file: the instances of each service.
pub type Picture = BTreeMap<String, Vec<Service>>;

/// How one file is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The services in it.
    pub wanted: Wanted,
    /// When a worse list of a service counts.
    pub held: held::Rule,
    /// How long the picture has to be quiet before it is rendered.
    pub debounce: Duration,
    /// How long a picture that is never quiet waits at most.
    pub debounce_max: Duration,
}

/// What was found when the agent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// There is a file with something in it.
    pub full: bool,
    /// It was written, and its readers were not told.
    pub untold: bool,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Render this, and write it if it is not what the file holds; then [`Decider::rendered`].
    Render(Picture),
    /// Tell the readers of the file; then [`Decider::told`].
    Tell,
}

/// What came of rendering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file was written.
    Written,
    /// It was the same already.
    Same,
    /// This picture cannot be rendered: another one may.
    Refused,
    /// It could not be written: it may be possible later.
    Failed,
}

/// The decisions for one file.
#[derive(Debug)]
pub struct Decider {
    rule: Rule,
    before: Before,
    services: BTreeMap<String, Held>,
    /// The names that the store knows.
    listed: BTreeSet<String>,
    names_known: bool,
    /// Since when the store says that there is no service at all, at the start.
    none_since: Option<Duration>,
    /// The first picture was whole.
    begun: bool,
    /// The picture as it should be.
    picture: Option<Picture>,
    /// The one that the file shows, or that was refused.
    settled: Option<Picture>,
    /// When `picture` left `settled`, and when it changed last.
    changed: Option<(Duration, Duration)>,
    write_again: Option<Duration>,
    write_pace: Pace,
    tell_at: Option<Duration>,
    tell_pace: Pace,
}

impl Decider {
    /// Nothing is known yet.
    pub fn new(rule: Rule, before: Before, now: Duration) -> Self {
        let named = match &rule.wanted {
            Wanted::All => &[][..],
            Wanted::Named(names) => names,
        };
        Self {
            services: named.iter().map(|name| (name.clone(), Held::new(rule.held, before.full))).collect(),
            listed: BTreeSet::new(),
            names_known: false,
            none_since: None,
            begun: false,
            picture: None,
            settled: None,
            changed: None,
            write_again: None,
            write_pace: Pace::up_to(LONGEST_WAIT),
            tell_at: before.untold.then_some(now + rule.debounce),
            tell_pace: Pace::up_to(LONGEST_WAIT),
            rule,
            before,
        }
    }

    /// Takes the newest views. `now` never goes back.
    pub fn see(&mut self, now: Duration, views: &Views) {
        if self.rule.wanted == Wanted::All {
            self.see_names(now, views);
        }
        let names = views.names.as_ref().filter(|_| self.rule.wanted == Wanted::All);
        for (name, held) in &mut self.services {
            let gone = names.is_some_and(|names| !names.contains(name));
            held.see(now, if gone { Some(&[]) } else { views.certain(name) });
        }
        self.tick(now);
    }

    fn see_names(&mut self, now: Duration, views: &Views) {
        let none_since = self.none_since.take();
        let Some(names) = &views.names else { return };
        self.names_known = true;
        self.listed.clone_from(names.as_ref());
        if self.listed.is_empty() {
            self.none_since = Some(none_since.unwrap_or(now));
        }
        for name in &self.listed {
            if !self.services.contains_key(name) {
                self.services
                    .insert(name.clone(), Held::new(self.rule.held, self.before.full && !self.begun));
            }
        }
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Duration) {
        self.services.values_mut().for_each(|held| held.tick(now));
        if self.rule.wanted == Wanted::All {
            let listed = &self.listed;
            self.services.retain(|name, held| listed.contains(name) || held.list() != Some(&[]));
        }
        self.begun = self.begun || self.is_whole(now);
        if !self.begun {
            return;
        }
        let lists =
            self.services.iter().filter_map(|(name, held)| Some((name.clone(), held.list()?.to_vec())));
        let picture: Picture = lists.collect();
        if self.settled.as_ref() == Some(&picture) {
            self.changed = None;
        } else if self.picture.as_ref() != Some(&picture) || self.changed.is_none() {
            self.changed = Some((self.changed.map_or(now, |(first, _)| first), now));
        }
        self.picture = Some(picture);
    }

    /// Whether every service is certain, for the first picture.
    fn is_whole(&self, now: Duration) -> bool {
        let named = match self.rule.wanted {
            Wanted::Named(_) => true,
            Wanted::All if self.listed.is_empty() && self.before.full => {
                self.none_at().is_some_and(|at| at <= now)
            }
            Wanted::All => self.names_known,
        };
        named && self.services.values().all(|held| held.list().is_some())
    }

    fn none_at(&self) -> Option<Duration> {
        self.none_since.filter(|_| !self.begun).map(|since| since + self.rule.held.empty_grace)
    }

    fn render_at(&self) -> Option<Duration> {
        let (first, last) = self.changed?;
        let quiet = (last + self.rule.debounce).min(first + self.rule.debounce_max);
        Some(self.write_again.map_or(quiet, |again| again.max(quiet)))
    }

    /// When to call [`Self::tick`] and [`Self::act`] again at the latest.
    pub fn next(&self) -> Option<Duration> {
        let graces = self.services.values().filter_map(Held::certain_at);
        graces.chain([self.none_at(), self.render_at(), self.tell_at].into_iter().flatten()).min()
    }

    /// What is to be done now. It has to be done, and reported, before anything else is asked.
    pub fn act(&self, now: Duration) -> Option<Act> {
        if self.render_at().is_some_and(|at| at <= now) {
            return self.picture.clone().map(Act::Render);
        }
        self.tell_at.is_some_and(|at| at <= now).then_some(Act::Tell)
    }

    /// What came of rendering the picture of the last [`Act::Render`].
    pub fn rendered(&mut self, now: Duration, outcome: Outcome) {
        if outcome == Outcome::Failed {
            self.write_again = Some(now + self.write_pace.failed());
            return;
        }
        self.write_pace.worked();
        self.write_again = None;
        self.changed = None;
        self.settled = self.picture.clone();
        if outcome == Outcome::Written {
            self.tell_pace.worked();
            self.tell_at = Some(now);
        }
    }

    /// What came of telling the readers.
    pub fn told(&mut self, now: Duration, worked: bool) {
        self.tell_at = if worked { None } else { Some(now + self.tell_pace.failed()) };
    }

    /// The file is not what was written: somebody removed or changed it.
    pub fn spoilt(&mut self, now: Duration) {
        self.settled = None;
        self.tick(now);
    }

    /// The services whose newest list does not count.
    pub fn held(&self) -> BTreeMap<&str, Why> {
        self.services.iter().filter_map(|(name, held)| Some((name.as_str(), held.why()?))).collect()
    }

    /// Whether a picture was whole: before, nothing is rendered.
    pub const fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether what the file should show is not in it.
    pub const fn is_behind(&self) -> bool {
        self.changed.is_some() || self.tell_at.is_some()
    }
}

#[cfg(test)]
mod tests;
