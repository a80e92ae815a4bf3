//! What every engine promises, tried on each.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::queue::Sequence;
use support::{LIMIT, Place, answer, append, begin, delivered, keyed, node, open_at, sequences, update};
use testkit::{RedisServer, TempDir, eventually};
use update_log::{
    AnswerBody, AppendError, Appended, DeliveryState, Failure, Filter, Settled, UnsubscribeError, UpdateBody,
    UpdateLog,
};

macro_rules! on_each_engine {
    ($($name:ident)*) => {
        mod files {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Place::Files(super::TempDir::new())).await;
            })*
        }
        mod redis {
            $(#[tokio::test]
            async fn $name() {
                let server = Box::new(super::RedisServer::start().await);
                super::$name(super::Place::Redis(server, super::TempDir::new())).await;
            })*
        }
    };
}

on_each_engine! {
    updates_come_back_whole_and_in_order
    nodes_settle_out_of_order_and_queues_say_so
    a_key_makes_one_update
    failed_attempts_and_dead_letters_are_kept
    what_every_node_refuses_is_rejected_once
    queues_end_move_and_are_discarded
    what_does_not_fit_is_refused
    large_bodies_come_back
    states_are_listed
    all_of_it_is_there_after_a_restart
    what_nobody_needs_goes
}

fn failure(attempt: u32, status: u16) -> Failure {
    Failure {
        attempt,
        failures: attempt,
        status,
        error: format!("try {attempt}"),
        answer: Some(answer(status, b"no")),
    }
}

async fn queue_of(log: &dyn UpdateLog, port: u16, pending: u64) {
    eventually(format!("{pending} pending at {port}"), LIMIT, async || {
        log.queue(&node(port)).filter(|queue| queue.pending == pending).map(drop)
    })
    .await;
}

async fn updates_come_back_whole_and_in_order(place: Place) {
    let log = place.open(|_| {});
    assert!(matches!(log.append(update("/0", b"")).await, Err(AppendError::NoNodes)));
    log.subscribe(&node(1)).await.unwrap();
    log.subscribe(&node(1)).await.unwrap();
    log.claim(&node(1)).await.unwrap();
    assert_eq!(log.nodes(), [node(1)]);
    for number in 1..=3u8 {
        let (sequence, tracker) = append(&*log, update(&format!("/{number}"), &[number; 5])).await;
        assert_eq!(sequence, Sequence(number.into()));
        assert_eq!(*tracker.nodes, [node(1)]);
        assert_eq!(*log.tail().borrow(), sequence.next());
    }
    log.subscribe(&node(2)).await.unwrap();
    append(&*log, update("/4", b"last")).await;
    assert_eq!(sequences(&open_at(&*log, &node(2)).await), [4]);
    let pending = log.read(&node(1), Sequence(2), 2).await.unwrap();
    assert_eq!(sequences(&pending), [2, 3]);
    let (want, have) = (update("/2", &[2; 5]), &pending[0].update);
    assert_eq!((&*have.id, &*have.target, &have.method), (&*want.id, &*want.target, &want.method));
    assert_eq!((&have.headers, have.received_ms), (&want.headers, want.received_ms));
    assert!(matches!(&have.body, UpdateBody::Memory(body) if body[..] == [2; 5]));
    assert!(log.read(&node(9), Sequence::FIRST, 1).await.is_err());
}

