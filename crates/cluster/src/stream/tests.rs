//! Readers that are slow, late, gone.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::queue::OTHERS;
use super::*;

fn message(sequence: u64) -> Event {
    let node = "n2".into();
    let (missed, direct, content_type, payload) = (0, false, None, vec![0; 36].into());
    Event::Message(Message { node, sequence, missed, direct, content_type, payload })
}

fn hub() -> (Hub, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let refill = move || {
        counted.fetch_add(1, SeqCst);
    };
    (Hub::new(Arc::new(refill)), asked)
}

const MOST: Room = Room { messages: 10, bytes: 1000 };

#[test]
fn the_slowest_reader_of_messages_sets_the_room() {
    let (hub, asked) = hub();
    assert_eq!(hub.room(MOST).messages, 0, "nobody reads");
    let mut slow = hub.open(Topic::All);
    let mut fast = hub.open(Topic::Messages);
    let _joins = hub.open(Topic::Joins);
    hub.tell(vec![message(1), message(2), message(3)]);
    while fast.try_next().is_some() {}
    assert_eq!(hub.room(MOST), Room { messages: 7, bytes: 700 });
    let before = asked.load(SeqCst);
    slow.try_next();
    slow.try_next();
    assert_eq!(asked.load(SeqCst), before + 1, "asked for more once");
    drop(slow);
    assert_eq!(hub.room(MOST), MOST);
}

fn log(message: &str) -> Event {
    Event::Log(LogLine { level: Level::Info, message: message.to_owned() })
}

#[test]
fn what_is_left_out_is_told_in_its_place() {
    let (hub, _) = hub();
    let mut events = hub.open(Topic::All);
    let mut lines = lines(hub.open(Topic::Log));
    for _ in 0..OTHERS + 3 {
        hub.tell(vec![log("a")]);
    }
    assert_eq!(events.try_next(), Some(log("a")));
    hub.tell(vec![message(7)]);
    let rest: Vec<Event> = std::iter::from_fn(|| events.try_next()).collect();
    assert_eq!(rest.len(), OTHERS + 1);
    assert_eq!(rest[OTHERS - 1..], [Event::Gap(3), message(7)]);
    let read: Vec<LogLine> = std::iter::from_fn(|| lines.try_next()).collect();
    assert_eq!(read.len(), OTHERS + 1);
    assert!(read[OTHERS].message.starts_with("3 lines"), "{:?}", read[OTHERS]);
}

#[test]
fn members_and_the_quorum_alternate_also_for_one_who_does_not_read() {
    let (hub, _) = hub();
    let name = |at: u64| -> Arc<str> { format!("n{at}").into() };
    hub.tell(vec![Event::Quorum(true), Event::Join(name(1)), Event::Join(name(2))]);
    let (mut all, mut joins, mut leaves) =
        (hub.open(Topic::All), joins(hub.open(Topic::Joins)), leaves(hub.open(Topic::Leaves)));
    let mut quorums = quorums(hub.open(Topic::Quorum));
    (0..3).for_each(|_| drop(all.try_next()));
    // Both flap, n1 is a member at last and n2 is not.
    for _ in 0..OTHERS {
        hub.tell(vec![Event::Leave(name(1)), Event::Leave(name(2)), Event::Quorum(false)]);
        hub.tell(vec![Event::Join(name(1)), Event::Join(name(2)), Event::Quorum(true)]);
    }
    hub.tell(vec![Event::Leave(name(2)), Event::Quorum(false)]);
    let (mut there, mut quorum, mut count) = ([true, true], true, 0);
    for event in std::iter::from_fn(|| all.try_next()) {
        count += 1;
        match event {
            Event::Join(node) => {
                assert!(!std::mem::replace(&mut there[usize::from(*node == *name(2))], true), "joined twice");
            }
            Event::Leave(node) => {
                assert!(std::mem::replace(&mut there[usize::from(*node == *name(2))], false), "left twice");
            }
            Event::Quorum(now) => assert_ne!(std::mem::replace(&mut quorum, now), now),
            _ => {}
        }
    }
    assert_eq!((there, quorum), ([true, false], false));
    assert!(count <= OTHERS + 8, "{count}");
    assert!(std::iter::from_fn(|| leaves.try_next()).count() <= OTHERS + 2);
    assert!(std::iter::from_fn(|| joins.try_next()).any(|node| node == name(2)));
    assert_eq!(std::iter::from_fn(|| quorums.try_next()).last(), Some(false));
}

#[test]
fn calls_wait_for_their_reader_as_messages_do() {
    let (hub, asked) = hub();
    let _messages = hub.open(Topic::Messages);
    let mut calls = calls(hub.open(Topic::Api));
    let call = ApiCall { from: "n2".into(), action: "reload".into(), data: vec![0; 30].into() };
    hub.tell(vec![Event::Api(call.clone()), Event::Api(call.clone())]);
    assert_eq!(hub.room(MOST), Room { messages: 8, bytes: 800 });
    let before = asked.load(SeqCst);
    assert_eq!(calls.try_next(), Some(call));
    assert_eq!(asked.load(SeqCst), before + 1);
    assert_eq!(hub.room(MOST), Room { messages: 9, bytes: 900 });
}

#[test]
fn readers_that_are_gone_are_forgotten() {
    let (hub, _) = hub();
    (0..100).for_each(|_| drop(hub.open(Topic::Quorum)));
    assert!(hub.lock().queues.len() <= 1);
}

#[tokio::test]
async fn a_stream_ends_when_all_was_read() {
    let (hub, _) = hub();
    hub.tell(vec![Event::Join("n2".into())]);
    let mut joins = joins(hub.open(Topic::Joins));
    hub.close();
    assert_eq!(joins.next().await.as_deref(), Some("n2"));
    assert_eq!(joins.next().await, None);
}
