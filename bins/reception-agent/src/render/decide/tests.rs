use std::sync::Arc;

use testkit::Rng;

use super::*;
use crate::view::View;

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn rule(wanted: Wanted) -> Rule {
    let held = held::Rule { min_instances: 0, empty_grace: at(30_000) };
    Rule { wanted, held, debounce: at(100), debounce_max: at(2000) }
}

fn named(names: &[&str]) -> Rule {
    rule(Wanted::Named(names.iter().map(|name| (*name).to_owned()).collect()))
}

fn instances(name: &str, ports: &[u16]) -> Vec<Service> {
    ports
        .iter()
        .map(|port| Service::new(name, "h", *port).unwrap().with_id(&port.to_string()).unwrap())
        .collect()
}

fn views(all: &[(&str, &[u16])]) -> Views {
    let services = all
        .iter()
        .map(|(name, ports)| ((*name).to_owned(), Arc::new(View::confirmed(instances(name, ports)))))
        .collect();
    let names = all.iter().map(|(name, _)| (*name).to_owned()).collect();
    Views { names: Some(Arc::new(names)), services }
}

fn ports(act: Option<Act>, name: &str) -> Option<Vec<u16>> {
    match act? {
        Act::Render(picture) => Some(picture.get(name)?.iter().map(|service| service.port).collect()),
        Act::Tell => None,
    }
}

fn begun(rule: Rule, all: &[(&str, &[u16])]) -> Decider {
    let mut decider = Decider::new(rule, Before::default(), at(0));
    decider.see(at(0), &views(all));
    assert!(matches!(decider.act(at(100)), Some(Act::Render(_))));
    decider.rendered(at(100), Outcome::Written);
    assert_eq!(decider.act(at(100)), Some(Act::Tell));
    decider.told(at(100), true);
    assert_eq!((decider.act(at(200)), decider.next(), decider.is_behind()), (None, None, false));
    decider
}

#[test]
fn the_first_picture_waits_for_every_service() {
    let mut decider = Decider::new(named(&["a", "b"]), Before::default(), at(0));
    decider.see(at(0), &views(&[("a", &[1])]));
    assert_eq!((decider.next(), decider.held().len()), (None, 1));
    let mut both = views(&[("a", &[1]), ("b", &[2])]);
    Arc::make_mut(both.services.get_mut("b").unwrap()).confirmed = false;
    decider.see(at(10), &both);
    assert_eq!(decider.next(), None);
    decider.see(at(20), &views(&[("a", &[1]), ("b", &[2])]));
    assert_eq!((decider.next(), decider.act(at(119))), (Some(at(120)), None));
    assert_eq!(ports(decider.act(at(120)), "b"), Some(vec![2]));
}