async fn nodes_settle_out_of_order_and_queues_say_so(place: Place) {
    let log = place.open(|_| {});
    for port in [1, 2] {
        log.subscribe(&node(port)).await.unwrap();
        log.claim(&node(port)).await.unwrap();
    }
    let (_, tracker) = append(&*log, update("/1", b"1")).await;
    append(&*log, update("/2", b"2")).await;
    append(&*log, update("/3", b"3")).await;
    let pending = open_at(&*log, &node(1)).await;
    for one in [&pending[2], &pending[0]] {
        begin(&*log, &node(1), &one.update).await;
        log.settle(&node(1), &one.update, delivered(1));
        assert!(!log.begin_attempt(&node(1), one.update.sequence).await, "it is settled");
    }
    assert_eq!(sequences(&open_at(&*log, &node(1)).await), [2]);
    queue_of(&*log, 1, 1).await;
    let queue = log.queue(&node(1)).unwrap();
    assert_eq!((queue.cursor.low(), queue.oldest_ms), (Sequence(2), Some(1_700_000_000_000)));
    queue_of(&*log, 2, 3).await;
    let told = tracker.reports();
    assert_eq!((told.len(), &told[0].node, told[0].settled, told[0].level), (1, &node(1), true, true));
    eventually("the state to be told", LIMIT, async || {
        let status = log.status(Sequence(3)).await.unwrap()?;
        let (_, first, _) = &status.nodes[0];
        (first.state == DeliveryState::Delivered).then(|| {
            assert_eq!((first.attempts, first.first_status, first.status), (1, 200, 200));
            assert_eq!(first.digest, 0x0102_0304_0506_0708);
            assert_eq!(status.nodes[1].1.state, DeliveryState::Pending);
        })
    })
    .await;
}

async fn a_key_makes_one_update(place: Place) {
    let log = place.open(|limits| (limits.max_keys, limits.remember) = (2, Duration::from_millis(300)));
    log.subscribe(&node(1)).await.unwrap();
    log.claim(&node(1)).await.unwrap();
    let racing: Vec<_> = (0..16)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move { log.append(keyed("/k", b"same", 1)).await.unwrap() })
        })
        .collect();
    let mut new = 0;
    for one in racing {
        match one.await.unwrap() {
            Appended::New { sequence, .. } => {
                assert_eq!(sequence, Sequence(1));
                new += 1;
            }
            Appended::Known { sequence, answer, tracker } => {
                assert!(sequence == Sequence(1) && answer.is_none() && tracker.is_some());
            }
            Appended::KeyReused { .. } => panic!("the body is the same"),
        }
    }
    assert_eq!(new, 1);
    assert!(matches!(
        log.append(keyed("/k", b"other", 1)).await,
        Ok(Appended::KeyReused { sequence: Sequence(1) })
    ));
    append(&*log, keyed("/k", b"x", 2)).await;
    assert!(matches!(log.append(keyed("/k", b"x", 3)).await, Err(AppendError::TooManyKeys { limit: 2 })));
    let Ok(Appended::Known { tracker: Some(tracker), .. }) = log.append(keyed("/k", b"same", 1)).await else {
        panic!("the answer is to come")
    };
    let pending = open_at(&*log, &node(1)).await;
    for one in &pending {
        begin(&*log, &node(1), &one.update).await;
        log.settle(&node(1), &one.update, delivered(1));
    }
    let told = tracker.wait_for(|reports| reports.first().map(|report| report.answer.clone())).await;
    assert_eq!(told.unwrap().status, 200);
    eventually("the answer to be kept", LIMIT, async || {
        match log.append(keyed("/k", b"same", 1)).await.unwrap() {
            Appended::Known { answer: Some(kept), tracker: None, .. } => {
                assert!(
                    matches!(&kept.body, AnswerBody::Whole(body) if body == &Bytes::from_static(b"done"))
                );
                assert_eq!(kept.headers["x-answer"], "yes");
                Some(())
            }
            Appended::New { .. } => panic!("it is remembered"),
            _ => None,
        }
    })
    .await;
    eventually("the key to be forgotten", LIMIT, async || {
        matches!(log.append(keyed("/k", b"same", 1)).await, Ok(Appended::New { .. })).then_some(())
    })
    .await;
}

