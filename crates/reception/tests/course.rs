//! The decisions of candidates under many faults: never two leaders at a time, tokens only grow, and somebody leads again soon
//! after the last fault.

use std::time::Duration;

use reception::Error;
use reception::backend::{Renewal, Standing, Tenure, Turn};
use reception::course::{Answer, Ask, Course, LONGEST_LOSS_PAUSE, State, Step};
use supervise::Boottime;
use testkit::Rng;

const TTL: Duration = Duration::from_secs(1);
const RENEW_EVERY: Duration = Duration::from_millis(300);
/// What a request may take before it is given up.
const PATIENCE: Duration = Duration::from_millis(150);
const STEP: Duration = Duration::from_millis(5);
/// How long the network can hold up a request, in milliseconds.
const HELD_UP: u64 = 2_000;
const CANDIDATES: usize = 3;

#[derive(Clone, Copy)]
struct Record {
    owner: u64,
    /// Which of the owner's requests put it there.
    number: u64,
    created: u64,
    ends: Boottime,
}

/// A store with the line of one name.
#[derive(Default)]
struct Store {
    line: Vec<Record>,
    last: u64,
    version: u64,
}

impl Store {
    fn expire(&mut self, now: Boottime) {
        let before = self.line.len();
        self.line.retain(|record| record.ends > now);
        self.version += u64::from(before != self.line.len());
    }

