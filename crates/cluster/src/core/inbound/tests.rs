//! What is taken in, and what is not.

use super::*;
use crate::wire::{Batch, Frame};

fn frame(first: u64, count: u64) -> Records {
    frame_after(first, first, count)
}

fn frame_after(after: u64, first: u64, count: u64) -> Records {
    let mut batch = Batch::new(after, first, 0);
    (first..first + count).for_each(|sequence| batch.push(sequence, Kind::Broadcast, None, b""));
    let Ok(Frame::Data(body)) = Frame::decode(batch.finish()) else { panic!("no data") };
    Records::new(body).unwrap()
}

fn read(stream: &mut Inbound, most: usize) -> Vec<(u64, u64)> {
    let mut room = Room { messages: most, bytes: usize::MAX };
    let events = std::iter::from_fn(|| stream.hand_on(&"n2".into(), &mut room));
    events
        .map(|event| match event {
            Event::Message(message) => (message.sequence, message.missed),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn in_order_once_each_with_holes_counted() {
    let mut stream = Inbound::default();
    stream.link_up(1);
    stream.start(5);
    stream.take(frame(5, 2)).unwrap();
    stream.take(frame(5, 3)).unwrap();
    assert_eq!(stream.take(frame(10, 1)), Err(Violation::Hole), "nobody said that 8 and 9 are lost");
    stream.take(frame_after(8, 10, 1)).unwrap();
    assert_eq!(read(&mut stream, 3), [(5, 0), (6, 0), (7, 0)]);
    assert_eq!((stream.ack(), stream.ack()), (Some(8), None));
    assert_eq!(stream.seen(), Some(Seen { stream: 1, next: 11, acked: 8 }));
    assert_eq!(read(&mut stream, 3), [(10, 2)]);
    assert_eq!(stream.missed, 2);
}

#[test]
fn a_link_to_the_same_run_goes_on_and_one_to_another_begins() {
    let mut stream = Inbound::default();
    stream.link_up(1);
    stream.start(0);
    stream.take(frame(0, 4)).unwrap();
    stream.link_up(1);
    stream.start(2);
    assert_eq!(stream.seen().unwrap().next, 4, "a start changes nothing for one who has something");
    assert!(stream.greets_holding());
    assert!(stream.opens(), "it is the same stream");
    stream.take(frame(4, 1)).unwrap();
    assert!(stream.greets_holding());
    stream.link_up(2);
    assert_eq!(stream.seen(), Some(Seen { stream: 2, next: 0, acked: 0 }));
    assert_eq!(stream.take(frame(0, 1)), Err(Violation::TooMuch), "it was told to wait");
    assert_eq!(read(&mut stream, 4).len(), 4);
    assert!(!stream.opens(), "one is unread");
    assert_eq!(read(&mut stream, 4).len(), 1);
    assert!(stream.opens() && !stream.opens());
    assert_eq!(stream.take(frame(0, 1)), Err(Violation::Hole), "its start has not come");
    stream.start(7);
    assert_eq!(stream.take(frame(7, 1)), Ok(()));
    assert_eq!(stream.ack(), None, "what was read was of the stream before");
}

#[test]
fn more_than_the_window_is_a_violation() {
    let mut stream = Inbound::default();
    stream.link_up(1);
    stream.start(0);
    let most = WINDOW_MESSAGES as u64;
    for first in (0..most).step_by(1024) {
        assert_eq!(stream.take(frame(first, 1024)), Ok(()));
    }
    assert_eq!(stream.take(frame(most, 1)), Err(Violation::TooMuch));
    assert_eq!(stream.waiting.len(), WINDOW_MESSAGES);
}

#[test]
fn a_frame_of_very_many_records_is_refused_at_its_first() {
    let mut stream = Inbound::default();
    stream.link_up(1);
    stream.start(0);
    assert_eq!(stream.take(frame(0, 1_000_000)), Err(Violation::Malformed));
    assert!(stream.is_empty());
}

#[test]
fn one_message_may_be_larger_than_the_window() {
    let one = |first: u64| {
        let mut batch = Batch::new(first, first, 0);
        batch.push(first, Kind::Broadcast, None, &vec![0; WINDOW_BYTES + 1]);
        let Ok(Frame::Data(body)) = Frame::decode(batch.finish()) else { panic!("no data") };
        Records::new(body).unwrap()
    };
    let mut stream = Inbound::default();
    stream.link_up(1);
    stream.start(0);
    assert_eq!(stream.take(one(0)), Ok(()));
    assert_eq!(stream.take(one(1)), Err(Violation::TooMuch));
}

#[test]
fn what_a_member_says_is_lost_does_not_overflow_the_count() {
    let mut stream = Inbound::default();
    stream.link_up(1);
    stream.start(0);
    stream.missed = u64::MAX - 1;
    stream.take(frame_after(0, u64::MAX - 2, 1)).unwrap();
    assert_eq!(stream.missed, u64::MAX);
}
