//! What the log promises, one promise at a time.

use super::*;
use crate::{AppendError, DeliveryState, Failure, Filter, LogError, UnsubscribeError};

pub(super) fn two_nodes() -> (MemDisk, Arc<FileLog>) {
    let disk = MemDisk::default();
    let log = open(&disk).unwrap();
    for name in ["a", "b"] {
        wait(log.subscribe(&node(name))).unwrap();
    }
    (disk, log)
}

pub(super) fn failure(attempt: u32) -> Failure {
    Failure { attempt, failures: attempt, status: 503, error: "it said 503".into(), answer: None }
}

#[test]
fn every_part_of_an_update_comes_back_from_memory_and_from_disk() {
    let (disk, log) = two_nodes();
    let names: Vec<String> = (0..40).map(|n| format!("thing-{n}")).collect();
    for (index, name) in names.iter().enumerate() {
        assert_eq!(append(&log, update(name, 20 * index)), index as u64 + 1);
    }
    assert_eq!(log.tail().borrow().0, 41);
    let check = |log: &FileLog| {
        for (index, found) in read(log, "a").iter().enumerate() {
            let (name, found) = (&names[index], &found.update);
            assert_eq!((&*found.id, found.sequence.0), (name.as_str(), index as u64 + 1));
            assert_eq!(&*found.target, format!("/things/{name}?x=1"));
            assert_eq!(found.headers.get_all("x-two").iter().count(), 2);
            assert_eq!(found.headers["x-name"], name.as_str());
            let UpdateBody::Memory(body) = &found.body else { panic!("not in memory") };
            assert_eq!(*body, body_of(name, 20 * index));
        }
    };
    check(&log);
    assert!(log.usage().segments > 3);
    wait(log.close()).unwrap();
    assert!(matches!(wait(log.append(update("late", 1))), Err(AppendError::Log(LogError::Closed))));
    drop(log);
    let log = open(&disk).unwrap();
    assert_eq!(read(&log, "a").len(), 40);
    check(&log);
}

#[test]
fn a_node_gets_what_comes_after_it_subscribed_and_settles_in_any_order() {
    let (disk, log) = two_nodes();
    for n in 0..5 {
        append(&log, update(&format!("del-{n}"), 9));
    }
    wait(log.subscribe(&node("c"))).unwrap();
    append(&log, update("six", 9));
    assert_eq!(sequences(&log, "c"), [6]);
    for sequence in [4, 2, 1] {
        let found = get(&log, "a", sequence);
        log.settle(&node("a"), &found, delivered(1));
    }
    assert_eq!(sequences(&log, "a"), [3, 5, 6]);
    let queue = log.queue(&node("a")).unwrap();
    assert_eq!((queue.cursor.low().0, queue.pending, queue.deletes), (3, 3, 2));
    assert_eq!(queue.cursor.above().map(|s| s.0).collect::<Vec<_>>(), [4]);
    wait(log.close()).unwrap();
    drop(log);
    let log = open(&disk).unwrap();
    assert_eq!(sequences(&log, "a"), [3, 5, 6]);
    assert_eq!(log.queue(&node("a")).unwrap().cursor, queue.cursor);
    assert_eq!(log.queue(&node("a")).unwrap().deletes, 2);
    let status = wait(log.status(Sequence(4))).unwrap().unwrap();
    let (_, progress, _) = &status.nodes[0];
    assert_eq!((progress.state, progress.attempts, progress.digest), (DeliveryState::Delivered, 1, 7));
    assert_eq!((progress.status, progress.first_status), (201, 201));
}