#[test]
fn a_service_that_was_certain_once_counts_for_the_first_picture() {
    let mut decider = Decider::new(rule(Wanted::All), Before::default(), at(0));
    let both = views(&[("a", &[1]), ("b", &[2])]);
    // Never both at a time.
    for (time, unsure) in [(0, "b"), (10, "a")] {
        let mut one = both.clone();
        Arc::make_mut(one.services.get_mut(unsure).unwrap()).confirmed = false;
        decider.see(at(time), &one);
    }
    decider.see(at(20), &Views { names: None, ..Views::default() });
    let Some(Act::Render(picture)) = decider.act(at(200)) else { panic!() };
    assert_eq!(picture.keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_change_waits_for_quiet_and_no_longer_than_the_most() {
    let mut decider = begun(named(&["a"]), &[("a", &[1])]);
    for (step, time) in (1000..4000).step_by(90).enumerate() {
        decider.see(at(time), &views(&[("a", &[step as u16 + 2])]));
        let due = decider.act(at(time)).is_some();
        assert_eq!(due, time >= 3000, "{time}");
        if due {
            break;
        }
    }
    decider.rendered(at(3000), Outcome::Written);
    decider.told(at(3000), true);
    // A list that comes back before it was written is no change.
    let shown = decider.settled.clone().unwrap()["a"][0].port;
    decider.see(at(5000), &views(&[("a", &[9999])]));
    decider.see(at(5050), &views(&[("a", &[shown])]));
    assert_eq!((decider.next(), decider.act(at(9000))), (None, None));
}

#[test]
fn an_empty_list_is_held_and_then_shown() {
    let mut decider = begun(named(&["a"]), &[("a", &[1])]);
    decider.see(at(1000), &views(&[("a", &[])]));
    assert_eq!((decider.next(), decider.held().get("a")), (Some(at(31_000)), Some(&Why::Empty)));
    decider.tick(at(31_000));
    assert_eq!(decider.act(at(31_000)), None);
    assert_eq!(ports(decider.act(at(31_100)), "a"), Some(vec![]));
}

#[test]
fn of_all_services_those_that_go_are_held_and_those_that_come_join() {
    let mut decider = begun(rule(Wanted::All), &[("a", &[1]), ("b", &[2])]);
    // One that is not certain does not keep the others back.
    let mut three = views(&[("a", &[1]), ("c", &[3])]);
    three.services.remove("c");
    decider.see(at(1000), &three);
    assert_eq!((decider.act(at(2000)), decider.held().get("b")), (None, Some(&Why::Empty)));
    decider.see(at(3000), &views(&[("a", &[1]), ("c", &[3])]));
    let Some(Act::Render(picture)) = decider.act(at(3100)) else { panic!() };
    assert_eq!(picture.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    decider.rendered(at(3100), Outcome::Same);
    decider.tick(at(31_000));
    let Some(Act::Render(picture)) = decider.act(at(31_100)) else { panic!() };
    assert_eq!(picture.keys().collect::<Vec<_>>(), ["a", "c"], "gone for the grace");
    decider.rendered(at(31_100), Outcome::Same);
    // Names that were not read make nobody go.
    decider.see(at(40_000), &Views::default());
    decider.tick(at(400_000));
    assert_eq!(decider.act(at(400_000)), None);
}

#[test]
fn no_service_at_all_is_no_file_over_a_full_one_until_it_is_certain() {
    let full = Before { full: true, untold: false };
    let mut decider = Decider::new(rule(Wanted::All), full, at(0));
    decider.see(at(0), &views(&[]));
    assert_eq!((decider.next(), decider.act(at(29_999))), (Some(at(30_000)), None));
    decider.tick(at(30_000));
    assert_eq!(decider.act(at(30_100)), Some(Act::Render(Picture::new())));
    let mut fresh = Decider::new(rule(Wanted::All), Before::default(), at(0));
    fresh.see(at(0), &views(&[]));
    assert_eq!(fresh.act(at(100)), Some(Act::Render(Picture::new())));
}

#[test]
fn what_fails_is_tried_again_at_a_bounded_pace() {
    let mut decider = begun(named(&["a"]), &[("a", &[1])]);
    decider.see(at(1000), &views(&[("a", &[2])]));
    let (mut now, mut waits) = (at(1100), Vec::new());
    for _ in 0..7 {
        assert!(decider.act(now).is_some());
        decider.rendered(now, Outcome::Failed);
        let next = decider.next().unwrap();
        waits.push((next - now).as_secs());
        now = next;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    decider.rendered(now, Outcome::Written);
    for wait in [1, 2] {
        assert_eq!(decider.act(now), Some(Act::Tell));
        decider.told(now, false);
        assert_eq!(decider.next(), Some(now + Duration::from_secs(wait)));
        now += Duration::from_secs(wait);
    }
    // A picture that cannot be rendered waits for another one.
    decider.told(now, true);
    decider.see(now, &views(&[("a", &[3])]));
    decider.rendered(now + at(100), Outcome::Refused);
    assert_eq!(decider.next(), None);
    decider.see(now + at(200), &views(&[("a", &[4])]));
    assert!(decider.act(now + at(300)).is_some());
}

#[test]
fn readers_that_were_not_told_before_the_start_are_told() {
    let mut decider = Decider::new(named(&["a"]), Before { full: true, untold: true }, at(0));
    assert_eq!((decider.act(at(99)), decider.act(at(100))), (None, Some(Act::Tell)));
    decider.told(at(100), true);
    assert_eq!(decider.next(), None);
}

#[test]
fn a_spoilt_file_is_written_again() {
    let mut decider = begun(named(&["a"]), &[("a", &[1])]);
    decider.spoilt(at(5000));
    assert_eq!(ports(decider.act(at(5100)), "a"), Some(vec![1]));
    decider.rendered(at(5100), Outcome::Written);
    assert_eq!(decider.act(at(5100)), Some(Act::Tell));
}

/// A store with random changes, faults and lies, and a decider that is asked as the task asks it.
struct World {
    rng: Rng,
    rule: Rule,
    decider: Decider,
    now: Duration,
    views: Views,
    /// Per service: since when the store has confirmed that it is empty, without a break.
    empty_since: BTreeMap<String, Duration>,
    /// Services for which that lasted for the grace, and which were not seen with instances since.
    certainly_empty: BTreeSet<String>,
    /// What the file shows.
    file: Option<Picture>,
    wrote_at: Option<Duration>,
    /// Since when every wanted service has been confirmed and the same.
    calm_since: Duration,
    tells_since_write: u32,
}

impl World {
    const NAMES: [&'static str; 3] = ["a", "b", "c"];

    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut rule = if rng.percent(50) { rule(Wanted::All) } else { named(&Self::NAMES) };
        rule.held = held::Rule { min_instances: 0, empty_grace: at(rng.within(1..5000)) };
        rule.debounce = at(rng.within(0..300));
        rule.debounce_max = rule.debounce + at(rng.within(0..2000));
        let decider = Decider::new(rule.clone(), Before::default(), at(0));
        Self {
            rng,
            rule,
            decider,
            now: at(0),
            views: Views::default(),
            empty_since: BTreeMap::new(),
            certainly_empty: BTreeSet::new(),
            file: None,
            wrote_at: None,
            calm_since: at(0),
            tells_since_write: 0,
        }
    }

    fn change(&mut self, calm: bool) {
        self.note_empty();
        for name in Self::NAMES {
            // A store that is not confirmed may say anything.
            let confirmed = calm || self.rng.percent(80);
            let count = if self.rng.percent(40) { 0 } else { self.rng.within(1..4) };
            let ports: Vec<u16> = (1..=count).map(|_| self.rng.within(1..9) as u16).collect();
            let listed = calm || self.rng.percent(80);
            if !listed {
                self.views.services.remove(name);
            } else if calm || self.rng.percent(60) {
                let view = View { instances: instances(name, &ports), confirmed };
                self.views.services.insert(name.to_owned(), Arc::new(view));
            } else if let Some(view) = self.views.services.get_mut(name) {
                Arc::make_mut(view).confirmed = confirmed;
            }
        }
        // A name may be known before its list is.
        let listed: BTreeSet<String> = Self::NAMES
            .into_iter()
            .filter(|name| self.views.services.contains_key(*name) || (!calm && self.rng.percent(20)))
            .map(str::to_owned)
            .collect();
        self.views.names = (calm || self.rng.percent(80)).then(|| Arc::new(listed));
        for name in Self::NAMES {
            let absent = self.views.names.as_ref().is_some_and(|names| !names.contains(name));
            let empty = self.views.certain(name).is_some_and(<[_]>::is_empty)
                || (self.rule.wanted == Wanted::All && absent);
            if empty {
                self.empty_since.entry(name.to_owned()).or_insert(self.now);
            } else {
                self.empty_since.remove(name);
            }
        }
        self.calm_since = self.now;
        let views = self.views.clone();
        self.decider.see(self.now, &views);
        // A name that is not known is not looked at.
        self.certainly_empty.retain(|name| {
            views.certain(name).is_none_or(<[_]>::is_empty) || !self.decider.services.contains_key(name)
        });
    }

    fn note_empty(&mut self) {
        let grace = self.rule.held.empty_grace;
        let long = self.empty_since.iter().filter(|(_, since)| self.now - **since >= grace);
        self.certainly_empty.extend(long.map(|(name, _)| name.clone()));
    }

    fn act(&mut self, faults: bool) {
        while let Some(act) = self.decider.act(self.now) {
            match act {
                Act::Render(picture) => self.render(picture, faults),
                Act::Tell => {
                    let worked = !faults || self.rng.percent(60);
                    if worked {
                        self.tells_since_write += 1;
                        assert_eq!(self.tells_since_write, 1, "readers are told once for each change");
                    }
                    self.decider.told(self.now, worked);
                }
            }
        }
    }

    fn render(&mut self, picture: Picture, faults: bool) {
        if faults && self.rng.percent(30) {
            self.decider.rendered(self.now, Outcome::Failed);
            return;
        }
        self.note_empty();
        // Never empty after full unless the store has said so, without a break, for the grace.
        let before = self.file.clone().unwrap_or_default();
        for (name, list) in before.iter().filter(|(_, list)| !list.is_empty()) {
            if picture.get(name).is_none_or(Vec::is_empty) {
                assert!(self.certainly_empty.contains(name), "{name} ({list:?}) emptied at {:?}", self.now);
            }
        }
        if self.file.as_ref() == Some(&picture) {
            self.decider.rendered(self.now, Outcome::Same);
            return;
        }
        if let Some(last) = self.wrote_at {
            assert!(self.now - last >= self.rule.debounce, "two writes within {:?}", self.rule.debounce);
        }
        (self.file, self.wrote_at, self.tells_since_write) = (Some(picture), Some(self.now), 0);
        self.decider.rendered(self.now, Outcome::Written);
    }

    /// Lets time pass up to `end`, waking when the decider asks for it.
    fn pass(&mut self, end: Duration, faults: bool) {
        loop {
            self.act(faults);
            match self.decider.next().filter(|next| *next <= end) {
                Some(next) => {
                    assert!(next >= self.now, "a wake-up that is past and leads to nothing");
                    self.now = next;
                    self.decider.tick(self.now);
                }
                None => break,
            }
        }
        self.now = end;
    }

    fn truth(&self) -> Picture {
        let lists = self.views.services.iter();
        lists.map(|(name, view)| (name.clone(), view.instances.clone())).collect()
    }
}

#[test]
fn random_faults_never_empty_a_file_and_it_always_comes_right() {
    let seed = testkit::seed();
    for round in 0..400 {
        let mut world = World::new(seed.wrapping_add(round));
        for _ in 0..60 {
            world.change(false);
            let pause = at(world.rng.within(0..1500));
            world.pass(world.now + pause, true);
        }
        world.change(true);
        let bound = world.rule.held.empty_grace + world.rule.debounce_max;
        // What failed before may be in its wait.
        let retry = if world.decider.write_again.is_some() { LONGEST_WAIT } else { Duration::ZERO };
        world.pass(world.calm_since + bound + retry, false);
        assert_eq!(world.file, Some(world.truth()), "seed {seed}, round {round}");
        world.pass(world.now + LONGEST_WAIT, false);
        assert!(!world.decider.is_behind() && world.tells_since_write == 1, "seed {seed}, round {round}");
        assert_eq!(world.decider.next(), None, "seed {seed}, round {round}: it rests");
    }
}
