use Action::*;

use super::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const EXITED: Event = Event::Ended { status: Status::Code(3), why: Why::Exited };

fn runner(on_exit: OnExit) -> Runner {
    Runner::new(Rules { on_exit, failures: 2 })
}

/// The lease of token 7 at 0 s: SIGTERM at 20 s, SIGKILL at 25 s; the child runs from 1 s on.
fn running(on_exit: OnExit) -> Runner {
    let mut runner = runner(on_exit);
    assert_eq!(at(&mut runner, 0, Event::Armed { stop_at: s(20), kill_at: s(25) }), []);
    assert_eq!(at(&mut runner, 0, Event::Start { token: 7 }), [Spawn { token: 7, kill_at: s(25) }]);
    assert_eq!(at(&mut runner, 1, Event::Started), [Rearm { kill_at: s(25) }, Open { token: 7 }]);
    runner
}

fn at(runner: &mut Runner, seconds: u64, event: Event) -> Vec<Action> {
    runner.handle(s(seconds), 0.0, event)
}

fn due(now: u64, kill_at: u64) -> Event {
    Event::Armed { stop_at: s(now), kill_at: s(kill_at) }
}

#[test]
fn a_renewal_moves_the_deadline_and_nothing_else() {
    let mut runner = running(OnExit::Release);
    let renewed = Event::Armed { stop_at: s(30), kill_at: s(35) };
    assert_eq!(at(&mut runner, 10, renewed), [Rearm { kill_at: s(35) }]);
}

#[test]
fn a_lost_lease_stops_the_child_and_is_told_when_it_is_dead() {
    let mut runner = running(OnExit::Exit);
    let lost = [CountLoss, Close, Stop, Rearm { kill_at: s(25) }];
    assert_eq!(at(&mut runner, 20, due(20, 25)), lost);
    assert_eq!(at(&mut runner, 25, due(20, 25)), [Rearm { kill_at: s(25) }, Kill]);
    let dead = Event::Ended { status: Status::Signal(9), why: Why::Stopped };
    assert_eq!(at(&mut runner, 25, dead), [Close, ChildDead]);
    // And contends again, whatever is to be done when a child ends by itself.
    assert_eq!(at(&mut runner, 60, Event::Armed { stop_at: s(80), kill_at: s(85) }), [], "the next lease");
    assert_eq!(at(&mut runner, 60, Event::Start { token: 8 }), [Spawn { token: 8, kill_at: s(85) }]);
}

#[test]
fn a_lease_that_is_somebody_elses_kills_at_once() {
    let mut runner = running(OnExit::Release);
    let actions = at(&mut runner, 10, due(10, 10));
    assert_eq!(actions, [CountLoss, Close, Stop, Rearm { kill_at: s(10) }, Kill]);
}

#[test]
fn the_end_of_a_child_is_what_the_rule_says() {
    let mut release = running(OnExit::Release);
    assert_eq!(at(&mut release, 5, EXITED), [Close, GiveUp { pause: s(1) }, ChildDead]);
    let mut exit = running(OnExit::Exit);
    assert_eq!(at(&mut exit, 5, EXITED), [Close, Leave, ChildDead]);
    assert_eq!(at(&mut exit, 5, Event::LeaseOver), [Finish { code: Some(3) }]);
    let mut restart = running(OnExit::Restart);
    assert_eq!(at(&mut restart, 5, EXITED), [Close, RestartAfter { pause: s(1) }]);
    assert_eq!(at(&mut restart, 6, Event::RestartDue), [Spawn { token: 7, kill_at: s(25) }]);
    assert_eq!(at(&mut restart, 6, Event::Started), [Rearm { kill_at: s(25) }, Open { token: 7 }]);
    assert_eq!(at(&mut restart, 7, EXITED), [Close, RestartAfter { pause: s(2) }]);
    let late = at(&mut restart, 21, Event::RestartDue);
    assert_eq!(late, [GiveUp { pause: s(4) }, ChildDead], "renewed meanwhile or not, the lease is let go");
}

#[test]
fn a_child_that_could_not_start_in_time_leaves_no_lease_behind() {
    let mut runner = Runner::new(Rules { on_exit: OnExit::Release, failures: 3 });
    at(&mut runner, 0, due(20, 25));
    assert_eq!(at(&mut runner, 0, Event::Start { token: 7 }), [Spawn { token: 7, kill_at: s(25) }]);
    // The lease was renewed while the guard was being started.
    at(&mut runner, 1, due(21, 26));
    assert_eq!(at(&mut runner, 2, Event::TooLate), [GiveUp { pause: s(1) }, ChildDead]);
}

#[test]
fn a_lease_that_ends_between_two_lives_is_let_go() {
    let mut runner = running(OnExit::Restart);
    at(&mut runner, 5, EXITED);
    assert_eq!(at(&mut runner, 6, due(6, 11)), [ChildDead]);
    assert_eq!(at(&mut runner, 6, Event::RestartDue), []);
}