#[test]
fn attempts_are_counted_through_a_kill_and_not_through_a_close() {
    let (disk, log) = two_nodes();
    append(&log, update("one", 9));
    append(&log, update("two", 9));
    wait(log.failed(&node("a"), Sequence(1), failure(1))).unwrap();
    let killed = open(&disk.killed()).unwrap();
    let progress: Vec<_> =
        read(&killed, "a").iter().map(|p| (p.progress.attempts, p.progress.failures)).collect();
    assert_eq!(progress, [(2, 1), (1, 0)]);
    assert_eq!(read(&killed, "a")[0].progress.first_status, 503);
    let disk = { disk.killed() };
    for round in 0..3 {
        let log = open(&disk).unwrap();
        assert_eq!(read(&log, "a")[1].progress.attempts, 1 + round, "a kill counts one");
        drop(log);
    }
    let log = open(&disk).unwrap();
    wait(log.failed(&node("a"), Sequence(2), failure(5))).unwrap();
    wait(log.close()).unwrap();
    drop(log);
    let log = open(&disk).unwrap();
    assert_eq!(read(&log, "a")[1].progress.attempts, 5, "a close counts none");
}

#[test]
fn a_known_key_gets_the_first_answer_across_restarts() {
    let (disk, log) = two_nodes();
    let keyed = |number, body| NewUpdate { key: Some(key(number, body)), ..update("keyed", 10) };
    assert_eq!(append(&log, keyed(1, 1)), 1);
    let Appended::Known { sequence, answer: None, tracker: Some(tracker) } =
        wait(log.append(keyed(1, 1))).unwrap()
    else {
        panic!("the first is in flight")
    };
    assert_eq!(sequence.0, 1);
    assert!(matches!(wait(log.append(keyed(1, 2))).unwrap(), Appended::KeyReused { sequence: Sequence(1) }));
    // An answer of a node that is not level only stands in.
    let found = get(&log, "b", 1);
    let stale = Settled::Delivered { attempt: 1, answer: answer(200, "stale"), digest: 1, level: false };
    log.settle(&node("b"), &found, stale);
    assert!(matches!(wait(log.append(keyed(1, 1))).unwrap(), Appended::Known { answer: None, .. }));
    log.settle(&node("a"), &found, delivered(1));
    assert!(wait(tracker.wait_for(|reports| (reports.len() == 2).then(|| reports[1].level))));
    let check = |log: &FileLog| match wait(log.append(keyed(1, 1))).unwrap() {
        Appended::Known { answer: Some(found), tracker: None, .. } => {
            assert_eq!(
                (found.status.as_u16(), found.headers["location"].as_bytes()),
                (201, &b"/things/1"[..])
            );
            let AnswerBody::Whole(body) = &found.body else { panic!("streamed") };
            assert_eq!(body, "made");
        }
        _ => panic!("the answer is not known"),
    };
    check(&log);
    until("marks are written", || log.shared.core().marks.is_empty().then_some(()));
    check(&log);
    let killed = open(&disk.killed()).unwrap();
    check(&killed);
    wait(log.close()).unwrap();
    drop(log);
    check(&open(&disk).unwrap());
}

#[test]
fn two_requests_with_one_key_at_once_make_one_update() {
    let (_, log) = two_nodes();
    let keyed = || NewUpdate { key: Some(key(1, 1)), ..update("keyed", 10) };
    let outcomes = wait(async {
        let (a, b, c) = tokio::join!(log.append(keyed()), log.append(keyed()), log.append(keyed()));
        [a.unwrap(), b.unwrap(), c.unwrap()]
    });
    let new = outcomes.iter().filter(|outcome| matches!(outcome, Appended::New { .. })).count();
    let known = |o: &Appended| matches!(o, Appended::Known { sequence: Sequence(1), tracker: Some(_), .. });
    assert_eq!((new, outcomes.iter().filter(|o| known(o)).count()), (1, 2));
    assert_eq!(sequences(&log, "a"), [1]);
}

