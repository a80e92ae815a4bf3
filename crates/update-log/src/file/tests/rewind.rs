//! A node gets again what the log holds, or nothing for now.

use std::collections::BTreeSet;

use super::*;
use crate::{DeliveryState, RewindError};
use basic::{failure, two_nodes};

fn rewind(log: &FileLog, name: &str, from: Option<u64>) -> Result<u64, RewindError> {
    wait(log.rewind(&node(name), from.map(Sequence)))
}

fn deliver_all(log: &FileLog, name: &str) {
    for Pending { update, progress } in read(log, name) {
        log.settle(&node(name), &update, delivered(progress.attempts + 1));
    }
}

fn queue(log: &FileLog, name: &str) -> (u64, u64) {
    let queue = log.queue(&node(name)).unwrap();
    (queue.pending, queue.cursor.low().0)
}

#[test]
fn everything_from_there_on_is_pending_again_and_counts_on() {
    let (disk, log) = two_nodes();
    for number in 0..6 {
        append(&log, update(if number == 2 { "del" } else { "put" }, 10));
    }
    ["a", "b"].iter().for_each(|name| deliver_all(&log, name));
    assert_eq!((queue(&log, "a"), log.usage().pending_bytes), ((0, 7), 0));
    assert_eq!(rewind(&log, "a", Some(3)).unwrap(), 4);
    assert_eq!(
        (sequences(&log, "a"), queue(&log, "a"), queue(&log, "b")),
        (vec![3, 4, 5, 6], (4, 3), (0, 7))
    );
    assert_eq!(log.queue(&node("a")).unwrap().deletes, 1);
    assert!(log.usage().pending_bytes > 0);
    assert_eq!(read(&log, "a")[0].progress.attempts, 1);
    append(&log, update("new", 10));
    for log in [&log, &open(&disk.killed()).unwrap()] {
        assert_eq!(sequences(log, "a"), [3, 4, 5, 6, 7]);
        deliver_all(log, "a");
        assert_eq!(queue(log, "a"), (0, 8));
    }
    // A node that came later gets what was before it, too.
    wait(log.subscribe(&node("late"))).unwrap();
    assert_eq!(rewind(&log, "late", None).unwrap(), 7);
    assert_eq!(sequences(&log, "late"), [1, 2, 3, 4, 5, 6, 7]);
    deliver_all(&log, "b");
    deliver_all(&log, "late");
    assert_eq!(log.usage().pending_bytes, 0);
    wait(log.close()).unwrap();
    drop(log);
    let log = open(&disk).unwrap();
    assert!(sequences(&log, "late").is_empty() && log.usage().pending_bytes == 0);
}

#[test]
fn dead_letters_in_the_range_are_pending_and_no_letters_any_more() {
    let (disk, log) = two_nodes();
    for _ in 0..3 {
        append(&log, update("put", 10));
    }
    for sequence in [1, 2] {
        let update = get(&log, "a", sequence);
        wait(log.failed(&node("a"), Sequence(sequence), failure(1))).unwrap();
        log.settle(&node("a"), &update, Settled::Dead { attempts: 1, status: 503, error: "no".into() });
    }
    until("the dead letters", || (log.usage().dead_letters == 2).then_some(()));
    assert_eq!(rewind(&log, "a", Some(2)).unwrap(), 2);
    for log in [&log, &open(&disk.killed()).unwrap()] {
        assert_eq!((sequences(log, "a"), log.usage().dead_letters), (vec![2, 3], 1));
    }
}

#[test]
fn what_the_log_let_go_of_is_gone_and_snapshots_agree() {
    let (disk, log) = two_nodes();
    // Segments are small here: many of them, some trimmed, with rewinding in between.
    for round in 0..6 {
        for _ in 0..12 {
            append(&log, update("filler", 200));
        }
        ["a", "b"].iter().for_each(|name| (0..3).for_each(|_| deliver_all(&log, name)));
        assert!(matches!(rewind(&log, "b", None), Ok(1..)), "round {round}");
        (0..9).for_each(|_| deliver_all(&log, "b"));
        let again = open(&disk.killed()).unwrap();
        assert_eq!(queue(&again, "a").1, 12 * (round + 1) + 1);
    }
    let mut options = options();
    (options.retain, options.retain_bytes) = (Duration::ZERO, 0);
    drop(log);
    let log = FileLog::open_on(Arc::new(disk.clone()), options, None).unwrap();
    let first = until("old segments to go", || match rewind(&log, "b", Some(1)) {
        Err(RewindError::Gone(first)) => Some(first.0),
        other => {
            other.unwrap();
            (0..9).for_each(|_| deliver_all(&log, "b"));
            None
        }
    });
    assert!(first > 1);
    (0..9).for_each(|_| deliver_all(&log, "b"));
    drop(log);
    open(&disk.killed()).unwrap();
}