async fn failed_attempts_and_dead_letters_are_kept(place: Place) {
    let log = place.open(|_| {});
    log.subscribe(&node(1)).await.unwrap();
    log.claim(&node(1)).await.unwrap();
    let (_, tracker) = append(&*log, update("/1", b"poison")).await;
    append(&*log, update("/2", b"fine")).await;
    for attempt in 1..=2 {
        assert!(log.begin_attempt(&node(1), Sequence(1)).await);
        log.failed(&node(1), Sequence(1), failure(attempt, 503)).await.unwrap();
    }
    let pending = open_at(&*log, &node(1)).await;
    let progress = pending[0].progress;
    assert_eq!(
        (progress.attempts, progress.failures, progress.first_status, progress.status),
        (2, 2, 503, 503)
    );
    let told = tracker.reports();
    assert_eq!((told.len(), told[1].attempt, told[1].settled), (2, 2, false));
    let dead = Settled::Dead { attempts: 2, status: 503, error: "given up".into() };
    log.settle(&node(1), &pending[0].update, dead);
    let letters = eventually("the dead letter", LIMIT, async || {
        Some(log.dead_letters(None).await.unwrap()).filter(|letters| !letters.is_empty())
    })
    .await;
    assert_eq!((&letters[0].node, letters[0].sequence, letters[0].attempts), (&node(1), Sequence(1), 2));
    assert_eq!((&*letters[0].target, &*letters[0].error, letters[0].status), ("/1", "given up", 503));
    let kept = log.dead_letter(&node(1), Sequence(1)).await.unwrap().unwrap();
    assert!(matches!(&kept.body, UpdateBody::Memory(body) if body == "poison"));
    assert_eq!(sequences(&open_at(&*log, &node(1)).await), [2]);
    assert!(log.dead_letters(Some(&node(2))).await.unwrap().is_empty());
    let status = log.status(Sequence(1)).await.unwrap().unwrap();
    assert_eq!(
        (status.nodes[0].1.state, status.nodes[0].2.as_deref()),
        (DeliveryState::Dead, Some("given up"))
    );
    assert!(!log.drop_dead_letter(&node(1), Sequence(2)).await.unwrap());
    assert!(log.drop_dead_letter(&node(1), Sequence(1)).await.unwrap());
    assert!(log.dead_letters(None).await.unwrap().is_empty());
    assert!(log.dead_letter(&node(1), Sequence(1)).await.unwrap().is_none());
}

async fn what_every_node_refuses_is_rejected_once(place: Place) {
    let log = place.open(|_| {});
    for port in [1, 2] {
        log.subscribe(&node(port)).await.unwrap();
        log.claim(&node(port)).await.unwrap();
    }
    let (_, tracker) = append(&*log, update("/1", b"bad")).await;
    append(&*log, update("/2", b"good")).await;
    for port in [1, 2] {
        assert!(log.begin_attempt(&node(port), Sequence(1)).await);
        log.failed(&node(port), Sequence(1), failure(1, 500)).await.unwrap();
    }
    assert!(log.begin_attempt(&node(1), Sequence(1)).await);
    assert!(!log.reject(Sequence(1), answer(500, b"no")).await, "a retry is under way");
    log.end_attempt(&node(1), Sequence(1));
    eventually("the rejection", LIMIT, async || {
        log.reject(Sequence(1), answer(500, b"no")).await.then_some(())
    })
    .await;
    let told = tracker
        .wait_for(|reports| {
            reports.iter().find(|report| report.rejected).and_then(|report| report.answer.clone())
        })
        .await;
    assert_eq!(told.status, 500);
    assert!(!log.begin_attempt(&node(2), Sequence(1)).await, "nothing is to be sent any more");
    assert_eq!(sequences(&open_at(&*log, &node(2)).await), [2]);
    let status = log.status(Sequence(1)).await.unwrap().unwrap();
    assert!(status.nodes.iter().all(|(_, progress, _)| progress.state == DeliveryState::Rejected));
    let pending = open_at(&*log, &node(1)).await;
    begin(&*log, &node(1), &pending[0].update).await;
    log.settle(&node(1), &pending[0].update, delivered(1));
    assert!(!log.reject(Sequence(2), answer(500, b"no")).await, "it was delivered");
    assert!(!log.reject(Sequence(1), answer(500, b"no")).await, "it was rejected");
}