#[test]
fn keys_are_forgotten_in_time_but_not_while_a_node_waits() {
    let disk = MemDisk::default();
    let options = FileLogOptions { remember: Duration::from_millis(50), retain: Duration::ZERO, ..options() };
    let reopen = || FileLog::open_on(Arc::new(disk.clone()), options.clone(), None).unwrap();
    let log = reopen();
    wait(log.subscribe(&node("a"))).unwrap();
    for number in 1..=30 {
        append(&log, NewUpdate { key: Some(key(number, 1)), ..update(&format!("k{number}"), 200) });
    }
    for sequence in 2..=30 {
        log.settle(&node("a"), &get(&log, "a", sequence), delivered(1));
    }
    until("29 keys are old", || (log.usage().keys == 1).then_some(()));
    let again = || NewUpdate { key: Some(key(1, 1)), ..update("k1", 200) };
    assert!(matches!(wait(log.append(again())).unwrap(), Appended::Known { tracker: Some(_), .. }));
    wait(log.close()).unwrap();
    drop(log);
    let log = reopen();
    assert!(matches!(wait(log.append(again())).unwrap(), Appended::Known { tracker: Some(_), .. }));
    log.settle(&node("a"), &get(&log, "a", 1), delivered(1));
    until("the last key is old", || (log.usage().keys == 0).then_some(()));
    until("no segment is needed", || (log.usage().segments == 1).then_some(()));
    until("nor any answer", || (disk.files("answers/").len() <= 1).then_some(()));
}

#[test]
fn keys_outlive_their_segments() {
    let disk = MemDisk::default();
    let options = FileLogOptions { retain: Duration::ZERO, retain_bytes: 0, ..options() };
    let reopen = |disk: &MemDisk| FileLog::open_on(Arc::new(disk.clone()), options.clone(), None).unwrap();
    let log = reopen(&disk);
    wait(log.subscribe(&node("a"))).unwrap();
    for number in 1..=30 {
        append(&log, NewUpdate { key: Some(key(number, 1)), ..update(&format!("k{number}"), 200) });
        log.settle(&node("a"), &get(&log, "a", number.into()), delivered(1));
    }
    until("old segments are gone", || (log.shared.core().state.first() > 20).then_some(()));
    let crashed = reopen(&disk.crashed(&mut Dice(1)));
    for log in [&log, &crashed] {
        for number in 1..=20 {
            let again = NewUpdate { key: Some(key(number, 1)), ..update("again", 200) };
            let Appended::Known { sequence, answer: Some(_), .. } = wait(log.append(again)).unwrap() else {
                panic!("key {number} was forgotten")
            };
            assert_eq!(sequence.0, u64::from(number));
        }
    }
}

#[test]
fn limits_refuse_and_let_in_again() {
    let disk = MemDisk::default();
    let options = FileLogOptions { max_pending_bytes: 1500, max_keys: 2, ..options() };
    let log = FileLog::open_on(Arc::new(disk.clone()), options, None).unwrap();
    assert!(matches!(wait(log.append(update("x", 1))), Err(AppendError::NoNodes)));
    wait(log.subscribe(&node("a"))).unwrap();
    wait(log.subscribe(&node("b"))).unwrap();
    append(&log, update("one", 1000));
    assert!(matches!(wait(log.append(update("two", 1000))), Err(AppendError::Full { limit: 1500, .. })));
    log.settle(&node("a"), &get(&log, "a", 1), delivered(1));
    assert!(wait(log.append(update("two", 1000))).is_err(), "b still needs the first");
    log.settle(&node("b"), &get(&log, "b", 1), delivered(1));
    assert_eq!(log.usage().pending_bytes, 0);
    assert_eq!(append(&log, update("two", 1000)), 2);
    wait(log.discard(&node("a"))).unwrap();
    wait(log.discard(&node("b"))).unwrap();
    for number in [1, 2] {
        append(&log, NewUpdate { key: Some(key(number, 1)), ..update("k", 1) });
    }
    let third = NewUpdate { key: Some(key(3, 1)), ..update("k", 1) };
    assert!(matches!(wait(log.append(third)), Err(AppendError::TooManyKeys { limit: 2 })));
    assert_eq!(append(&log, update("keyless", 1)), 5);
}

