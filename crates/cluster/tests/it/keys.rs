//! Secrets, keys, and who is refused.

use std::time::{Duration, Instant};

use cluster::{Event, Identity, KeyPair, Keyring, Manager, Node, NodeError, Settings, Verdict, probe};
use testkit::eventually;

use crate::harness::{PATIENCE, SECRET, acquaint, builder, full, listening, members, mesh, quick, wait_for};

const OTHER: &str = "another secret, just as long as it";

fn with_secrets(name: &str, secrets: &[&str]) -> cluster::Builder {
    Manager::builder(name).keyring(Keyring::new(secrets).unwrap()).settings(quick())
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_told_on_both_sides_less_and_less_often() {
    let nodes = [listening(builder("n1")).await, listening(with_secrets("n2", &[OTHER])).await];
    let (mut one, mut two) = (nodes[0].0.events(), nodes[1].0.events());
    acquaint(&nodes);
    let line = |event: &Event| match event {
        Event::Log(line) if line.message.contains("our key is") => Some(line.message.clone()),
        _ => None,
    };
    let dialer =
        wait_for(&mut one, "the dialing end says so", |event| line(event).filter(|line| line.contains("n2")))
            .await;
    assert!(dialer.contains(&nodes[1].1), "the peer's address: {dialer}");
    // With its address: a connection that fails fast may be gone before libzmq's is asked for; then the next one has it.
    wait_for(&mut two, "the listening end says so", |event| {
        line(event).filter(|line| line.starts_with("refused") && line.contains("127.0.0.1"))
    })
    .await;
    assert!(nodes[0].0.status()[0].error.contains("another secret"), "{:?}", nodes[0].0.status());
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((members(&nodes[0].0), members(&nodes[1].0)), (0, 0));
    // 0.4 s, 0.8, 1.6, ...: four or five attempts, not twenty.
    let lines = std::iter::from_fn(|| one.try_next())
        .filter(|event| line(event).is_some_and(|line| line.starts_with("no link")))
        .count();
    assert!((1..8).contains(&lines), "{lines} lines in 4 s");
    assert!(nodes[1].0.counters().denied > 0);
}

#[tokio::test]
async fn a_name_that_is_not_configured_neither_joins_nor_is_heard() {
    let (n1, one) = listening(builder("n1")).await;
    let (n3, three) = listening(builder("n3")).await;
    n3.add_node(Node::new("n1", one)).unwrap();
    let mut told = n3.events();
    wait_for(&mut told, "n3 is refused", |event| match event {
        Event::Log(line) if line.message.contains("not configured there") => Some(()),
        _ => None,
    })
    .await;
    assert!(n1.quorum() && n1.nodes().is_empty());
    n1.add_node(Node::new("n3", three)).unwrap();
    full(&[&n1, &n3]).await;
}

#[tokio::test]
async fn a_key_per_node_binds_a_name_against_members_too() {
    let (k1, k2, k3) =
        (KeyPair::generate().unwrap(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let own = |name: &str, key: &KeyPair| Manager::builder(name).key(key.clone()).settings(quick());
    let (n1, one) = listening(own("n1", &k1)).await;
    let (n2, two) = listening(own("n2", &k2)).await;
    n1.add_node(Node::new("n2", two.clone()).with_key(k2.public())).unwrap();
    n2.add_node(Node::new("n1", one.clone()).with_key(k1.public())).unwrap();
    full(&[&n1, &n2]).await;
    // Another one that calls itself n1, with a key of its own.
    let liar = own("n1", &k3).start().unwrap();
    liar.add_node(Node::new("n2", two).with_key(k2.public())).unwrap();
    let mut told = liar.events();
    wait_for(&mut told, "the liar is refused", |event| match event {
        Event::Log(line) if line.message.contains("refuses our key") => Some(()),
        _ => None,
    })
    .await;
    assert_eq!((members(&n2), members(&liar)), (1, 0));
}

#[tokio::test]
async fn secrets_rotate_under_traffic_and_nothing_is_lost() {
    let nodes = [
        listening(with_secrets("n1", &[SECRET])).await,
        listening(with_secrets("n2", &[SECRET])).await,
        listening(with_secrets("n3", &[SECRET])).await,
    ];
    acquaint(&nodes);
    let managers: Vec<&Manager> = nodes.iter().map(|(manager, _)| manager).collect();
    full(&managers).await;
    let mut readers: Vec<_> = managers[1..].iter().map(|manager| manager.from_cluster()).collect();
    let rotate = async {
        for ring in [&[SECRET, OTHER][..], &[OTHER, SECRET], &[OTHER]] {
            for manager in &managers {
                manager.set_keyring(Keyring::new(ring).unwrap()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            full(&managers).await;
        }
    };
    let mut sent = 0_u64;
    let traffic = async {
        loop {
            let receipt = managers[0].to_cluster("x").await.unwrap();
            assert!(receipt.undelivered.is_empty());
            sent = receipt.sequence;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! { () = rotate => {}, () = traffic => {} }
    for reader in &mut readers {
        for sequence in 1..=sent {
            let message = reader.next().await.unwrap();
            assert_eq!((message.sequence, message.missed), (sequence, 0));
        }
    }
    // The old secret opens nothing any more.
    let old = Identity::shared(Keyring::new([SECRET]).unwrap());
    let findings =
        probe("n1", &old, &Node::new("n2", nodes[1].1.clone()), Duration::from_secs(2)).await.unwrap();
    assert_eq!(findings[0].verdict, Verdict::OtherKeyThere);
}

#[tokio::test]
async fn the_doctor_says_which_side_is_wrong_and_disturbs_nobody() {
    let nodes = [listening(builder("n1")).await, listening(builder("n2")).await];
    acquaint(&nodes);
    full(&[&nodes[0].0, &nodes[1].0]).await;
    let n2 = Node::new("n2", nodes[1].1.clone());
    let ask = async |own: &str, secrets: &[&str], node: &Node| {
        let identity = Identity::shared(Keyring::new(secrets).unwrap());
        let findings = probe(own, &identity, node, Duration::from_secs(2)).await.unwrap();
        findings.into_iter().map(|finding| finding.verdict).collect::<Vec<_>>()
    };
    let mut leaves = nodes[1].0.node_leave();
    assert_eq!(ask("n1", &[SECRET], &n2).await, [Verdict::Ok]);
    assert_eq!(ask("n1", &[OTHER, SECRET], &n2).await, [Verdict::OtherKeyThere, Verdict::Ok]);
    assert_eq!(ask("n7", &[SECRET], &n2).await, [Verdict::NotConfiguredThere]);
    let misnamed = Node::new("n5", nodes[1].1.clone());
    assert_eq!(ask("n1", &[SECRET], &misnamed).await, [Verdict::OtherKeyThere]);
    let nobody = Node::new("n2", format!("tcp://127.0.0.1:{}", testkit::free_port()));
    assert!(matches!(&ask("n1", &[SECRET], &nobody).await[..], [Verdict::Unreachable(_)]));
    assert_eq!(leaves.try_next(), None, "the link was not touched");
}

#[tokio::test]
async fn two_processes_of_one_name_are_told_apart_and_told() {
    let nodes = [listening(builder("n1")).await, listening(builder("n2")).await];
    acquaint(&nodes);
    full(&[&nodes[0].0, &nodes[1].0]).await;
    let (second, _) = listening(builder("n1")).await;
    second.add_node(Node::new("n2", nodes[1].1.clone())).unwrap();
    eventually("one of the two is told", PATIENCE, async || {
        let told = |manager: &Manager| manager.status()[0].error.contains("used twice");
        (told(&nodes[0].0) || told(&second)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn silent_and_strange_connections_hold_nobody_up() {
    let (n1, one) =
        listening(builder("n1").settings(Settings { connect_timeout: Duration::from_secs(1), ..quick() }))
            .await;
    let addr = one.strip_prefix("tcp://").unwrap().to_owned();
    let silent: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(&addr).unwrap()).collect();
    for stream in &silent[10..] {
        std::io::Write::write_all(&mut &*stream, b"GET / HTTP/1.1\r\n\r\n{\"name\":\"n2\"}\n").unwrap();
    }
    let start = Instant::now();
    let (n2, two) = listening(builder("n2")).await;
    n1.add_node(Node::new("n2", two)).unwrap();
    n2.add_node(Node::new("n1", one)).unwrap();
    full(&[&n1, &n2]).await;
    println!("joined after {:?} with 20 strangers", start.elapsed());
}

#[tokio::test]
async fn a_link_ends_with_the_keys_that_it_was_made_with() {
    // The dialing end takes its secret away, then the listening end.
    for at in [0, 1] {
        let nodes = mesh(2).await;
        full(&[&nodes[0], &nodes[1]]).await;
        nodes[at].set_keyring(Keyring::new([OTHER]).unwrap()).await.unwrap();
        eventually("they are apart", PATIENCE, async || {
            (members(&nodes[0]) + members(&nodes[1]) == 0).then_some(())
        })
        .await;
        nodes[1 - at].set_keyring(Keyring::new([OTHER]).unwrap()).await.unwrap();
        full(&[&nodes[0], &nodes[1]]).await;
    }
    // Another key is given for the peer, at the dialing end, then at the listening one.
    for at in [0, 1] {
        let nodes = mesh(2).await;
        full(&[&nodes[0], &nodes[1]]).await;
        let (name, addr) = (nodes[1 - at].name().to_owned(), nodes[at].status()[0].addr.clone());
        let other = KeyPair::generate().unwrap();
        nodes[at].add_node(Node::new(&*name, addr.clone()).with_key(other.public())).unwrap();
        eventually("they are apart", PATIENCE, async || {
            (members(&nodes[0]) + members(&nodes[1]) == 0).then_some(())
        })
        .await;
        nodes[at].add_node(Node::new(&*name, addr)).unwrap();
        full(&[&nodes[0], &nodes[1]]).await;
    }
}

#[tokio::test]
async fn a_secret_that_is_no_longer_the_first_cuts_nothing() {
    let nodes = mesh(2).await;
    full(&[&nodes[0], &nodes[1]]).await;
    let mut leaves = nodes[0].node_leave();
    nodes[0].set_keyring(Keyring::new([SECRET, OTHER]).unwrap()).await.unwrap();
    nodes[1].set_keyring(Keyring::new([SECRET, OTHER]).unwrap()).await.unwrap();
    let before = nodes[0].status()[0].clone();
    nodes[0].set_keyring(Keyring::new([OTHER, SECRET]).unwrap()).await.unwrap();
    nodes[0].to_cluster("x").await.unwrap();
    full(&[&nodes[0], &nodes[1]]).await;
    assert_eq!((leaves.try_next(), nodes[0].status()[0].jointime), (None, before.jointime));
}

#[tokio::test]
async fn one_key_is_not_given_to_two_names() {
    let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let node = Manager::builder("n1").key(own.clone()).start().unwrap();
    let with = |name: &str, key: &KeyPair| Node::new(name, "tcp://127.0.0.1:1").with_key(key.public());
    let twice = |name: &str, other: &str| Err(NodeError::KeyTwice { name: name.into(), other: other.into() });
    assert_eq!(node.add_node(with("n2", &own)), twice("n2", "n1"));
    node.add_node(with("n2", &other)).unwrap();
    assert_eq!(node.add_node(with("n3", &other)), twice("n3", "n2"));
    assert_eq!(node.nodes().len(), 1, "nothing came of it");
    node.add_node(with("n2", &other)).unwrap();
    node.remove_node("n2").unwrap();
    node.add_node(with("n3", &other)).unwrap();
}