async fn queues_end_move_and_are_discarded(place: Place) {
    let log = place.open(|_| {});
    for port in [1, 2] {
        log.subscribe(&node(port)).await.unwrap();
    }
    append(&*log, update("/1", b"1")).await;
    append(&*log, update("/2", b"2")).await;
    assert!(matches!(log.unsubscribe(&node(2), false).await, Err(UnsubscribeError::Pending(2))));
    assert_eq!(log.unsubscribe(&node(2), true).await.unwrap(), 2);
    assert_eq!(log.unsubscribe(&node(2), false).await.unwrap_or(0), 0);
    assert_eq!(log.nodes(), [node(1)]);
    log.rename(&node(1), &node(3)).await.unwrap();
    assert!(log.rename(&node(1), &node(4)).await.is_err());
    assert_eq!(log.nodes(), [node(3)]);
    log.claim(&node(3)).await.unwrap();
    let pending = open_at(&*log, &node(3)).await;
    assert_eq!(sequences(&pending), [1, 2]);
    assert_eq!(pending[0].progress.attempts, 1, "one may have been under way to the old name");
    // Another subscription of a name knows nothing of the one before.
    log.subscribe(&node(2)).await.unwrap();
    append(&*log, update("/3", b"3")).await;
    assert_eq!(sequences(&open_at(&*log, &node(2)).await), [3]);
    assert_eq!(log.discard(&node(3)).await.unwrap(), 3);
    assert!(open_at(&*log, &node(3)).await.is_empty());
    assert!(!log.begin_attempt(&node(3), Sequence(1)).await);
    queue_of(&*log, 3, 0).await;
    queue_of(&*log, 2, 1).await;
    append(&*log, update("/4", b"4")).await;
    assert_eq!(sequences(&open_at(&*log, &node(3)).await), [4]);
    let status = log.status(Sequence(1)).await.unwrap().unwrap();
    let mut states: Vec<_> = status.nodes.iter().map(|(node, p, _)| (node.port(), p.state)).collect();
    states.sort_by_key(|(port, _)| *port);
    assert_eq!(states, [(2, DeliveryState::Discarded), (3, DeliveryState::Discarded)]);
}

async fn what_does_not_fit_is_refused(place: Place) {
    let log = place.open(|limits| limits.max_pending_bytes = 3000);
    log.subscribe(&node(1)).await.unwrap();
    log.claim(&node(1)).await.unwrap();
    append(&*log, update("/1", &[1; 2000])).await;
    match log.append(update("/2", &[2; 2000])).await {
        Err(AppendError::Full { pending_bytes, limit: 3000 }) => {
            assert!((2000..3000).contains(&pending_bytes))
        }
        other => panic!("{:?}", other.err()),
    }
    assert_eq!(*log.tail().borrow(), Sequence(2));
    let pending = open_at(&*log, &node(1)).await;
    begin(&*log, &node(1), &pending[0].update).await;
    log.settle(&node(1), &pending[0].update, delivered(1));
    eventually("room", LIMIT, async || log.append(update("/2", &[2; 2000])).await.is_ok().then_some(()))
        .await;
    assert_eq!(sequences(&open_at(&*log, &node(1)).await), [2]);
    assert!(log.usage().refused >= 1);
}

async fn large_bodies_come_back(place: Place) {
    let body: Vec<u8> = (0..3_000_000u32).map(|number| ((number * 31) >> 7) as u8).collect();
    let log = place.open(|_| {});
    log.subscribe(&node(1)).await.unwrap();
    let mut spool = log.spool().await.unwrap();
    for chunk in body.chunks(70_001) {
        spool.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    let spooled = spool.finish().await.unwrap();
    append(&*log, support::NewUpdate { body: UpdateBody::Spooled(spooled), ..update("/1", b"") }).await;
    log.close().await.unwrap();
    drop(log);
    let log = place.open(|_| {});
    log.claim(&node(1)).await.unwrap();
    let pending = open_at(&*log, &node(1)).await;
    let UpdateBody::Spooled(spooled) = &pending[0].update.body else { panic!("it is large") };
    assert_eq!(spooled.len, body.len() as u64);
    assert!(std::fs::read(&spooled.path).unwrap() == body);
    // Given up: its body is kept with it.
    let dead = Settled::Dead { attempts: 1, status: 0, error: "x".into() };
    log.settle(&node(1), &pending[0].update, dead);
    let kept =
        eventually("the dead letter", LIMIT, async || log.dead_letter(&node(1), Sequence(1)).await.unwrap())
            .await;
    let UpdateBody::Spooled(spooled) = &kept.body else { panic!("it is large") };
    assert!(std::fs::read(&spooled.path).unwrap() == body);
}

async fn states_are_listed(place: Place) {
    let log = place.open(|_| {});
    for port in [1, 2] {
        log.subscribe(&node(port)).await.unwrap();
        log.claim(&node(port)).await.unwrap();
    }
    for number in 1..=5 {
        append(&*log, update(&format!("/{number}"), b"x")).await;
    }
    for one in open_at(&*log, &node(2)).await.iter().take(3) {
        begin(&*log, &node(2), &one.update).await;
        log.settle(&node(2), &one.update, delivered(1));
    }
    queue_of(&*log, 2, 2).await;
    let list = async |node, state, limit| {
        let listed = log.list(Filter { node, state, limit }).await.unwrap();
        listed.iter().map(|status| status.sequence.0).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, 3).await, [5, 4, 3]);
    assert_eq!(list(Some(node(2)), Some(DeliveryState::Pending), 9).await, [5, 4]);
    assert_eq!(list(None, Some(DeliveryState::Delivered), 2).await, [3, 2]);
    assert_eq!(list(Some(node(1)), Some(DeliveryState::Delivered), 2).await, [0u64; 0]);
    assert!(log.status(Sequence(6)).await.unwrap().is_none());
    assert!(log.status(Sequence(0)).await.unwrap().is_none());
}