#[test]
fn membership_is_durable_and_says_what_is_discarded() {
    let (disk, log) = two_nodes();
    append(&log, update("one", 9));
    append(&log, update("two", 9));
    assert!(matches!(wait(log.unsubscribe(&node("a"), false)), Err(UnsubscribeError::Pending(2))));
    wait(log.rename(&node("b"), &node("c"))).unwrap();
    assert!(matches!(wait(log.rename(&node("b"), &node("d"))), Err(LogError::Node(_))));
    assert!(matches!(wait(log.rename(&node("a"), &node("c"))), Err(LogError::Node(_))));
    let found = get(&log, "a", 2);
    assert_eq!(wait(log.unsubscribe(&node("a"), true)).unwrap(), 2);
    wait(log.subscribe(&node("a"))).unwrap();
    append(&log, update("three", 9));
    log.settle(&node("a"), &found, delivered(1));
    let log = open(&disk.crashed(&mut Dice(3))).unwrap();
    assert_eq!(log.nodes().iter().map(|n| n.host().to_owned()).collect::<Vec<_>>(), ["c", "a"]);
    assert_eq!((sequences(&log, "a"), sequences(&log, "c")), (vec![3], vec![1, 2, 3]));
    let status = wait(log.status(Sequence(1))).unwrap().unwrap();
    assert_eq!(status.nodes[0].1.state, DeliveryState::Discarded);
    assert_eq!(wait(log.discard(&node("c"))).unwrap(), 3);
    let discarded = Filter { state: Some(DeliveryState::Discarded), limit: 10, ..Filter::default() };
    assert_eq!(
        wait(log.list(discarded)).unwrap().iter().map(|s| s.sequence.0).collect::<Vec<_>>(),
        [3, 2, 1]
    );
    let named = Filter { node: Some(node("a")), limit: 10, ..Filter::default() };
    assert_eq!(wait(log.list(named)).unwrap().len(), 3);
}

#[test]
fn dead_letters_stay_when_their_segments_go() {
    let disk = MemDisk::default();
    let options = FileLogOptions { retain: Duration::ZERO, retain_bytes: 0, ..options() };
    let log = FileLog::open_on(Arc::new(disk.clone()), options, None).unwrap();
    wait(log.subscribe(&node("a"))).unwrap();
    let big = spooled(&log, "big", 5000);
    append(&log, big);
    append(&log, update("small", 900));
    for sequence in [1, 2] {
        let dead = Settled::Dead { attempts: 12, status: 500, error: "it broke".into() };
        log.settle(&node("a"), &get(&log, "a", sequence), dead);
        assert!(!wait(log.begin_attempt(&node("a"), Sequence(sequence))));
    }
    assert!(sequences(&log, "a").is_empty());
    append(&log, update("fill", 2000));
    log.settle(&node("a"), &get(&log, "a", 3), delivered(1));
    append(&log, update("fill", 2000));
    until("the segments are gone", || (log.shared.core().state.first() > 2).then_some(()));
    until("the spooled body is gone", || disk.files("spool/").is_empty().then_some(()));
    let log = open(&disk.crashed(&mut Dice(9))).unwrap();
    wait(log.rename(&node("a"), &node("z"))).unwrap();
    let letters = wait(log.dead_letters(Some(&node("z")))).unwrap();
    assert_eq!(
        letters.iter().map(|l| (l.sequence.0, l.attempts, l.status)).collect::<Vec<_>>(),
        [(1, 12, 500), (2, 12, 500)]
    );
    assert_eq!((letters[0].error.as_str(), letters[0].id.as_str()), ("it broke", "big"));
    let big = wait(log.dead_letter(&node("z"), Sequence(1))).unwrap().unwrap();
    let UpdateBody::Spooled(body) = &big.body else { panic!("not spooled") };
    assert_eq!(body.len, 5000);
    assert_eq!(disk.files("dead/").iter().filter(|(name, _)| name.ends_with(".body")).count(), 1);
    let small = wait(log.dead_letter(&node("z"), Sequence(2))).unwrap().unwrap();
    assert_eq!(small.body.len(), 900);
    assert!(wait(log.drop_dead_letter(&node("z"), Sequence(1))).unwrap());
    assert!(!wait(log.drop_dead_letter(&node("z"), Sequence(1))).unwrap());
    assert_eq!(wait(log.dead_letters(None)).unwrap().len(), 1);
}