#[test]
fn codes_are_those_of_a_shell() {
    for (status, code) in
        [(Status::Code(0), 0), (Status::Code(255), 255), (Status::Signal(9), 137), (Status::Unknown, 1)]
    {
        assert_eq!(exit_code(status), code);
    }
}

#[test]
fn a_guard_that_was_killed_gives_the_lease_away_even_where_it_is_kept() {
    let mut runner = running(OnExit::Restart);
    let lost = Event::Ended { status: Status::Unknown, why: Why::GuardLost };
    assert_eq!(at(&mut runner, 5, lost), [Close, GiveUp { pause: s(1) }, ChildDead]);
}

#[test]
fn a_guard_that_is_faster_than_the_lease_lets_go_of_it() {
    let mut runner = running(OnExit::Exit);
    let end = Event::Ended { status: Status::Signal(15), why: Why::DeadlineReached };
    assert_eq!(at(&mut runner, 19, end), [Close, GiveUp { pause: s(0) }, ChildDead]);
}

#[test]
fn failed_checks_in_a_row_give_the_lease_away_once() {
    let mut runner = running(OnExit::Restart);
    let (well, unwell) = (Event::Checked { well: true }, Event::Checked { well: false });
    assert_eq!(at(&mut runner, 2, unwell), []);
    assert_eq!(at(&mut runner, 3, well), []);
    assert_eq!(at(&mut runner, 4, unwell), []);
    assert_eq!(at(&mut runner, 5, unwell), [CountUnwell, GiveUp { pause: s(1) }]);
    assert_eq!(at(&mut runner, 6, unwell), []);
    assert_eq!(at(&mut runner, 6, due(6, 11)), [Close, Stop, Rearm { kill_at: s(11) }], "no loss");
    let dead = Event::Ended { status: Status::Code(0), why: Why::Stopped };
    assert_eq!(at(&mut runner, 7, dead), [Close, ChildDead]);
}

#[test]
fn quitting_stops_in_order() {
    let mut runner = running(OnExit::Release);
    assert_eq!(at(&mut runner, 5, Event::Quit), [Leave]);
    assert_eq!(at(&mut runner, 5, Event::Quit), []);
    assert_eq!(at(&mut runner, 5, due(5, 10)), [Close, Stop, Rearm { kill_at: s(10) }]);
    assert_eq!(at(&mut runner, 5, Event::WaitedEnough), [], "not before the child is dead");
    // That it ended by itself meanwhile changes nothing.
    assert_eq!(at(&mut runner, 6, EXITED), [Close, ChildDead]);
    assert_eq!(at(&mut runner, 6, Event::LeaseOver), [Finish { code: None }]);
    let mut unreachable = running(OnExit::Release);
    at(&mut unreachable, 5, Event::Quit);
    at(&mut unreachable, 5, due(5, 10));
    at(&mut unreachable, 6, EXITED);
    assert_eq!(at(&mut unreachable, 15, Event::WaitedEnough), [Finish { code: None }]);
}

#[test]
fn a_stop_during_the_start_is_not_forgotten() {
    let mut runner = runner(OnExit::Release);
    at(&mut runner, 0, Event::Armed { stop_at: s(20), kill_at: s(25) });
    at(&mut runner, 0, Event::Start { token: 7 });
    assert_eq!(at(&mut runner, 1, due(1, 6)), []);
    assert_eq!(at(&mut runner, 2, Event::Started), [Close, Stop, Rearm { kill_at: s(6) }]);
}

#[test]
fn nothing_is_started_too_late_or_while_quitting() {
    let mut late = runner(OnExit::Release);
    at(&mut late, 0, Event::Armed { stop_at: s(20), kill_at: s(25) });
    assert_eq!(at(&mut late, 20, Event::Start { token: 7 }), [GiveUp { pause: s(1) }, ChildDead]);
    let mut quitting = runner(OnExit::Release);
    at(&mut quitting, 0, Event::Quit);
    at(&mut quitting, 0, Event::Armed { stop_at: s(20), kill_at: s(25) });
    assert_eq!(at(&mut quitting, 0, Event::Start { token: 7 }), [ChildDead]);
    assert_eq!(at(&mut quitting, 0, due(0, 5)), [ChildDead]);
}

#[test]
fn a_command_that_cannot_be_started_leaves_the_lease_to_others() {
    for (on_exit, expected) in [
        (OnExit::Release, vec![GiveUp { pause: s(1) }, ChildDead]),
        (OnExit::Restart, vec![GiveUp { pause: s(1) }, ChildDead]),
        (OnExit::Exit, vec![Leave, ChildDead]),
    ] {
        let mut runner = runner(on_exit);
        at(&mut runner, 0, Event::Armed { stop_at: s(20), kill_at: s(25) });
        at(&mut runner, 0, Event::Start { token: 7 });
        assert_eq!(at(&mut runner, 1, Event::NotStarted { code: 127 }), expected);
        let code = (on_exit == OnExit::Exit).then_some(127);
        assert_eq!(at(&mut runner, 1, Event::LeaseOver), [Finish { code }]);
    }
}