    fn take(&mut self, call: Call, now: Boottime) -> Answer {
        let Call { ask, sent, owner, created, number } = call;
        // What comes late finds another state and does nothing.
        let overtaken = self.line.iter().any(|record| record.owner == owner && record.number > number);
        match ask {
            Ask::Enter if overtaken => failed(ask),
            Ask::Leave if overtaken => failed(ask),
            Ask::Enter => {
                self.line.retain(|record| record.owner != owner);
                self.last += 1;
                self.version += 1;
                self.line.push(Record { owner, number, created: self.last, ends: now + TTL });
                Answer::Entered(Ok(Tenure { created: self.last, until: sent + TTL }))
            }
            Ask::Renew => match self.line.iter_mut().find(|record| record.created == created) {
                Some(record) => {
                    record.ends = now + TTL;
                    Answer::Renewed(Ok(Renewal::Kept(sent + TTL)))
                }
                None => Answer::Renewed(Ok(Renewal::Lost("it is gone".to_owned()))),
            },
            Ask::Standing => {
                let first = self.line.iter().min_by_key(|record| record.created);
                let ours = first.filter(|first| first.owner == owner && first.created == created);
                Answer::Stood(Ok(ours.map_or(Standing::Waits, |first| Standing::Leads(first.created))))
            }
            Ask::Leave => {
                self.line.retain(|record| record.owner != owner);
                self.version += 1;
                Answer::Left(Ok(()))
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Call {
    ask: Ask,
    sent: Boottime,
    owner: u64,
    created: u64,
    /// Counts the owner's requests.
    number: u64,
}

/// A request on its way.
struct Under {
    call: Call,
    arrives: Option<Boottime>,
    answers: Option<Boottime>,
    answer: Option<Answer>,
}

struct Candidate {
    /// Another one for each process.
    owner: u64,
    course: Course,
    created: u64,
    sent: u64,
    under: Option<Under>,
    seen: u64,
    cut_until: Boottime,
    frozen_until: Boottime,
    term: Option<u64>,
}

impl Candidate {
    fn new(owner: u64, now: Boottime) -> Self {
        Self {
            owner,
            course: Course::new(true, RENEW_EVERY, now),
            created: 0,
            sent: 0,
            under: None,
            seen: 0,
            cut_until: now,
            frozen_until: now,
            term: None,
        }
    }
}

struct World {
    rng: Rng,
    now: Boottime,
    store: Store,
    candidates: Vec<Candidate>,
    /// Given up by who sent them, and still on their way.
    late: Vec<(Boottime, Call)>,
    owners: u64,
    newest_token: u64,
    terms: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Boottime::from_nanos(1_000_000_000);
        let owners = u64::try_from(CANDIDATES).expect("it is small");
        Self {
            rng: Rng::new(seed),
            now,
            store: Store::default(),
            candidates: (0..owners).map(|owner| Candidate::new(owner, now)).collect(),
            late: Vec::new(),
            owners,
            newest_token: 0,
            terms: 0,
        }
    }

    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.rng.within(0..most + 1))
    }

    fn random(&mut self) -> f64 {
        self.rng.within(0..1_000) as f64 / 1_000.0
    }

    fn fault(&mut self) {
        let which = usize::try_from(self.rng.within(0..3)).expect("it is small");
        let long = if self.rng.percent(30) { 3_000 } else { 400 };
        let until = self.now + self.millis(long);
        match self.rng.within(0..10) {
            0..4 => self.candidates[which].cut_until = until,
            4..7 => self.candidates[which].frozen_until = until,
            7 => {
                let pause = self.millis(200);
                self.candidates[which].course.resign(self.now, pause);
            }
            8 => self.candidates.iter_mut().for_each(|candidate| candidate.cut_until = until),
            // Killed, and started again: what it sent may still arrive.
            _ => {
                self.give_up(which);
                self.candidates[which] = Candidate::new(self.owners, self.now);
                self.owners += 1;
            }
        }
    }

    fn give_up(&mut self, which: usize) {
        if let Some(Under { call, arrives: Some(at), .. }) = self.candidates[which].under.take() {
            self.late.push((at, call));
        }
    }

    fn step(&mut self) {
        self.now = self.now + STEP;
        let now = self.now;
        self.store.expire(now);
        let arrived = self.late.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>();
        for (_, call) in arrived {
            self.store.take(call, now);
        }
        for which in 0..CANDIDATES {
            if let Some(under) = &mut self.candidates[which].under
                && under.arrives.is_some_and(|at| at <= now)
            {
                under.arrives = None;
                under.answer = Some(self.store.take(under.call, now));
            }
            if self.candidates[which].frozen_until <= now {
                self.live(which);
            }
        }
        self.judge();
    }

    fn live(&mut self, which: usize) {
        let (now, random) = (self.now, self.random());
        let candidate = &mut self.candidates[which];
        if let Some(under) = &mut candidate.under {
            if under.answers.is_some_and(|at| at <= now) {
                let answer = under.answer.take().expect("it arrived before it was answered");
                if let Answer::Entered(Ok(tenure)) = &answer {
                    candidate.created = tenure.created;
                }
                candidate.under = None;
                candidate.course.answer(now, random, answer);
            } else if under.call.sent + PATIENCE <= now {
                let ask = under.call.ask;
                candidate.course.answer(now, random, failed(ask));
                self.give_up(which);
            } else {
                return;
            }
        }
        self.go_on(which);
    }

    fn go_on(&mut self, which: usize) {
        let (now, random) = (self.now, self.random());
        let (told, broken) = (self.rng.percent(90), self.rng.percent(5));
        let version = self.store.version;
        let candidate = &mut self.candidates[which];
        candidate.course.tick(now);
        let up = candidate.cut_until <= now;
        match candidate.course.step(now) {
            Step::Ask(ask) => self.send(which, ask, up),
            Step::Wait { turns: true, .. } if up => {
                let moved = std::mem::replace(&mut candidate.seen, version) != version;
                if moved && told {
                    candidate.course.answer(now, random, Answer::Turned(Ok(Turn::Moved)));
                }
            }
            Step::Wait { turns: true, .. } if broken => {
                candidate.course.answer(now, random, Answer::Turned(Err(cut())));
            }
            _ => {}
        }
    }

    fn send(&mut self, which: usize, ask: Ask, up: bool) {
        let longest = if up { 20 } else { HELD_UP };
        let (there, back) = (self.millis(longest), self.millis(longest));
        let lost = !up && self.rng.percent(70);
        let arrives = (!lost).then(|| self.now + there);
        let candidate = &mut self.candidates[which];
        candidate.sent += 1;
        let Candidate { owner, created, sent: number, .. } = *candidate;
        let call = Call { ask, sent: self.now, owner, created, number };
        candidate.under = Some(Under { call, arrives, answers: arrives.map(|at| at + back), answer: None });
    }

    fn judge(&mut self) {
        let mut leaders = 0;
        for candidate in &mut self.candidates {
            // A frozen one counts too: what it started goes on until its guard ends it, at the term's end.
            let State::Leading { token, until } = candidate.course.state(self.now) else {
                candidate.term = None;
                continue;
            };
            assert!(until > self.now);
            leaders += 1;
            if candidate.term.replace(token) != Some(token) {
                assert!(token > self.newest_token, "token {token} came after {}", self.newest_token);
                self.newest_token = token;
                self.terms += 1;
            }
        }
        assert!(leaders <= 1, "{leaders} leaders at {:?}", self.now);
    }

    /// Ends all faults, and tells how long it takes until somebody leads.
    fn heal(&mut self) -> Duration {
        let healed = self.now;
        for candidate in &mut self.candidates {
            candidate.cut_until = healed;
            candidate.frozen_until = healed;
        }
        let leads = |c: &Candidate, now| matches!(c.course.state(now), State::Leading { .. });
        while !self.candidates.iter().any(|candidate| leads(candidate, self.now)) {
            self.step();
            assert!(self.now.since(healed) < TTL * 60, "nobody leads, long after the last fault");
        }
        self.now.since(healed)
    }
}

fn cut() -> Error {
    Error::Disconnected { backend: "store".to_owned(), what: "cut".to_owned() }
}

fn failed(ask: Ask) -> Answer {
    match ask {
        Ask::Enter => Answer::Entered(Err(cut())),
        Ask::Renew => Answer::Renewed(Err(cut())),
        Ask::Standing => Answer::Stood(Err(cut())),
        Ask::Leave => Answer::Left(Err(cut())),
    }
}

#[test]
fn never_two_leaders_and_soon_one_again() {
    let faults: u64 = std::env::var("MUSTER_FAULTS")
        .map_or(20_000, |text| text.parse().expect("MUSTER_FAULTS is a number"));
    let mut seed = testkit::seed();
    let (mut done, mut terms, mut slowest) = (0, 0, Duration::ZERO);
    while done < faults {
        println!("SEED={seed} replays what comes now");
        let mut world = World::new(seed);
        for _ in 0..100 {
            world.fault();
            done += 1;
            for _ in 0..world.rng.within(1..60) {
                world.step();
            }
        }
        slowest = slowest.max(world.heal());
        terms += world.terms;
        seed += 1;
    }
    println!("{done} faults, {terms} terms, the slowest leader came {slowest:?} after the last fault");
    // The last that a fault held up can put a dead record there, which lasts for its time.
    assert!(slowest < Duration::from_millis(HELD_UP) + TTL + TTL, "{slowest:?}");
    assert!(terms > done / 20, "hardly anybody led: {terms} terms");
}

/// Enters, is kept so often, loses the record, and tells the pause until the next entry.
fn pause_after_a_loss(course: &mut Course, now: &mut Boottime, renewals: usize, random: f64) -> Duration {
    let tenure = Tenure { created: 1, until: *now + TTL };
    assert_eq!(course.step(*now), Step::Ask(Ask::Enter));
    course.answer(*now, random, Answer::Entered(Ok(tenure)));
    assert!(course.is_entered());
    for _ in 0..renewals {
        course.answer(*now, random, Answer::Turned(Ok(Turn::Alarm)));
        assert_eq!(course.step(*now), Step::Ask(Ask::Renew));
        course.answer(*now, random, Answer::Renewed(Ok(Renewal::Kept(*now + TTL))));
    }
    course.answer(*now, random, Answer::Turned(Ok(Turn::Alarm)));
    assert_eq!(course.step(*now), Step::Ask(Ask::Renew));
    course.answer(*now, random, Answer::Renewed(Ok(Renewal::Lost("another's".to_owned()))));
    assert!(!course.is_entered());
    let lost = *now;
    if let Step::Wait { until, turns: false } = course.step(*now) {
        *now = until;
    }
    now.since(lost)
}

#[test]
fn who_loses_its_record_time_and_again_enters_more_and_more_seldom() {
    for candidate in [false, true] {
        let now = &mut Boottime::from_nanos(1_000_000_000);
        let mut course = Course::new(candidate, RENEW_EVERY, *now);
        assert_eq!(pause_after_a_loss(&mut course, now, 1, 1.0), Duration::ZERO, "it had stood");
        let mut expected = Duration::from_millis(20);
        for _ in 0..9 {
            assert_eq!(pause_after_a_loss(&mut course, now, 0, 1.0), expected);
            expected *= 2;
        }
        for _ in 0..40 {
            assert_eq!(pause_after_a_loss(&mut course, now, 0, 1.0), LONGEST_LOSS_PAUSE);
            assert_eq!(pause_after_a_loss(&mut course, now, 0, 0.0), LONGEST_LOSS_PAUSE / 2);
        }
        assert_eq!(pause_after_a_loss(&mut course, now, 2, 1.0), Duration::ZERO);
        assert_eq!(pause_after_a_loss(&mut course, now, 0, 1.0), Duration::from_millis(20), "it begins anew");
    }
}
