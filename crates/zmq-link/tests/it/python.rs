//! Peers of another make, as processes of their own: pyzmq.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use zmq_link::{EventKind, KeyPair, Responder};

use crate::harness::*;

/// A Python program, killed on drop.
struct Python(Child);

impl Python {
    fn start(python: &str, endpoint: &str, program: &str) -> Self {
        let before = "import sys, time, zmq\ncontext = zmq.Context()\n";
        let mut child = Command::new(python).args(["-", endpoint]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{before}{program}").as_bytes()).unwrap();
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    async fn succeeds(&mut self) {
        let status = testkit::eventually("it to end", LIMIT, async || self.0.try_wait().unwrap()).await;
        assert!(status.success(), "{status}");
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_req_socket_is_answered() {
    let python = testkit::python_with_zmq();
    let link = link();
    let mut responder = Responder::new(link.router(plain_router()).await.unwrap());
    let mut peer = Python::start(
        python,
        responder.router().endpoint(),
        "s = context.socket(zmq.REQ)\ns.connect(sys.argv[1])\n\
         for n in range(100):\n    s.send(b'%d' % n)\n    assert s.recv() == b'answer %d' % n\n",
    );
    for n in 0..100 {
        let request = within("a request", responder.recv()).await.unwrap();
        assert_eq!((&request.body[0][..], request.body.len()), (n.to_string().as_bytes(), 1));
        request.answer([format!("answer {n}").into_bytes()]).await.unwrap();
    }
    peer.succeeds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rep_socket_answers() {
    let python = testkit::python_with_zmq();
    let link = link();
    let endpoint = format!("tcp://127.0.0.1:{}", testkit::free_port());
    let _python = Python::start(
        python,
        &endpoint,
        "s = context.socket(zmq.REP)\ns.bind(sys.argv[1])\nwhile True:\n    s.send(b're: ' + s.recv())\n",
    );
    let mut requester = zmq_link::Requester::new(link.dealer(plain_dealer(&endpoint)).await.unwrap());
    for n in 0..100 {
        let answer = requester.ask([n.to_string().into_bytes()], testkit::patience(LIMIT)).await.unwrap();
        assert_eq!(&answer[0][..], format!("re: {n}").as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dealer_with_a_name_of_its_own_is_answered_and_found_again() {
    let python = testkit::python_with_zmq();
    let link = link();
    let mut router = link.router(plain_router()).await.unwrap();
    let program = "s = context.socket(zmq.DEALER)\ns.identity = b'app-1'\ns.connect(sys.argv[1])\n\
         s.send_multipart([b'a', b'', b'c'])\nassert s.recv_multipart() == [b'', b'x']\n";
    for _ in 0..2 {
        let mut peer = Python::start(python, router.endpoint(), program);
        let incoming = next(&mut router).await;
        assert_eq!(incoming.from.id.as_bytes(), b"app-1");
        assert!(incoming.message.iter().map(|frame| &frame[..]).eq([&b"a"[..], b"", b"c"]));
        let answer = [vec![], b"x".to_vec()].into_iter().collect();
        router.sender().deliver(&incoming.from.id, answer).await.unwrap();
        peer.succeeds().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_process_is_noticed_and_a_killed_one_too() {
    let python = testkit::python_with_zmq();
    let link = link();
    let mut router = link.router(plain_router()).await.unwrap();
    let peer = Python::start(
        python,
        router.endpoint(),
        "s = context.socket(zmq.DEALER)\ns.connect(sys.argv[1])\ns.send(b'hello')\n\
         while True:\n    s.send(s.recv())\n",
    );
    let mut events = router.events();
    next(&mut router).await;
    peer.signal(Signal::STOP);
    event("the silence", &mut events, |kind| *kind == EventKind::Disconnected).await;
    peer.signal(Signal::CONT);
    event("the return", &mut events, |kind| *kind == EventKind::Connected).await;
    peer.signal(Signal::KILL);
    event("the death", &mut events, |kind| *kind == EventKind::Disconnected).await;
}

/// n3 claims the routing id of n2 and sends over its own connection.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_or_listens_in_the_name_of_another() {
    let python = testkit::python_with_zmq();
    let (link, server, dir) = (link(), KeyPair::generate().unwrap(), testkit::TempDir::new());
    let (n2, n3) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (options, _) = curve_router(&server, &[(&n2, "n2"), (&n3, "n3")]);
    let mut router = link.router(options).await.unwrap();
    let program = |key: &KeyPair, name: &str| {
        let path = dir.join(name);
        zmq_link::key_file::write(&path, key).unwrap();
        format!(
            "keys = dict(l.strip().split(' = \"') for l in open({path:?}) if l[0] in 'ps')\n\
             s = context.socket(zmq.DEALER)\ns.identity = b'n2'\n\
             s.curve_publickey = keys['public'][:40].encode()\ns.curve_secretkey = keys['secret'][:40].encode()\n\
             s.curve_serverkey = {:?}.encode()\ns.connect(sys.argv[1])\n\
             while True:\n    s.send(b'from {name}')\n    time.sleep(0.02)\n    \
             if s.poll(0): s.send(b'{name} was told ' + s.recv())\n",
            server.public().to_string(),
        )
    };
    let honest = Python::start(python, router.endpoint(), &program(&n2, "n2"));
    let first = next(&mut router).await;
    assert_eq!((first.from.name.as_deref(), first.from.id.as_bytes()), (Some("n2"), &b"n2"[..]));
    let forgery = program(&n3, "n3");
    let _forger = Python::start(python, router.endpoint(), &forgery);
    testkit::eventually("the forger to come in", LIMIT, async || {
        (router.counters().connected == 2).then_some(())
    })
    .await;
    // While n2 is there, its routing id is its own, and what is sent there goes to n2.
    let (mut told, mut count) = (false, 0);
    while !told || count < 50 {
        let incoming = next(&mut router).await;
        let (name, body) = (incoming.from.name.as_deref().unwrap(), &incoming.message[0]);
        let body = std::str::from_utf8(body).unwrap();
        assert_eq!(name == "n2", incoming.from.id.as_bytes() == b"n2", "{incoming:?}");
        assert!(
            body.starts_with(&format!("from {name}")) || body == "n2 was told a secret",
            "{name}: {body}"
        );
        told |= body == "n2 was told a secret";
        count += 1;
        if count == 25 {
            router.sender().deliver(&first.from.id, text("a secret")).await.unwrap();
        }
    }
    // Once n2 is gone, n3 may get that routing id; its name stays n3.
    drop(honest);
    let other = Python::start(python, router.endpoint(), &forgery);
    within("n3", async {
        loop {
            let incoming = next(&mut router).await;
            let (name, body) = (incoming.from.name.as_deref().unwrap(), &incoming.message[0]);
            assert_eq!(&body[..], format!("from {name}").as_bytes());
            if name == "n3" && incoming.from.id.as_bytes() == b"n2" {
                return;
            }
        }
    })
    .await;
    drop(other);
}
