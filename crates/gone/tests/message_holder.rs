//! Single decisions of both ends that a random run meets too seldom.

use std::time::Duration;

use bytes::Bytes;
use gone::message::frame::{About, Body, Frame, Refusal, SenderId};
use gone::message::holder::{Answer, Holder};
use gone::message::sender::{Action, Sender};
use gone::message::stdin::Form;
use gone::message::{Delivery, HolderLimits, Patience, SendError, Whereabouts};

const LIMITS: HolderLimits =
    HolderLimits { in_flight: 4, in_flight_bytes: 1000, max_message: 100, senders: 8 };

fn holder() -> Holder<u8> {
    let mut holder = Holder::new("job".into(), LIMITS);
    holder.begin(7, Form::Frames);
    holder
}

fn about(sender: u8, token: u64) -> About {
    About { id: "job".into(), sender: SenderId([sender; 16]), token, attempt: 1 }
}

fn data(sender: u8, token: u64, previous: u64, first: u64) -> Frame {
    Frame { about: about(sender, token), body: Body::Data { previous, first, messages: vec!["x".into()] } }
}

fn take(holder: &mut Holder<u8>, frame: Frame) -> Vec<Delivery> {
    let mut given = Vec::new();
    holder.take(0, frame, |delivery| given.push(delivery));
    given
}

fn refusals(holder: &mut Holder<u8>) -> Vec<(Refusal, u64, u64)> {
    let refused = |answer| match answer {
        (_, Answer::Frame(Frame { about, body: Body::Refused { why, sequence } })) => {
            Some((why, sequence, about.token))
        }
        _ => None,
    };
    holder.answers().filter_map(refused).collect()
}

#[test]
fn senders_are_forgotten_beyond_the_bound_but_none_whose_messages_are_with_the_child() {
    let mut holder = Holder::new("job".into(), HolderLimits { in_flight: 100, ..LIMITS });
    holder.begin(7, Form::Frames);
    for sender in 1..=60 {
        assert_eq!(take(&mut holder, data(sender, 7, 0, 1)).len(), 1);
        assert_eq!(take(&mut holder, data(1, 7, 0, 1)), [], "still with the child, so not again");
    }

    let mut holder = self::holder();
    for (n, sender) in (1..).zip(1..=60) {
        assert_eq!(take(&mut holder, data(sender, 7, 0, 1)).len(), 1);
        holder.acknowledge(n, true).unwrap();
    }
    assert_eq!(take(&mut holder, data(60, 7, 0, 1)), [], "the last one is remembered");
    assert_eq!(take(&mut holder, data(1, 7, 0, 1)).len(), 1, "the first one is forgotten, and believed");
}

#[test]
fn the_turn_that_is_meant_decides_who_takes_a_frame() {
    let mut holder = holder();
    assert_eq!(take(&mut holder, data(1, 6, 0, 1)), []);
    assert_eq!(refusals(&mut holder), [(Refusal::Turn, 0, 7)], "and the present token is told");
    assert_eq!(take(&mut holder, data(1, 8, 0, 1)), []);
    assert_eq!(refusals(&mut holder), [(Refusal::NotHolder, 0, 7)], "somebody newer holds");
    assert_eq!(take(&mut holder, data(1, 7, 3, 4)), []);
    assert_eq!(refusals(&mut holder), [(Refusal::Gap, 1, 7)]);
    assert_eq!(
        take(&mut holder, data(1, 7, 0, 4)).len(),
        1,
        "the first one that is unsettled begins anywhere"
    );
    holder.refuse_all(Refusal::Stopping);
    assert_eq!(refusals(&mut holder), [(Refusal::Stopping, 0, 7)], "whose message is with the child is told");
    holder.acknowledge(1, true).unwrap();
    assert_eq!(holder.answers().count(), 0, "nothing is acknowledged once the child is told to stop");
    holder.end();
    assert_eq!(take(&mut holder, data(1, 7, 0, 4)), []);
    assert_eq!(refusals(&mut holder), [(Refusal::NotHolder, 0, 7)]);
}

