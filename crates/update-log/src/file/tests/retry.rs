//! Dead letters that are tried again.

use super::*;
use crate::{DeliveryState, LogError, Settled};
use basic::{failure, two_nodes};

fn give_up(log: &FileLog, name: &str, sequence: u64) {
    let update = get(log, name, sequence);
    wait(log.failed(&node(name), Sequence(sequence), failure(1))).unwrap();
    log.settle(&node(name), &update, Settled::Dead { attempts: 1, status: 503, error: "no".into() });
    until("the dead letter", || letters(log, name).contains(&sequence).then_some(()));
}

fn letters(log: &FileLog, name: &str) -> Vec<u64> {
    wait(log.dead_letters(Some(&node(name)))).unwrap().iter().map(|letter| letter.sequence.0).collect()
}

fn retry(log: &FileLog, name: &str, sequence: u64) -> bool {
    wait(log.retry_dead_letter(&node(name), Sequence(sequence))).unwrap()
}

fn state(log: &FileLog, name: &str, sequence: u64) -> DeliveryState {
    let status = wait(log.status(Sequence(sequence))).unwrap().unwrap();
    status.nodes.iter().find(|(id, ..)| *id == node(name)).unwrap().1.state
}

#[test]
fn a_retried_letter_is_pending_in_its_old_place_until_it_is_taken() {
    let (_disk, log) = two_nodes();
    for name in ["one", "two", "three"] {
        append(&log, update(name, 10));
    }
    give_up(&log, "a", 2);
    assert_eq!(sequences(&log, "a"), [1, 3]);
    assert!(!retry(&log, "a", 1), "1 is no dead letter");
    assert!(retry(&log, "a", 2) && retry(&log, "a", 2));
    assert_eq!(sequences(&log, "a"), [1, 2, 3]);
    let again = &read(&log, "a")[1];
    assert_eq!((again.progress.attempts, again.progress.failures), (1, 0));
    assert_eq!(&*again.update.id, "two");
    assert_eq!((log.queue(&node("a")).unwrap().pending, state(&log, "a", 2)), (3, DeliveryState::Pending));
    assert!(letters(&log, "a").is_empty() && log.usage().dead_letters == 0);
    assert!(wait(log.begin_attempt(&node("a"), Sequence(2))));
    log.settle(&node("a"), &again.update, delivered(2));
    assert_eq!((log.queue(&node("a")).unwrap().pending, state(&log, "a", 2)), (2, DeliveryState::Delivered));
    assert!(!wait(log.begin_attempt(&node("a"), Sequence(2))));
}

#[test]
fn a_retry_outlives_kills_segments_and_a_second_failure() {
    let (disk, log) = two_nodes();
    let large = spooled(&log, "large", 5000);
    append(&log, large);
    give_up(&log, "a", 1);
    // Its segment goes.
    for number in 2..80 {
        append(&log, update("filler", 200));
        for name in ["a", "b"] {
            log.settle(&node(name), &get(&log, name, number), delivered(1));
        }
    }
    log.settle(&node("b"), &get(&log, "b", 1), delivered(1));
    assert!(retry(&log, "a", 1));
    drop(log);
    let log = open(&disk.killed()).unwrap();
    let again = read(&log, "a").remove(0);
    assert_eq!((again.update.sequence.0, again.progress.attempts), (1, 2), "one may have been under way");
    assert_eq!(again.update.body.len(), 5000);
    wait(log.failed(&node("a"), Sequence(1), failure(3))).unwrap();
    log.settle(&node("a"), &again.update, Settled::Dead { attempts: 3, status: 500, error: "still".into() });
    let letter = until("the letter", || wait(log.dead_letters(None)).unwrap().pop());
    assert_eq!((letter.attempts, letter.status, letter.error.as_str()), (3, 500, "still"));
    assert!(sequences(&log, "a").is_empty());
    assert!(retry(&log, "a", 1));
    wait(log.close()).unwrap();
    let log = open(&disk.killed()).unwrap();
    let _ = log;
}

#[test]
fn taken_letters_leave_no_file_and_stay_taken() {
    let (disk, log) = two_nodes();
    append(&log, update("one", 10));
    give_up(&log, "a", 1);
    assert_eq!(disk.files("dead").len(), 1);
    assert!(retry(&log, "a", 1));
    log.settle(&node("a"), &get(&log, "a", 1), delivered(2));
    until("the file to go", || disk.files("dead").is_empty().then_some(()));
    wait(log.close()).unwrap();
    drop(log);
    let log = open(&disk).unwrap();
    assert!(sequences(&log, "a").is_empty() && letters(&log, "a").is_empty());
    assert_eq!(state(&log, "a", 1), DeliveryState::Delivered);
}

#[test]
fn what_overtook_a_letter_is_kept_and_discarding_a_queue_keeps_the_letter() {
    let (disk, log) = two_nodes();
    append(&log, update("one", 10));
    give_up(&log, "a", 1);
    wait(log.overtake_dead_letters(&node("a"), &[Sequence(1), Sequence(9)], Sequence(7))).unwrap();
    wait(log.overtake_dead_letters(&node("a"), &[Sequence(1)], Sequence(8))).unwrap();
    assert!(retry(&log, "a", 1));
    wait(log.discard(&node("a"))).unwrap();
    assert_eq!((letters(&log, "a"), sequences(&log, "a")), (vec![1], vec![]));
    drop(log);
    let log = open(&disk.killed()).unwrap();
    assert_eq!((letters(&log, "a"), sequences(&log, "a")), (vec![1], vec![]));
    assert_eq!(wait(log.dead_letters(None)).unwrap()[0].overtaken, Some(Sequence(7)));
    assert!(retry(&log, "a", 1));
    wait(log.unsubscribe(&node("a"), true)).unwrap();
    assert_eq!(letters(&log, "a"), [1]);
    let gone = wait(log.retry_dead_letter(&node("a"), Sequence(1)));
    assert!(matches!(gone, Err(LogError::Node(_))));
}
