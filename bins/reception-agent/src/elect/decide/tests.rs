use super::*;

const TTL: Duration = Duration::from_secs(10);
const MARGIN: Duration = Duration::from_millis(150);

fn at(millis: u64) -> Boottime {
    Boottime::from_nanos(millis * 1_000_000)
}

fn leading() -> Leading {
    Leading::new(Terms::of(TTL, Duration::from_secs(2)))
}

fn led(token: u64, until: u64) -> Event {
    Event::Candidate(Candidate::Leading { token, until: at(until) })
}

fn lost() -> Event {
    Event::Candidate(Candidate::Away(None))
}

fn kill_at(until: u64) -> Boottime {
    at(until).earlier(MARGIN)
}

/// One whose command runs under token 5 until 10 s, since 1 s.
fn running() -> Leading {
    let mut leading = leading();
    assert_eq!(leading.handle(at(0), 0.0, Event::Candidate(Candidate::Waiting)), []);
    assert_eq!(
        leading.handle(at(1000), 0.0, led(5, 10_000)),
        [Action::Spawn { token: 5, kill_at: kill_at(10_000) }]
    );
    assert_eq!(leading.handle(at(1000), 0.0, Event::Started), [Action::Rearm { kill_at: kill_at(10_000) }]);
    leading
}

#[test]
fn a_renewal_moves_the_deadline() {
    let mut leading = running();
    assert_eq!(leading.handle(at(3000), 0.0, led(5, 13_000)), [Action::Rearm { kill_at: kill_at(13_000) }]);
}

#[test]
fn a_lost_term_kills_at_once_and_the_next_waits_for_the_death() {
    let mut leading = running();
    assert_eq!(leading.handle(at(2000), 0.0, lost()), [Action::Kill]);
    // Led again while the old command is dying.
    assert_eq!(leading.handle(at(2001), 0.0, led(6, 12_000)), [Action::Kill]);
    let dead = Event::Ended { why: Why::Stopped };
    assert_eq!(leading.handle(at(2002), 0.0, dead), [Action::Spawn { token: 6, kill_at: kill_at(12_000) }]);
}

#[test]
fn another_term_without_a_word_of_the_loss_kills_as_well() {
    let mut leading = running();
    assert_eq!(leading.handle(at(2000), 0.0, led(6, 12_000)), [Action::Kill]);
}

#[test]
fn a_command_that_ends_gives_the_term_up_with_a_pause_and_is_not_started_under_it_again() {
    let mut leading = running();
    let ended = leading.handle(at(2000), 0.0, Event::Ended { why: Why::Exited });
    assert_eq!(ended, [Action::Resign { pause: Duration::from_secs(1) }]);
    assert_eq!(leading.handle(at(2001), 0.0, led(5, 12_000)), []);
    assert_eq!(leading.handle(at(2002), 0.0, lost()), []);
    let again = leading.handle(at(4000), 0.0, led(9, 14_000));
    assert_eq!(again, [Action::Spawn { token: 9, kill_at: kill_at(14_000) }]);
    // It cannot be started: the pause grows.
    let failed = leading.handle(at(4001), 0.0, Event::NotStarted);
    assert_eq!(failed, [Action::Resign { pause: Duration::from_secs(2) }]);
}

#[test]
fn the_guard_may_be_faster_than_the_stores_word() {
    let mut leading = running();
    let ended = leading.handle(at(9000), 0.0, Event::Ended { why: Why::DeadlineReached });
    assert_eq!(ended, [Action::Resign { pause: Duration::ZERO }]);
    let mut leading = running();
    leading.handle(at(9000), 0.0, lost());
    assert_eq!(leading.handle(at(9001), 0.0, Event::Ended { why: Why::DeadlineReached }), []);
}

#[test]
fn a_term_that_ends_while_the_command_starts_kills_it() {
    let mut leading = leading();
    leading.handle(at(1000), 0.0, led(5, 10_000));
    assert_eq!(leading.handle(at(1001), 0.0, lost()), []);
    assert_eq!(leading.handle(at(1002), 0.0, led(6, 11_000)), []);
    assert_eq!(leading.handle(at(1003), 0.0, Event::Started), [Action::Kill]);
    let dead = Event::Ended { why: Why::Stopped };
    assert_eq!(leading.handle(at(1004), 0.0, dead), [Action::Spawn { token: 6, kill_at: kill_at(11_000) }]);
}

#[test]
fn a_term_within_its_margin_starts_nothing() {
    let mut leading = leading();
    assert_eq!(leading.handle(at(9900), 0.0, led(5, 10_000)), []);
}