#[test]
fn limits_that_cannot_work_are_refused() {
    let good = HolderLimits::default();
    good.check().unwrap();
    for bad in [
        HolderLimits { in_flight: 0, ..good },
        HolderLimits { in_flight_bytes: 0, ..good },
        HolderLimits { senders: good.in_flight, ..good },
        HolderLimits { max_message: 2 << 30, ..good },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
}

fn settled(sender: &mut Sender<u32>) -> Vec<(u32, bool)> {
    let mut all = Vec::new();
    while let Some(action) = sender.next_action() {
        if let Action::Settle(ticket, outcome) = action {
            all.push((ticket, outcome.is_ok()));
        }
    }
    all
}

#[test]
fn a_refusal_during_a_look_up_is_checked_by_another_one() {
    let at = Duration::from_millis;
    let mut sender: Sender<u32> = Sender::new("job".into(), SenderId([1; 16]));
    let impatient = Patience { timeout: None, only_absence: false, wait: false };
    sender.offer(at(0), Bytes::new(), 1, impatient);
    sender.tick(at(0));
    let here = || Ok(Some(Whereabouts { address: "tcp://a".into(), token: 7 }));
    sender.looked_up(at(1), here());
    // Silent for long, so that the lock is asked; then the refusal comes before the lock's answer.
    sender.tick(at(300));
    let refused = Body::Refused { why: Refusal::NotHolder, sequence: 0 };
    sender.received(at(301), Frame { about: about(1, 7), body: refused });
    sender.looked_up(at(302), here());
    assert_eq!(settled(&mut sender), [], "that answer may be older than the refusal");
    sender.tick(at(400));
    sender.looked_up(at(401), here());
    let mut failed = Vec::new();
    while let Some(action) = sender.next_action() {
        if let Action::Settle(ticket, Err(error)) = action {
            failed.push((ticket, matches!(error, SendError::Refused { maybe_taken: true, .. })));
        }
    }
    assert_eq!(failed, [(1, true)]);
    assert_eq!(sender.unsettled(), 0);
}

/// The ids of those that timed out.
fn timed_out(sender: &mut Sender<u32>) -> Vec<u32> {
    let mut all = Vec::new();
    while let Some(action) = sender.next_action() {
        if let Action::Settle(ticket, Err(SendError::TimedOut { .. })) = action {
            all.push(ticket);
        }
    }
    all
}

#[test]
fn time_that_counts_absence_alone_stands_still_while_the_holder_is_there() {
    let at = Duration::from_secs;
    let patience = |only_absence| Patience { timeout: Some(at(10)), only_absence, wait: true };
    let here = |token| -> Result<_, String> { Ok(Some(Whereabouts { address: "tcp://a".into(), token })) };
    let fresh = || {
        let mut sender: Sender<u32> = Sender::new("job".into(), SenderId([1; 16]));
        sender.offer(at(0), Bytes::new(), 1, patience(true));
        sender.offer(at(0), Bytes::new(), 2, patience(false));
        sender.tick(at(0));
        sender.looked_up(at(0), here(7));
        sender
    };
    // Nobody lets us in: the time counts for both.
    let mut shut = fresh();
    shut.tick(at(11));
    assert_eq!(timed_out(&mut shut), [1, 2]);
    for absence in ["connection lost", "not let in", "nobody holds", "refused"] {
        let mut sender = fresh();
        sender.line_up(at(0));
        sender.tick(at(11));
        assert_eq!(timed_out(&mut sender), [2], "a slow child");
        sender.tick(at(100));
        assert_eq!((timed_out(&mut sender), sender.unsettled()), (vec![], 1));
        match absence {
            "connection lost" => sender.line_down(at(105), "gone"),
            "not let in" => sender.line_refused(at(105), "another key"),
            "nobody holds" => sender.looked_up(at(105), Ok(None)),
            _ => {
                let about = About { id: "job".into(), sender: SenderId([1; 16]), token: 7, attempt: 1 };
                let body = Body::Refused { why: Refusal::StdinClosed, sequence: 0 };
                sender.received(at(105), Frame { about, body });
                // That the lock names the same holder again does not make it one that takes messages.
                sender.looked_up(at(106), here(7));
                sender.looked_up(at(107), here(7));
            }
        }
        sender.tick(at(114));
        assert!(timed_out(&mut sender).is_empty(), "{absence}: not yet");
        sender.tick(at(116));
        assert_eq!(timed_out(&mut sender), [1], "{absence}");
    }
    // A newer turn at the same place is another holder.
    let mut sender = fresh();
    sender.line_up(at(0));
    let body = Body::Refused { why: Refusal::Stopping, sequence: 0 };
    let about = About { id: "job".into(), sender: SenderId([1; 16]), token: 7, attempt: 1 };
    sender.received(at(1), Frame { about, body });
    sender.looked_up(at(2), here(8));
    sender.tick(at(50));
    assert_eq!(timed_out(&mut sender), [2]);
}