#[test]
fn different_first_answers_are_kept_also_those_of_a_node_that_catches_up() {
    let (disk, log) = two_nodes();
    append(&log, update("one", 10));
    append(&log, update("two", 10));
    let answered = |log: &FileLog, name: &str, sequence: u64, status: u16, digest: u64| {
        let (answer, level) = (answer(status, "x"), true);
        let settled = Settled::Delivered { attempt: 1, answer, digest, level };
        log.settle(&node(name), &get(log, name, sequence), settled);
    };
    answered(&log, "a", 1, 200, 7);
    answered(&log, "b", 1, 200, 7);
    answered(&log, "a", 2, 200, 7);
    assert!(wait(log.divergences()).unwrap().is_empty());
    wait(log.close()).unwrap();
    drop(log);
    let log = open(&disk).unwrap();
    answered(&log, "b", 2, 404, 8);
    let found = wait(log.divergences()).unwrap();
    assert_eq!((found.len(), found[0].sequence, log.usage().divergences), (1, Sequence(2), 1));
    assert_eq!((found[0].target.as_str(), found[0].method.as_str()), ("/things/two?x=1", "POST"));
    assert_eq!(found[0].answers, [(node("a"), 200), (node("b"), 404)]);
    until("the file", || disk.files("").iter().any(|(name, _)| name == "divergences").then_some(()));
    let log = open(&disk.killed()).unwrap();
    assert_eq!(wait(log.divergences()).unwrap(), found);
}

#[test]
fn a_log_that_lost_its_beginning_after_a_rewinding_still_reads_back() {
    let disk = MemDisk::default();
    let options = FileLogOptions { retain: Duration::ZERO, retain_bytes: 0, ..options() };
    let log = FileLog::open_on(Arc::new(disk.clone()), options, None).unwrap();
    ["a", "b"].iter().for_each(|name| wait(log.subscribe(&node(name))).unwrap());
    let fill = || {
        for _ in 0..30 {
            append(&log, update("filler", 200));
        }
    };
    fill();
    wait(log.subscribe(&node("late"))).unwrap();
    rewind(&log, "late", Some(5)).unwrap();
    fill();
    // One update keeps the middle of the log, in which the rewinding is written.
    for one in read(&log, "a").into_iter().filter(|one| one.update.sequence.0 != 20) {
        log.settle(&node("a"), &one.update, delivered(1));
    }
    ["b", "late"].iter().for_each(|name| deliver_all(&log, name));
    let first = until("the beginning to go", || match rewind(&log, "late", Some(5)) {
        Err(RewindError::Gone(first)) => Some(first.0),
        other => {
            other.unwrap();
            deliver_all(&log, "late");
            None
        }
    });
    assert!((6..=20).contains(&first), "{first}");
    let again = open(&disk.killed()).unwrap();
    assert_eq!(sequences(&again, "a"), [20]);
}

#[test]
fn a_parked_node_gets_nothing_until_it_is_brought_level() {
    let (disk, log) = two_nodes();
    append(&log, update("one", 10));
    assert_eq!(wait(log.park(&node("a"))).unwrap(), 1);
    assert_eq!(wait(log.park(&node("a"))).unwrap(), 0);
    append(&log, update("two", 10));
    // New segments have it in their snapshots.
    for _ in 0..30 {
        append(&log, update("filler", 200));
    }
    for log in [&log, &open(&disk.killed()).unwrap()] {
        assert!(log.is_parked(&node("a")) && !log.is_parked(&node("b")));
        assert_eq!(
            wait(log.status(Sequence(1))).unwrap().unwrap().nodes[0].1.state,
            DeliveryState::Discarded
        );
        assert_eq!((queue(log, "a").0, sequences(log, "a").len(), log.nodes().len()), (0, 0, 2));
        assert_eq!(wait(log.status(Sequence(2))).unwrap().unwrap().nodes.len(), 1);
        wait(log.subscribe(&node("a"))).unwrap();
        assert!(log.is_parked(&node("a")));
    }
    let killed = open(&disk.killed()).unwrap();
    assert_eq!(rewind(&killed, "a", Some(2)).unwrap(), 31);
    assert!(!killed.is_parked(&node("a")) && sequences(&killed, "a")[..2] == [2, 3]);
    drop(killed);
    // Later than where it was parked: it does without what is between.
    assert_eq!(rewind(&log, "a", Some(20)).unwrap(), 13);
    assert_eq!(sequences(&log, "a")[0], 20);
    wait(log.park(&node("a"))).unwrap();
    assert_eq!(wait(log.discard(&node("a"))).unwrap(), 0);
    append(&log, update("new", 10));
    for log in [&log, &open(&disk.killed()).unwrap()] {
        assert_eq!(sequences(log, "a"), [33]);
    }
    wait(log.park(&node("a"))).unwrap();
    wait(log.unsubscribe(&node("a"), false)).unwrap();
    for log in [&log, &open(&disk.killed()).unwrap()] {
        assert_eq!(log.nodes(), [node("b")]);
    }
}

