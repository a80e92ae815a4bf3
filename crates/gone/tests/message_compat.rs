//! The original's protocol, both ways, with peers of another make.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "message/support.rs"]
mod support;

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gone::message::compat::{CompatError, OriginalHolder};
use gone::message::stdin::Form;
use gone::message::{Encryption, Inbox, InboxOptions, Origin};
use support::*;
use testkit::eventually;

async fn compat_inbox() -> Inbox {
    Inbox::listen(InboxOptions { compat: true, ..options(Encryption::PlainText) }).await.unwrap()
}

/// A Python program with `zmq` and the original's document, killed on drop.
struct Python(Child);

impl Python {
    fn start(python: &str, arguments: &[&str], program: &str) -> Self {
        let before = "import struct, sys, zmq\n\
            def document(id, data):\n\
            \x20   fields = b'\\x05data\\0' + struct.pack('<i', len(data)) + b'\\0' + data\n\
            \x20   fields += b'\\x02id\\0' + struct.pack('<i', len(id) + 1) + id + b'\\0\\0'\n\
            \x20   return struct.pack('<i', len(fields) + 4) + fields\n\
            context = zmq.Context()\n";
        let mut child = Command::new(python).arg("-").args(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{before}{program}").as_bytes()).unwrap();
        Self(child)
    }

    fn ended(&mut self) -> bool {
        let status = self.0.try_wait().unwrap();
        assert!(status.is_none_or(|status| status.success()), "{status:?}");
        status.is_some()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_req_client_reaches_the_child_and_is_answered_after_it() {
    let python = testkit::python_with_zmq();
    let inbox = compat_inbox().await;
    let mut turn = begin(&inbox, "wire", 1, Form::Lines);
    let program = "socket = context.socket(zmq.REQ)\n\
        socket.connect(sys.argv[1])\n\
        for text in (b'one', b'two'):\n\
        \x20   socket.send(document(b'wire', text))\n\
        \x20   assert socket.recv() == b''\n";
    let mut client = Python::start(python, &[inbox.endpoint()], program);
    let first = next(&mut turn, 1).await;
    assert_eq!((texts(&first), first[0].origin), (vec!["one"], Origin::Original));
    let early = tokio::time::timeout(Duration::from_millis(200), turn.recv(&mut Vec::new())).await;
    assert!(early.is_err(), "the client waits for the reply before it sends the second");
    turn.acknowledge(1).unwrap();
    assert_eq!(texts(&next(&mut turn, 1).await), ["two"]);
    assert!(!client.ended());
    turn.acknowledge(2).unwrap();
    eventually("the client has its reply", LIMIT, async || client.ended().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_requests_reach_an_original_holder() {
    let python = testkit::python_with_zmq();
    let address = format!("tcp://127.0.0.1:{}", testkit::free_port());
    let program = "socket = context.socket(zmq.REP)\n\
        socket.bind(sys.argv[1])\n\
        for text in (b'eins', b'zwei'):\n\
        \x20   assert socket.recv() == document(b'wire', text)\n\
        \x20   socket.send(b'')\n\
        socket.close()\n\
        context.term()\n";
    let mut holder = Python::start(python, &[&address], program);
    let mut way = OriginalHolder::connect(&address, 1000).await.unwrap();
    for text in ["eins", "zwei"] {
        way.send("wire", text.as_bytes(), LIMIT).await.unwrap();
    }
    eventually("the holder has both", LIMIT, async || holder.ended().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_requests_and_our_frames_reach_our_holder_side_by_side() {
    let inbox = compat_inbox().await;
    let mut turn = begin(&inbox, "job", 1, Form::Lines);
    let outbox = Store::of(inbox.endpoint(), 1).plain();
    let mut way = OriginalHolder::connect(inbox.endpoint(), 1000).await.unwrap();
    let asking = tokio::spawn(async move {
        way.send("job", b"as the original", LIMIT).await.unwrap();
        way
    });
    assert_eq!(texts(&next(&mut turn, 1).await), ["as the original"]);
    let mut receipt = outbox.enqueue("job", "as ourselves", NOW).await.unwrap();
    assert_eq!(texts(&next(&mut turn, 1).await), ["as ourselves"]);
    // An empty one has an empty second part, as requests have.
    let mut empty = outbox.enqueue("job", "", NOW).await.unwrap();
    assert_eq!(texts(&next(&mut turn, 1).await), [""]);
    turn.acknowledge(3).unwrap();
    receipt.settled().await.unwrap();
    empty.settled().await.unwrap();
    let mut way = asking.await.unwrap();

    let refused = way.send("job", b"two\nlines", Duration::from_millis(300)).await;
    assert!(matches!(refused, Err(CompatError::Request { .. })), "what is not taken is not answered");
    turn.stop();
    let refused = way.send("job", b"too late", Duration::from_millis(300)).await;
    assert!(matches!(refused, Err(CompatError::Request { .. })), "who does not hold does not answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn originals_and_a_key_exclude_each_other() {
    let key = Encryption::Key(zmq_link::KeyPair::generate().unwrap());
    let error = Inbox::listen(InboxOptions { compat: true, ..options(key) }).await.unwrap_err();
    assert!(error.to_string().contains("cannot encrypt"), "{error}");
}