async fn all_of_it_is_there_after_a_restart(place: Place) {
    let log = place.open(|_| {});
    log.subscribe(&node(1)).await.unwrap();
    log.claim(&node(1)).await.unwrap();
    append(&*log, keyed("/1", b"1", 1)).await;
    append(&*log, update("/2", b"2")).await;
    append(&*log, update("/3", b"3")).await;
    let pending = open_at(&*log, &node(1)).await;
    for one in [&pending[0], &pending[2]] {
        begin(&*log, &node(1), &one.update).await;
        log.settle(&node(1), &one.update, delivered(1));
    }
    assert!(log.begin_attempt(&node(1), Sequence(2)).await);
    log.failed(&node(1), Sequence(2), failure(1, 500)).await.unwrap();
    log.close().await.unwrap();
    drop(log);
    let log = place.open(|_| {});
    log.claim(&node(1)).await.unwrap();
    let pending = open_at(&*log, &node(1)).await;
    assert_eq!(sequences(&pending), [2]);
    assert_eq!(
        (pending[0].progress.attempts, pending[0].progress.first_status),
        (1, 500),
        "it was closed in order"
    );
    assert_eq!(log.queue(&node(1)).unwrap().pending, 1);
    match log.append(keyed("/1", b"1", 1)).await.unwrap() {
        Appended::Known { sequence, answer, .. } => {
            assert_eq!((sequence, answer.unwrap().status.as_u16()), (Sequence(1), 200));
        }
        _ => panic!("the key is remembered"),
    }
    let (sequence, _) = append(&*log, update("/4", b"4")).await;
    assert_eq!(sequence, Sequence(4));
}

async fn what_nobody_needs_goes(place: Place) {
    let log = place.open(|limits| (limits.retain, limits.retain_bytes) = (Duration::from_millis(1), 0));
    log.subscribe(&node(1)).await.unwrap();
    log.claim(&node(1)).await.unwrap();
    for number in 0..1500u32 {
        append(&*log, update(&format!("/{number}"), &[0; 64])).await;
    }
    let full = log.usage().disk_bytes;
    let mut from = Sequence::FIRST;
    while from < Sequence(1500) {
        let pending = log.read(&node(1), from, 500).await.unwrap();
        let Some(last) = pending.last() else { break };
        from = last.update.sequence.next();
        for one in pending.iter().filter(|one| one.update.sequence.0 < 1500) {
            begin(&*log, &node(1), &one.update).await;
            log.settle(&node(1), &one.update, delivered(1));
        }
    }
    queue_of(&*log, 1, 1).await;
    eventually("room to be made", LIMIT, async || {
        (log.usage().disk_bytes < full / 2 && log.status(Sequence(1)).await.unwrap().is_none()).then_some(())
    })
    .await;
    assert!(log.status(Sequence(1500)).await.unwrap().is_some());
    assert_eq!(sequences(&open_at(&*log, &node(1)).await), [1500]);
    assert!(log.usage().pending_bytes > 0);
    let _: Arc<dyn UpdateLog> = log;
}