/// What waits for each node; `None` for a parked one.
type Waiting = std::collections::BTreeMap<&'static str, Option<BTreeSet<u64>>>;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// After a kill what was delivered may wait again, and nothing else may.
fn agrees(log: &FileLog, waiting: &Waiting, next: u64, killed: bool, seed: u64) {
    let subscribed: BTreeSet<_> = log.nodes().into_iter().collect();
    assert_eq!(subscribed, waiting.keys().map(|name| node(name)).collect(), "seed {seed}");
    for (name, pending) in waiting {
        assert_eq!(log.is_parked(&node(name)), pending.is_none(), "seed {seed}");
        let have: BTreeSet<u64> = sequences(log, name).into_iter().collect();
        let wanted = pending.clone().unwrap_or_default();
        assert!(
            have.is_superset(&wanted) && (killed || have == wanted),
            "seed {seed}: {name} {have:?} {wanted:?}"
        );
        assert!(have.iter().all(|sequence| *sequence < next), "seed {seed}");
        let queue = log.queue(&node(name)).unwrap();
        assert_eq!(queue.pending, have.len() as u64, "seed {seed}: {name}");
        let low = have.first().copied().unwrap_or(next);
        assert!(pending.is_none() || queue.cursor.low().0 == low, "seed {seed}: {name} {queue:?} {low}");
    }
    let needed = waiting.keys().any(|name| !sequences(log, name).is_empty());
    assert_eq!(log.usage().pending_bytes > 0, needed, "seed {seed}");
}

/// Sets the model to what the log has, once it was compared.
fn follow(log: &FileLog, waiting: &mut Waiting) {
    for (name, pending) in waiting.iter_mut().filter(|(_, pending)| pending.is_some()) {
        *pending = Some(sequences(log, name).into_iter().collect());
    }
}

#[test]
fn random_operations_with_kills_agree_with_a_plain_model() {
    for seed in seeds(150) {
        let mut dice = Dice(seed);
        let mut disk = MemDisk::default();
        let mut options = options();
        if dice.one_in(2) {
            (options.retain, options.retain_bytes) = (Duration::ZERO, 0);
        }
        let open = |disk: &MemDisk| FileLog::open_on(Arc::new(disk.clone()), options.clone(), None);
        let mut log = open(&disk).unwrap();
        let (mut waiting, mut next) = (Waiting::new(), 1);
        for _ in 0..120 {
            let name = NAMES[dice.below(3)];
            match dice.below(20) {
                0..8 if waiting.values().any(Option::is_some) => {
                    append(&log, update("one", dice.below(300)));
                    waiting.values_mut().flatten().for_each(|pending| pending.extend([next]));
                    next += 1;
                }
                8..13 => {
                    let Some(Some(pending)) = waiting.get_mut(name) else { continue };
                    for one in read(&log, name).into_iter().take(dice.below(12)) {
                        log.settle(&node(name), &one.update, delivered(one.progress.attempts + 1));
                        pending.remove(&one.update.sequence.0);
                    }
                }
                13..15 => {
                    let Some(pending) = waiting.get_mut(name) else { continue };
                    let from = 1 + dice.below(next as usize) as u64;
                    match rewind(&log, name, Some(from)) {
                        Ok(count) => {
                            let all = pending.get_or_insert_default();
                            all.extend(from..next);
                            assert_eq!(count, all.len() as u64, "seed {seed}");
                        }
                        Err(RewindError::Gone(first)) => assert!(first.0 > from, "seed {seed}"),
                        Err(error) => panic!("seed {seed}: {error}"),
                    }
                }
                15 => {
                    let Some(pending) = waiting.get_mut(name) else { continue };
                    wait(log.park(&node(name))).unwrap();
                    *pending = None;
                }
                16 => {
                    let Some(pending) = waiting.get_mut(name) else { continue };
                    wait(log.discard(&node(name))).unwrap();
                    *pending = Some(BTreeSet::new());
                }
                17 => {
                    wait(log.subscribe(&node(name))).unwrap();
                    waiting.entry(name).or_insert_with(|| Some(BTreeSet::new()));
                }
                18 if dice.one_in(3) && waiting.remove(name).is_some() => {
                    wait(log.unsubscribe(&node(name), true)).unwrap();
                }
                19 => {
                    let killed = dice.one_in(2);
                    if killed {
                        // What is written from here on is not seen any more.
                        disk = disk.killed();
                    } else {
                        wait(log.close()).unwrap();
                    }
                    drop(log);
                    log = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                    agrees(&log, &waiting, next, killed, seed);
                    follow(&log, &mut waiting);
                }
                _ => agrees(&log, &waiting, next, false, seed),
            }
        }
    }
}
