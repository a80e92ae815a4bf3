//! Single decisions that a random run meets too seldom: of the rules, and of the machine.

use std::time::Duration;

use gone::lease::rules::{Contender, Kept, Record, Reply, Request, Scene, Standing, decide};
use gone::lease::{Command, Input, Lease, RequestId, State, Terms, Timing};

const SECOND: u64 = 1_000_000;

fn who(owner: &str) -> Contender {
    Contender { owner: owner.into(), address: format!("tcp://{owner}"), expiry_ms: 10_000, compat: false }
}

fn ask(kept: &mut Kept, now_s: u64, run: &str, owner: &str, request: &Request) -> Reply {
    decide(kept, &Scene { now_us: now_s * SECOND, run }, &who(owner), request).0
}

fn acquire() -> Request {
    Request::Acquire { observed: None, floor: 0, fresh: false }
}

fn acquired(reply: Reply) -> (u64, u64) {
    match reply {
        Reply::Acquired { token, end_us } => (token, end_us),
        other => panic!("{other:?}"),
    }
}

/// A store in which `a` holds the lease from second 1000 on, of the run "one".
fn held_by_a() -> (Kept, u64, u64) {
    let mut kept = Kept::default();
    assert!(matches!(ask(&mut kept, 990, "one", "a", &acquire()), Reply::Busy(_)));
    let (token, end_us) = acquired(ask(&mut kept, 1000, "one", "a", &acquire()));
    (kept, token, end_us)
}

#[test]
fn a_renewal_that_was_held_up_raises_no_lease_from_the_dead() {
    let (kept, token, end_us) = held_by_a();
    let renew = Request::Renew { token, end_us };
    let quarantined = {
        let mut kept = kept.clone();
        assert!(matches!(ask(&mut kept, 1001, "two", "b", &acquire()), Reply::Busy(_)));
        kept
    };
    for (lost, run) in [(Kept::default(), "one"), (kept, "two"), (quarantined, "two")] {
        assert!(
            matches!(ask(&mut lost.clone(), 1009, run, "a", &renew), Reply::Renewed { .. }),
            "in time: {lost:?}"
        );
        assert!(
            matches!(ask(&mut lost.clone(), 1010, run, "a", &renew), Reply::Lost(_)),
            "too late: {lost:?}"
        );
    }
}

#[test]
fn a_release_frees_nothing_in_another_run() {
    let (mut kept, token, _) = held_by_a();
    let release = Request::Release { token };
    assert!(matches!(ask(&mut kept, 1005, "two", "a", &release), Reply::Lost(_)));
    assert!(matches!(ask(&mut kept, 1005, "two", "b", &acquire()), Reply::Busy(_)));
    // And one that the old run recorded is not believed.
    let (mut kept, token, _) = held_by_a();
    assert_eq!(ask(&mut kept, 1005, "one", "a", &Request::Release { token }), Reply::Released);
    let Reply::Busy(view) = ask(&mut kept, 1006, "two", "b", &acquire()) else { panic!() };
    assert_eq!((view.standing, view.remaining), (Standing::Quarantine, Duration::from_secs(10)));
    acquired(ask(&mut kept, 1016, "two", "b", &acquire()));
}