#[test]
fn a_start_that_comes_too_late_costs_no_pause() {
    let mut leading = leading();
    leading.handle(at(1000), 0.0, led(5, 10_000));
    assert_eq!(leading.handle(at(1001), 0.0, Event::TooLate), [Action::Resign { pause: Duration::ZERO }]);
    assert_eq!(leading.handle(at(1002), 0.0, lost()), []);
    leading.handle(at(1003), 0.0, led(6, 11_000));
    assert_eq!(leading.handle(at(1004), 0.0, lost()), []);
    assert_eq!(leading.handle(at(1005), 0.0, Event::TooLate), []);
}

#[test]
fn the_end_stops_the_command_before_the_line_is_left() {
    let mut leading = running();
    assert_eq!(leading.handle(at(2000), 0.0, Event::Quit), [Action::Stop]);
    assert_eq!(leading.handle(at(2001), 0.0, Event::Quit), []);
    assert_eq!(leading.handle(at(2002), 0.0, led(5, 12_000)), [Action::Rearm { kill_at: kill_at(12_000) }]);
    assert_eq!(leading.handle(at(2003), 0.0, Event::Ended { why: Why::Stopped }), [Action::Leave(Ok(()))]);
    assert_eq!(leading.handle(at(2004), 0.0, led(5, 12_000)), []);

    assert_eq!(leading_idle_quit(), [Action::Leave(Ok(()))]);

    let mut leading = self::leading();
    leading.handle(at(1000), 0.0, led(5, 10_000));
    assert_eq!(leading.handle(at(1001), 0.0, Event::Quit), []);
    assert_eq!(leading.handle(at(1002), 0.0, Event::Started), [Action::Stop]);
    assert_eq!(leading.handle(at(1003), 0.0, Event::Ended { why: Why::Stopped }), [Action::Leave(Ok(()))]);
}

fn leading_idle_quit() -> Vec<Action> {
    leading().handle(at(1), 0.0, Event::Quit)
}

#[test]
fn a_smaller_token_ends_the_candidate_when_the_command_is_dead() {
    let fell = Action::Leave(Err(Fell { before: 5, now: 3 }));
    let mut leading = running();
    assert_eq!(leading.handle(at(2000), 0.0, lost()), [Action::Kill]);
    assert_eq!(leading.handle(at(2001), 0.0, led(3, 12_000)), [Action::Kill]);
    // Nothing takes it back.
    assert_eq!(leading.handle(at(2002), 0.0, led(9, 12_000)), [Action::Kill]);
    assert_eq!(leading.handle(at(2003), 0.0, Event::Ended { why: Why::Stopped }), [fell]);
    assert_eq!(leading.handle(at(2004), 0.0, led(3, 13_000)), []);

    // Without a word of the loss, too.
    let mut leading = running();
    assert_eq!(leading.handle(at(2000), 0.0, led(3, 12_000)), [Action::Kill]);
    assert_eq!(leading.handle(at(2001), 0.0, Event::Ended { why: Why::Stopped }), [fell]);

    // While the command starts.
    let mut leading = self::leading();
    leading.handle(at(1000), 0.0, led(5, 10_000));
    assert_eq!(leading.handle(at(1001), 0.0, led(3, 11_000)), []);
    assert_eq!(leading.handle(at(1002), 0.0, Event::Started), [Action::Kill]);
    assert_eq!(leading.handle(at(1003), 0.0, Event::Ended { why: Why::Stopped }), [fell]);

    // With none: at once, also within the margin of the term.
    let mut leading = running();
    leading.handle(at(2000), 0.0, lost());
    leading.handle(at(2001), 0.0, Event::Ended { why: Why::Stopped });
    assert_eq!(leading.handle(at(3000), 0.0, led(3, 3001)), [fell]);

    // Who is told to end anyway ends well.
    let mut leading = running();
    assert_eq!(leading.handle(at(2000), 0.0, Event::Quit), [Action::Stop]);
    assert_eq!(leading.handle(at(2001), 0.0, led(3, 12_000)), [Action::Kill]);
    let ended = leading.handle(at(2002), 0.0, Event::Ended { why: Why::Stopped });
    assert_eq!(ended, [Action::Leave(Ok(()))]);
}

#[test]
fn a_term_that_is_renewed_after_its_command_was_ended_is_given_up_once() {
    let mut leading = running();
    // The guard was faster than the store: within the margin nobody knows yet whether the term goes on.
    let dead = Event::Ended { why: Why::DeadlineReached };
    assert_eq!(leading.handle(at(9900), 0.0, dead), []);
    let resign = [Action::Resign { pause: Duration::ZERO }];
    assert_eq!(leading.handle(at(9950), 0.0, led(5, 19_000)), resign);
    assert_eq!(leading.handle(at(9960), 0.0, led(5, 19_500)), [], "it was given up already");
    assert_eq!(leading.handle(at(9970), 0.0, lost()), []);
    let next = [Action::Spawn { token: 9, kill_at: kill_at(25_000) }];
    assert_eq!(leading.handle(at(15_000), 0.0, led(9, 25_000)), next);
}