#[test]
fn a_spooled_body_stays_while_anyone_reads_it_and_leaves_nothing_behind() {
    let disk = MemDisk::default();
    let options = FileLogOptions { retain: Duration::ZERO, retain_bytes: 0, cache_bytes: 0, ..options() };
    let log = FileLog::open_on(Arc::new(disk.clone()), options, None).unwrap();
    drop(wait(log.spool()).unwrap());
    wait(log.subscribe(&node("a"))).unwrap();
    let unused = spooled(&log, "unused", 300);
    assert_eq!(disk.files("spool/").len(), 1);
    drop(unused);
    assert_eq!(disk.files("spool/").len(), 0);
    append(&log, spooled(&log, "big", 3000));
    let held = get(&log, "a", 1);
    log.settle(&node("a"), &held, delivered(1));
    append(&log, update("fill", 3000));
    log.settle(&node("a"), &get(&log, "a", 2), delivered(1));
    append(&log, update("fill", 3000));
    until("the segment is gone", || (log.shared.core().state.first() > 1).then_some(()));
    assert_eq!(disk.files("spool/").len(), 1, "somebody still holds the update");
    drop(held);
    until("the body is gone", || disk.files("spool/").is_empty().then_some(()));
    let killed = disk.killed();
    append(&log, spooled(&log, "big", 3000));
    let name = disk.files("spool/")[0].0.clone();
    let crashed = disk.killed();
    crashed.put(&name, b"short");
    let Err(OpenError::Damaged { path, .. }) = open(&crashed) else { panic!("a short body was taken") };
    assert!(path.ends_with(&name));
    drop(killed);
}

#[test]
fn rejecting_waits_for_no_one_and_excludes_retries() {
    let (disk, log) = two_nodes();
    let keyed = NewUpdate { key: Some(key(1, 1)), ..update("one", 9) };
    let Appended::New { tracker, .. } = wait(log.append(keyed)).unwrap() else { panic!("not new") };
    for name in ["a", "b"] {
        wait(log.failed(&node(name), Sequence(1), failure(1))).unwrap();
    }
    assert!(wait(log.begin_attempt(&node("a"), Sequence(1))));
    assert!(!wait(log.reject(Sequence(1), answer(500, "no"))));
    log.end_attempt(&node("a"), Sequence(1));
    assert!(wait(log.reject(Sequence(1), answer(500, "no"))));
    assert!(!wait(log.begin_attempt(&node("a"), Sequence(1))));
    assert_eq!(tracker.reports().iter().filter(|report| report.rejected && report.settled).count(), 2);
    let log = open(&disk.crashed(&mut Dice(4))).unwrap();
    assert!(sequences(&log, "a").is_empty());
    let status = wait(log.status(Sequence(1))).unwrap().unwrap();
    assert!(status.nodes.iter().all(|(_, progress, _)| progress.state == DeliveryState::Rejected));
    append(&log, update("two", 9));
    log.settle(&node("a"), &get(&log, "a", 2), delivered(1));
    assert!(!wait(log.reject(Sequence(2), answer(500, "no"))), "a has it already");
}

#[test]
fn many_appends_share_a_sync() {
    let (disk, log) = two_nodes();
    let before = disk.syncs();
    wait(async {
        let mut all = tokio::task::JoinSet::new();
        for n in 0..200 {
            let log = log.clone();
            all.spawn(async move { log.append(update(&format!("u{n}"), 20)).await.map(drop) });
        }
        all.join_all().await.into_iter().for_each(|done| done.unwrap());
    });
    let syncs = disk.syncs() - before;
    assert!(syncs <= 100, "{syncs} syncs for 200 appends");
    assert_eq!(sequences(&log, "a"), (1..=200).collect::<Vec<_>>());
}