#[test]
fn a_state_that_changed_is_not_taken_by_its_old_name() {
    let (mut kept, token, end_us) = held_by_a();
    let seen = kept.record.as_ref().map(Record::seen);
    let take = Request::Acquire { observed: seen, floor: 0, fresh: false };
    assert!(matches!(
        ask(&mut kept, 1003, "one", "a", &Request::Renew { token, end_us }),
        Reply::Renewed { .. }
    ));
    assert!(matches!(ask(&mut kept, 1004, "one", "b", &take), Reply::Busy(_)));
    let seen = kept.record.as_ref().map(Record::seen);
    acquired(ask(&mut kept, 1004, "one", "b", &Request::Acquire { observed: seen, floor: 0, fresh: false }));
    assert!(matches!(ask(&mut kept, 1005, "one", "a", &Request::Renew { token, end_us }), Reply::Lost(_)));
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A machine with an expiry of 30 s and what it said last.
struct Driven(Lease);

impl Driven {
    fn connected() -> (Self, RequestId) {
        let terms =
            Terms { timing: Timing::of(ms(30_000)), owner: "me".into(), fresh: false, look_every: None };
        let mut driven = Self(Lease::new(terms, ms(0)));
        assert_eq!(driven.input(0, Input::Tick), [Command::Dial]);
        let sent = driven.input(0, Input::Connected);
        let [Command::Send { id, .. }] = sent[..] else { panic!("{sent:?}") };
        (driven, id)
    }

    fn input(&mut self, at_ms: u64, input: Input) -> Vec<Command> {
        self.0.handle(ms(at_ms), input, 0.5)
    }

    fn reply(&mut self, at_ms: u64, id: RequestId, reply: Reply) -> Vec<Command> {
        self.input(at_ms, Input::Answered { id, reply })
    }
}

#[test]
fn the_deadline_counts_from_the_sending_and_late_answers_count_nothing() {
    let (mut driven, id) = Driven::connected();
    let commands = driven.reply(1500, id, Reply::Acquired { token: 7, end_us: 1 });
    let arm = |sent: u64| Command::Arm { stop_at: ms(sent + 24_650), kill_at: ms(sent + 29_650) };
    assert_eq!(commands, [arm(0), Command::Start { token: 7 }]);
    assert_eq!(driven.0.wake_at(), Some(ms(10_000)));
    let sent = driven.input(10_000, Input::Tick);
    let [Command::Send { id: renewal, .. }] = sent[..] else { panic!("{sent:?}") };
    assert_eq!(driven.reply(10_100, id, Reply::Renewed { end_us: 9 }), [], "an answer of the request before");
    assert_eq!(driven.reply(11_000, renewal, Reply::Renewed { end_us: 2 }), [arm(10_000)]);
    assert_eq!(driven.reply(11_001, renewal, Reply::Renewed { end_us: 2 }), [], "the same once more");

    // Then silence: given up after the patience, dialled again, and stopped by the clock alone.
    driven.input(20_000, Input::Tick);
    assert_eq!(driven.input(22_000, Input::Tick), [Command::Hangup]);
    assert_eq!(driven.reply(22_001, renewal + 1, Reply::Renewed { end_us: 3 }), []);
    assert!(matches!(driven.0.state(ms(34_649)), State::Held { token: 7, .. }));
    assert!(matches!(driven.0.state(ms(34_650)), State::Stopping { token: 7, .. }), "before any tick");
    assert!(driven.input(34_650, Input::Tick).contains(&arm(10_000)));
}

#[test]
fn an_answer_that_comes_when_the_lease_is_as_good_as_over_starts_nothing() {
    let (mut driven, id) = Driven::connected();
    // Everything stood still meanwhile, the clock did not.
    let commands = driven.reply(24_650, id, Reply::Acquired { token: 7, end_us: 1 });
    let [Command::Send { request: Request::Release { token: 7 }, .. }] = commands[..] else {
        panic!("{commands:?}")
    };
}

#[test]
fn a_lease_that_somebody_else_has_ends_the_child_at_once() {
    let (mut driven, id) = Driven::connected();
    driven.reply(1, id, Reply::Acquired { token: 7, end_us: 1 });
    let sent = driven.input(10_000, Input::Tick);
    let [Command::Send { id, .. }] = sent[..] else { panic!("{sent:?}") };
    let (mut kept, ..) = held_by_a();
    let Reply::Lost(view) = ask(&mut kept, 1001, "one", "b", &Request::Renew { token: 1, end_us: 0 }) else {
        panic!("somebody else's lease is renewed")
    };
    let at_once = Command::Arm { stop_at: ms(10_001), kill_at: ms(10_001) };
    assert_eq!(driven.reply(10_001, id, Reply::Lost(view)), [at_once]);
    // Nothing to release: it contends again when the child is dead.
    let commands = driven.input(10_050, Input::ChildDead);
    assert!(matches!(commands[..], [Command::Send { request: Request::Acquire { .. }, .. }]), "{commands:?}");
    assert!(driven.0.floor() >= 1_000_000, "the token of the other one is remembered");
}

#[test]
fn an_orderly_stop_keeps_the_lease_until_the_child_is_dead() {
    let (mut driven, id) = Driven::connected();
    driven.reply(1, id, Reply::Acquired { token: 7, end_us: 1 });
    let stop = driven.input(9_000, Input::Stop);
    assert_eq!(
        stop,
        [Command::Arm { stop_at: ms(9_000), kill_at: ms(14_000) }],
        "the grace, not the deadline"
    );
    let renewal = driven.input(10_000, Input::Tick);
    let [Command::Send { id, request: Request::Renew { .. } }] = renewal[..] else { panic!("{renewal:?}") };
    driven.reply(10_010, id, Reply::Renewed { end_us: 2 });
    let release = driven.input(12_000, Input::ChildDead);
    let [Command::Send { id, request: Request::Release { token: 7 } }] = release[..] else {
        panic!("{release:?}")
    };
    assert_eq!(driven.reply(12_010, id, Reply::Released), [Command::Hangup]);
    assert_eq!(driven.0.wake_at(), None);
}

#[test]
fn a_waiter_looks_shortly_before_the_end_and_at_it() {
    let (mut driven, id) = Driven::connected();
    let (mut kept, ..) = held_by_a();
    let Reply::Busy(mut view) = ask(&mut kept, 1009, "one", "b", &acquire()) else { panic!() };
    assert_eq!(view.remaining, ms(1000));
    driven.reply(10, id, Reply::Busy(view.clone()));
    assert_eq!(driven.0.wake_at(), Some(ms(980)));
    let sent = driven.input(980, Input::Tick);
    let [Command::Send { id, .. }] = sent[..] else { panic!("{sent:?}") };
    view.remaining = ms(25);
    driven.reply(982, id, Reply::Busy(view));
    assert_eq!(driven.0.wake_at(), Some(ms(1005)));
    // A change that is told is looked at now, and one told meanwhile when the answer is there.
    let sent = driven.input(990, Input::Changed);
    let id = sent.iter().find_map(|command| match command {
        Command::Send { id, .. } => Some(*id),
        _ => None,
    });
    assert_eq!(driven.input(991, Input::Changed), []);
    let Reply::Busy(view) = ask(&mut kept, 1001, "one", "b", &acquire()) else { panic!() };
    assert_eq!(driven.reply(992, id.unwrap(), Reply::Busy(view)).len(), 1, "asks again at once");
}

#[test]
fn a_stop_while_an_old_release_is_still_under_way_ends_with_its_answer() {
    let (mut driven, id) = Driven::connected();
    driven.reply(1, id, Reply::Acquired { token: 7, end_us: 1 });
    driven.input(2, Input::GiveUp { pause: Duration::ZERO });
    // The child took so long to die that the lease is over before the release is answered.
    let sent = driven.input(29_999, Input::ChildDead);
    let id = sent.iter().find_map(|command| match command {
        Command::Send { id, request: Request::Renew { .. } | Request::Release { .. } } => Some(*id),
        _ => None,
    });
    driven.input(30_000, Input::Tick);
    driven.input(30_001, Input::Stop);
    assert_eq!(driven.reply(30_002, id.unwrap(), Reply::Released), [Command::Hangup]);
    assert_eq!(driven.0.wake_at(), None);
}
