//! Messages over real connections: order, refusals, keys, bounds, turns.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "message/support.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use gone::message::frame::Refusal;
use gone::message::stdin::Form;
use gone::message::{
    Encryption, HolderLimits, Inbox, InboxOptions, NotGiven, Origin, OutboxOptions, Patience, SendError,
};
use support::*;
use testkit::{eventually, free_port, patience};
use zmq_link::KeyPair;

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_in_order_and_are_acknowledged_when_the_child_took_them() {
    let inbox = inbox().await;
    let mut turn = begin(&inbox, "job", 5, Form::Frames);
    let outbox = Store::of(inbox.endpoint(), 5).plain();
    let mut receipts = Vec::new();
    for text in ["one", "two", "three"] {
        receipts.push(outbox.enqueue("job", text, NOW).await.unwrap());
    }
    let taken = next(&mut turn, 3).await;
    assert_eq!(texts(&taken), ["one", "two", "three"]);
    let from = |sequence| Origin::Sender { sender: outbox.identity(), sequence };
    assert_eq!(
        taken.iter().map(|d| (d.n, d.origin)).collect::<Vec<_>>(),
        [(1, from(1)), (2, from(2)), (3, from(3))]
    );
    let mut last = receipts.pop().unwrap();
    turn.acknowledge(2).unwrap();
    for (sequence, mut receipt) in (1..).zip(receipts) {
        let delivered = receipt.settled().await.unwrap();
        assert_eq!((delivered.sequence, delivered.token), (sequence, 5));
    }
    let early = tokio::time::timeout(Duration::from_millis(100), last.settled()).await;
    assert!(early.is_err(), "the child has not taken the third: {early:?}");
    assert_eq!(turn.acknowledge(4), Err(NotGiven { n: 4, given: 3 }));
    turn.acknowledge(3).unwrap();
    last.settled().await.unwrap();
    assert_eq!(turn.in_flight(), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_share_a_listener_and_are_told_apart() {
    let inbox = inbox().await;
    let mut turns = ["a", "b"].map(|id| begin(&inbox, id, 1, Form::Frames));
    let outbox = Arc::new(Store::of(inbox.endpoint(), 1).plain());
    for id in ["a", "b"] {
        for text in ["x", "y"] {
            outbox.enqueue(id, format!("{id}{text}"), NOW).await.unwrap();
        }
    }
    assert_eq!(texts(&next(&mut turns[0], 2).await), ["ax", "ay"]);
    assert_eq!(texts(&next(&mut turns[1], 2).await), ["bx", "by"]);
    let error = outbox.send_data("c", "z", NOW).await.unwrap_err();
    assert!(matches!(&error, SendError::Refused { why, .. } if why.contains("does not hold")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_holder_it_fails_or_waits_as_it_was_asked_to() {
    let store = Store::default();
    let outbox = Arc::new(store.plain());
    let error = outbox.send_data("job", "x", NOW).await.unwrap_err();
    assert_eq!(error, SendError::NoHolder { id: "job".into(), maybe_taken: false });
    let soon = Patience { timeout: Some(Duration::from_millis(200)), only_absence: false, wait: true };
    let error = outbox.send_data("job", "x", soon).await.unwrap_err();
    assert!(matches!(&error, SendError::TimedOut { maybe_taken: false, .. }), "{error}");
    assert!(error.to_string().contains("nobody holds it"), "{error}");
    let mut waiting = outbox.enqueue("job", "y", WAIT).await.unwrap();
    let inbox = inbox().await;
    let mut turn = begin(&inbox, "job", 1, Form::Frames);
    store.set(inbox.endpoint(), 1);
    assert_eq!(texts(&next(&mut turn, 1).await), ["y"]);
    turn.acknowledge(1).unwrap();
    waiting.settled().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_child_acknowledges_is_told_as_doubtful() {
    let inbox = inbox().await;
    let mut turn = begin(&inbox, "job", 1, Form::Frames);
    let outbox = Store::of(inbox.endpoint(), 1).plain();
    let soon = Patience { timeout: Some(Duration::from_millis(500)), only_absence: false, wait: false };
    let error = outbox.send_data("job", "x", soon).await.unwrap_err();
    assert!(matches!(error, SendError::TimedOut { maybe_taken: true, .. }), "{error:?}");
    assert!(error.to_string().contains("its child has not taken it"), "{error}");
    // What was given up leaves a hole that nobody waits for.
    let (after, taken) = tokio::join!(outbox.enqueue("job", "y", NOW), next(&mut turn, 2));
    assert_eq!(texts(&taken), ["x", "y"]);
    turn.acknowledge(2).unwrap();
    after.unwrap().settled().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_lost_the_lease_never_acknowledges() {
    let (first, second) = (inbox().await, inbox().await);
    let held = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&held);
    let mut turn = first.begin("job", 1, Form::Frames, Arc::new(move || asked.load(SeqCst)));
    let store = Store::of(first.endpoint(), 1);
    let outbox = store.plain();
    let mut receipt = outbox.enqueue("job", "x", WAIT).await.unwrap();
    next(&mut turn, 1).await;
    let mut later = begin(&second, "job", 2, Form::Frames);
    store.set(second.endpoint(), 2);
    held.store(false, SeqCst);
    turn.acknowledge(1).unwrap();
    assert_eq!(texts(&next(&mut later, 1).await), ["x"], "it was not acknowledged, so the next child has it");
    later.acknowledge(1).unwrap();
    assert_eq!(receipt.settled().await.unwrap().token, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_once_the_child_is_told_to_stop_and_the_next_one_has_it_again() {
    let inbox = inbox().await;
    let mut turn = begin(&inbox, "job", 1, Form::Frames);
    let outbox = Store::of(inbox.endpoint(), 1).plain();
    let mut receipts = Vec::new();
    for text in ["a", "b"] {
        receipts.push(outbox.enqueue("job", text, WAIT).await.unwrap());
    }
    next(&mut turn, 2).await;
    turn.acknowledge(1).unwrap();
    turn.stop();
    turn.acknowledge(2).unwrap();
    let mut again = begin(&inbox, "job", 1, Form::Frames);
    assert!(!turn.recv(&mut Vec::new()).await, "the first turn is over");
    drop(turn);
    let taken = next(&mut again, 1).await;
    assert_eq!((texts(&taken), taken[0].n), (vec!["b"], 1), "only what was not acknowledged, counted anew");
    again.acknowledge(1).unwrap();
    for mut receipt in receipts {
        receipt.settled().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_taken_fails_alone() {
    let limits = HolderLimits { max_message: 100, ..HolderLimits::default() };
    let inbox = Inbox::listen(InboxOptions { limits, ..options(Encryption::PlainText) }).await.unwrap();
    let mut turn = begin(&inbox, "job", 1, Form::Lines);
    let outbox = Store::of(inbox.endpoint(), 1).plain();
    let mut receipts = Vec::new();
    for text in ["one", "a\nb", "two", &"x".repeat(101), "three", "c\nd", "e\nf", "four"] {
        receipts.push(outbox.enqueue("job", text.to_owned(), WAIT).await.unwrap());
    }
    let taken = next(&mut turn, 4).await;
    assert_eq!(texts(&taken), ["one", "two", "three", "four"]);
    turn.acknowledge(4).unwrap();
    let mut outcomes = Vec::new();
    for mut receipt in receipts {
        outcomes.push(match receipt.settled().await {
            Ok(_) => None,
            Err(SendError::Content { why, .. }) => Some(why),
            Err(other) => panic!("{other}"),
        });
    }
    let (newline, large) = (Some(Refusal::Newline), Some(Refusal::TooLarge));
    assert_eq!(outcomes, [None, newline, None, large, None, newline, newline, None]);
    let error = outbox.send_data("job", vec![0; (1 << 20) + 1], NOW).await.unwrap_err();
    assert_eq!(error, SendError::TooLarge { bytes: (1 << 20) + 1, max: 1 << 20 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_without_room_is_waited_for_also_by_a_sender_that_has_heard_nothing_yet() {
    let limits = HolderLimits { in_flight: 1, ..HolderLimits::default() };
    let inbox = Inbox::listen(InboxOptions { limits, ..options(Encryption::PlainText) }).await.unwrap();
    let mut turn = begin(&inbox, "job", 1, Form::Frames);
    let store = Store::of(inbox.endpoint(), 1);
    let (early, late) = (store.plain(), store.plain());
    let time = Duration::from_millis(500);
    let absence = Patience { timeout: Some(time), only_absence: true, wait: false };
    let mut first = early.enqueue("job", "first", absence).await.unwrap();
    assert_eq!(texts(&next(&mut turn, 1).await), ["first"]);
    // The holder reads nothing any more, so that this one gets no answer at all.
    let mut second = late.enqueue("job", "second", absence).await.unwrap();
    tokio::time::sleep(time * 3).await;
    turn.acknowledge(1).unwrap();
    first.settled().await.unwrap();
    assert_eq!(texts(&next(&mut turn, 1).await), ["second"]);
    turn.acknowledge(2).unwrap();
    second.settled().await.unwrap();
    // Once the holder is away the time counts.
    let mut third = late.enqueue("job", "third", Patience { wait: true, ..absence }).await.unwrap();
    next(&mut turn, 1).await;
    store.clear();
    drop(turn);
    let error = third.settled().await.unwrap_err();
    assert!(matches!(error, SendError::TimedOut { maybe_taken: true, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_takes_no_more_is_told_with_the_reason_until_the_next_one() {
    let inbox = inbox().await;
    let mut turn = begin(&inbox, "job", 1, Form::Frames);
    let outbox = Store::of(inbox.endpoint(), 1).plain();
    let mut waiting = outbox.enqueue("job", "x", WAIT).await.unwrap();
    next(&mut turn, 1).await;
    turn.refuse_all(Refusal::StdinClosed);
    let error = outbox.send_data("job", "y", NOW).await.unwrap_err().to_string();
    assert!(error.contains("takes no messages: the child has closed its stdin"), "{error}");
    drop(turn);
    let mut turn = begin(&inbox, "job", 1, Form::Frames);
    assert_eq!(texts(&next(&mut turn, 1).await), ["x"]);
    turn.acknowledge(1).unwrap();
    waiting.settled().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_for_all_nodes_and_nobody_else() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let inbox = Inbox::listen(options(Encryption::Key(key.clone()))).await.unwrap();
    let mut turn = begin(&inbox, "job", 1, Form::Frames);
    let store = Store::of(inbox.endpoint(), 1);
    for (encryption, text) in
        [(Encryption::Key(other), "key"), (Encryption::PlainText, "only one of the two has a key file")]
    {
        let soon = Patience { timeout: Some(Duration::from_secs(2)), only_absence: false, wait: false };
        let error =
            store.outbox(encryption).send_data("job", "stranger", soon).await.unwrap_err().to_string();
        assert!(error.contains(text) || error.contains("no answer from its holder"), "{error}");
    }
    let friend = store.outbox(Encryption::Key(key));
    let mut receipt = friend.enqueue("job", "friend", NOW).await.unwrap();
    assert_eq!(texts(&next(&mut turn, 1).await), ["friend"]);
    turn.acknowledge(1).unwrap();
    receipt.settled().await.unwrap();
}

/// What this process has in memory.
fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_child_slows_its_senders_and_nothing_piles_up() {
    let limits = HolderLimits { in_flight: 8, in_flight_bytes: 1 << 20, ..HolderLimits::default() };
    let inbox = Inbox::listen(InboxOptions { limits, ..options(Encryption::PlainText) }).await.unwrap();
    let mut turn = begin(&inbox, "job", 1, Form::Frames);
    let store = Store::of(inbox.endpoint(), 1);
    let enqueued = Arc::new(AtomicU64::new(0));
    const WINDOW: u64 = 50;
    let mut senders = Vec::new();
    for _ in 0..4 {
        let plain = OutboxOptions::new(Encryption::PlainText);
        let outbox = store.outbox_of(OutboxOptions { window: WINDOW as usize, ..plain });
        let enqueued = Arc::clone(&enqueued);
        senders.push(tokio::spawn(async move {
            for number in 0_u64.. {
                let mut data = number.to_be_bytes().to_vec();
                data.resize(32 << 10, 1);
                outbox.enqueue("job", data, WAIT).await.unwrap();
                enqueued.fetch_add(1, SeqCst);
            }
        }));
    }
    let mut expected = std::collections::HashMap::new();
    let mut memory = 0;
    for n in 1..=3000_u64 {
        // One at a time: what is fetched beyond it waits in the turn.
        let mut taken = Vec::new();
        while turn.in_flight().0 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if n % 8 == 1 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if n == 500 {
            memory = resident_kib();
        }
        let _ = tokio::time::timeout(Duration::from_millis(1), turn.recv(&mut taken)).await;
        for delivery in taken {
            let Origin::Sender { sender, .. } = delivery.origin else { panic!("ours") };
            let next = expected.entry(sender).or_insert(0_u64);
            assert_eq!(delivery.data[..8], next.to_be_bytes(), "in order, none twice, none left out");
            *next += 1;
        }
        let (messages, bytes) = turn.in_flight();
        assert!(messages <= 8 + 2 && bytes <= (1 << 20) + (66 << 10), "{messages} messages, {bytes} bytes");
        turn.acknowledge(n).unwrap();
        let ahead = enqueued.load(SeqCst).saturating_sub(n);
        assert!(ahead <= 4 * WINDOW, "the senders are {ahead} messages ahead of the child");
    }
    assert_eq!(expected.len(), 4, "no sender is left out");
    let grown = resident_kib().saturating_sub(memory);
    assert!(grown < 24 << 10, "80 MiB went through, and the process grew by {grown} KiB");
    senders.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_comes_back_on_its_address_goes_on() {
    let port = free_port();
    let listen = format!("tcp://127.0.0.1:{port}");
    let store = Store::of(&listen, 1);
    let outbox = Arc::new(store.plain());
    let (sent, sender) = (Arc::new(AtomicU64::new(0)), Arc::clone(&outbox));
    let counted = Arc::clone(&sent);
    let sending = tokio::spawn(async move {
        loop {
            sender.send_data("job", "x", WAIT).await.unwrap();
            counted.fetch_add(1, SeqCst);
        }
    });
    for token in 1..=3 {
        let inbox = eventually("the address is free", LIMIT, async || {
            Inbox::listen(InboxOptions { listen: listen.clone(), ..options(Encryption::PlainText) })
                .await
                .ok()
        });
        let inbox = inbox.await;
        let mut turn = begin(&inbox, "job", token, Form::Frames);
        store.set(&listen, token);
        let before = sent.load(SeqCst);
        let work = async {
            let mut taken = Vec::new();
            while turn.recv(&mut taken).await && sent.load(SeqCst) < before + 20 {
                taken.drain(..).for_each(|delivery| turn.acknowledge(delivery.n).unwrap());
            }
        };
        tokio::time::timeout(patience(LIMIT), work)
            .await
            .unwrap_or_else(|_| panic!("no progress in turn {token}"));
    }
    sending.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_heard_although_the_holder_closes_at_once() {
    for _ in 0..20 {
        let inbox = inbox().await;
        let mut turn = begin(&inbox, "job", 1, Form::Frames);
        let store = Store::of(inbox.endpoint(), 1);
        let outbox = store.plain();
        let mut receipt = outbox.enqueue("job", "last", NOW).await.unwrap();
        next(&mut turn, 1).await;
        store.clear();
        turn.acknowledge(1).unwrap();
        inbox.close(LIMIT).await;
        receipt.settled().await.unwrap();
        assert!(!turn.recv(&mut Vec::new()).await, "the turn is over");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_answered_and_garbage_does_no_harm() {
    let inbox = inbox().await;
    let endpoint = inbox.endpoint().to_owned();
    let asking = tokio::task::spawn_blocking(move || {
        let context = zmq::Context::new();
        let dealer = context.socket(zmq::DEALER).unwrap();
        dealer.set_rcvtimeo(20_000).unwrap();
        dealer.connect(&endpoint).unwrap();
        dealer.send(vec![0xff; 5], 0).unwrap();
        dealer.send_multipart([&b""[..], &[1; 40]], 0).unwrap();
        let mut other = vec![0; 40];
        other[0] = 2;
        dealer.send(other, 0).unwrap();
        dealer.recv_bytes(0).unwrap()
    });
    let answer = asking.await.unwrap();
    assert_eq!((answer[0], answer[1], answer[40]), (1, 4, 7), "version 1 refuses, for the version");
    eventually("all three are counted", LIMIT, async || (inbox.counts().malformed == 3).then_some(())).await;
}
