//! What is sent, sent again, held and given up.

use super::*;

const LIMIT: Bounds = Bounds { bytes: 10_000, messages: 100 };
const NOW: Time = Duration::ZERO;

fn message(sequence: u64, size: usize) -> Arc<Outgoing> {
    let payload = vec![0; size].into();
    Arc::new(Outgoing { sequence, kind: Kind::Broadcast, label: None, payload, cost: size + 64 })
}

fn send_all(stream: &mut Outbound) -> usize {
    let mut messages = 0;
    while let Some((_, sent)) = stream.frame() {
        stream.sent(&sent);
        messages += sent.messages;
    }
    messages
}

fn seen(next: u64, acked: u64) -> Option<Seen> {
    Some(Seen { stream: 1, next, acked })
}

#[test]
fn what_was_not_taken_in_is_sent_again_and_no_more() {
    let mut stream = Outbound::new(1, NOW);
    stream.link_up(None, LIMIT, NOW);
    (0..10).for_each(|sequence| stream.push(&message(sequence, 1), NOW));
    assert_eq!(send_all(&mut stream), 10);
    assert_eq!(stream.ack(3, NOW), Some(3));
    stream.link_down(NOW);
    assert_eq!(send_all(&mut stream), 0, "no link");
    stream.link_up(seen(6, 4), LIMIT, NOW);
    assert_eq!((stream.len(), send_all(&mut stream), stream.resent), (6, 4, 4));
    assert_eq!(stream.ack(11, NOW), None, "never sent");
    assert_eq!(stream.ack(10, NOW), Some(6));
    assert_eq!((stream.len(), stream.bytes(), stream.sent_bytes), (0, 0, 0));
}

#[test]
fn a_new_run_gets_only_what_was_never_under_way() {
    let mut stream = Outbound::new(1, NOW);
    stream.link_up(None, LIMIT, NOW);
    (0..4).for_each(|sequence| stream.push(&message(sequence, 1), NOW));
    send_all(&mut stream);
    stream.link_down(NOW);
    (4..6).for_each(|sequence| stream.push(&message(sequence, 1), NOW));
    stream.link_up(None, LIMIT, NOW);
    assert_eq!(stream.start(), 4);
    assert_eq!(send_all(&mut stream), 2);
    let told = stream.take_losses(&"n2".into()).unwrap();
    assert_eq!((told.from, told.to, told.count), (0, 3, 4));
}

#[test]
fn the_peers_window_bounds_what_is_under_way_but_for_one_large_message() {
    let mut stream = Outbound::new(1, NOW);
    stream.link_up(None, Bounds { bytes: 1000, messages: 3 }, NOW);
    stream.push(&message(0, 5000), NOW);
    (1..9).for_each(|sequence| stream.push(&message(sequence, 1), NOW));
    assert_eq!(send_all(&mut stream), 1);
    stream.ack(1, NOW).unwrap();
    assert_eq!(send_all(&mut stream), 3);
    stream.ack(2, NOW).unwrap();
    assert_eq!(send_all(&mut stream), 1);
}

#[test]
fn a_hole_begins_another_frame() {
    let mut stream = Outbound::new(1, NOW);
    stream.link_up(None, LIMIT, NOW);
    stream.push(&message(0, 1), NOW);
    stream.lose(1, NOW);
    stream.push(&message(2, 1), NOW);
    let (_, sent) = stream.frame().unwrap();
    assert_eq!((sent.messages, sent.up_to), (1, 1));
    stream.sent(&sent);
    let (_, sent) = stream.frame().unwrap();
    assert_eq!((sent.messages, sent.up_to), (1, 3));
}

#[test]
fn frames_are_no_longer_than_a_batch_but_for_one_large_message() {
    let mut stream = Outbound::new(1, NOW);
    stream.link_up(None, Bounds { bytes: 1 << 30, messages: 100_000 }, NOW);
    for sequence in 0..20_000 {
        stream.push(&message(sequence, if sequence % 1000 == 999 { 3 * BATCH } else { 7 }), NOW);
    }
    let mut largest = 0;
    while let Some((frame, sent)) = stream.frame() {
        assert!(frame.len() <= BATCH || sent.messages == 1, "{} bytes, {sent:?}", frame.len());
        largest = largest.max(frame.len());
        stream.sent(&sent);
    }
    assert!(largest > 3 * BATCH && stream.sent == 20_000);
}

#[test]
fn a_window_of_nothing_holds_all_until_it_opens() {
    let mut stream = Outbound::new(1, NOW);
    stream.link_up(None, Bounds { bytes: 0, messages: 0 }, NOW);
    stream.push(&message(0, 1), NOW);
    assert!(!stream.can_send() && stream.frame().is_none());
    stream.set_limit(LIMIT);
    assert_eq!(send_all(&mut stream), 1);
}

#[test]
fn a_stall_is_counted_from_the_last_progress() {
    let at = Duration::from_millis;
    let mut stream = Outbound::new(1, NOW);
    stream.link_up(None, LIMIT, NOW);
    assert!(!stream.is_stalled(at(1000), Duration::ZERO), "nothing to acknowledge");
    stream.push(&message(0, 1), at(1000));
    stream.push(&message(1, 1), at(1040));
    send_all(&mut stream);
    assert!(!stream.is_stalled(at(1049), Duration::ZERO));
    assert!(stream.is_stalled(at(1050), Duration::ZERO));
    assert!(!stream.is_stalled(at(1079), at(30)), "a far peer has longer");
    stream.ack(1, at(1060)).unwrap();
    // It took 60 ms: twice that is more than is ever added, which is 80 ms.
    assert!(!stream.is_stalled(at(1189), Duration::ZERO));
    assert!(stream.is_stalled(at(1190), Duration::from_secs(1)));
}
