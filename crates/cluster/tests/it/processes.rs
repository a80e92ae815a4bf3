//! Members as processes of their own: killed, stopped, left.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cluster::{Event, Manager, Node, Payload, Settings, Status};
use testkit::{Process, Program, eventually};

use crate::harness::{PATIENCE, SECRET, builder, listening, quick, wait_for};

fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().join("examples/cluster-member")
}

struct Cluster {
    n1: Manager,
    /// `n2`, `n3`.
    others: Vec<Process>,
}

impl Cluster {
    async fn start(settings: Settings) -> Self {
        let (n1, one) = listening(builder("n1").settings(settings)).await;
        let addrs: Vec<String> =
            (0..2).map(|_| format!("tcp://127.0.0.1:{}", testkit::free_port())).collect();
        let mut others = Vec::new();
        for (at, name) in ["n2", "n3"].into_iter().enumerate() {
            let other = ["n3", "n2"][at];
            let program = Program::new(program()).name(name).env("SECRET", SECRET);
            let program =
                program.args([name, &addrs[at], &format!("n1={one}"), &format!("{other}={}", addrs[1 - at])]);
            others.push(program.start());
            n1.add_node(Node::new(name, addrs[at].clone())).unwrap();
        }
        let cluster = Self { n1, others };
        cluster.full().await;
        cluster
    }

    async fn full(&self) {
        eventually("all three are members", PATIENCE, async || {
            self.n1.status().iter().all(|node| node.status == Status::Online).then_some(())
        })
        .await;
        // And of each other.
        self.printed(0, "join n3").await;
        self.printed(1, "join n2").await;
    }

    async fn printed(&self, at: usize, start: &str) -> String {
        let find = || self.others[at].stdout().into_iter().rev().find(|line| line.starts_with(start));
        eventually(format!("it prints {start:?}"), PATIENCE, async || find()).await
    }

    /// A number of what a member reports.
    async fn report(&self, at: usize, what: &str) -> u64 {
        let name = ["n2", "n3"][at];
        let before = self.others[at].stdout().len();
        self.n1.to_node(name, "report").await.unwrap();
        let line = eventually("a report", PATIENCE, async || {
            self.others[at].stdout().into_iter().skip(before).find(|line| line.starts_with("report "))
        })
        .await;
        let (_, rest) = line.split_once(&format!("{what}=")).unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn a_killed_member_is_seen_at_once_and_comes_back() {
    let mut cluster = Cluster::start(quick()).await;
    let mut events = cluster.n1.events();
    for round in 0..3 {
        let at = round % 2;
        let name = ["n2", "n3"][at];
        let start = Instant::now();
        cluster.others[at].kill9();
        wait_for(&mut events, "the leave", |event| (*event == Event::Leave(name.into())).then_some(())).await;
        let seen = start.elapsed();
        println!("kill -9 of {name} seen after {seen:?}");
        assert!(
            seen < testkit::patience(Duration::from_secs(1)),
            "by TCP, not by the read timeout: {seen:?}"
        );
        cluster.others[at].restart();
        wait_for(&mut events, "the join", |event| (*event == Event::Join(name.into())).then_some(())).await;
    }
}

#[tokio::test]
async fn a_clean_leave_is_seen_at_once() {
    let cluster = Cluster::start(quick()).await;
    let mut leaves = cluster.n1.node_leave();
    cluster.n1.to_node("n3", "leave").await.unwrap();
    assert_eq!(leaves.next().await.as_deref(), Some("n3"));
    cluster.printed(1, "ended").await;
    cluster.printed(0, "leave n3").await;
    assert!(cluster.n1.quorum(), "two of three");
}

#[tokio::test]
async fn a_stopped_member_holds_nobody_up_and_gets_what_fits_when_it_goes_on() {
    let window = Settings { window_messages: 500, ..quick() };
    let cluster = Cluster::start(window).await;
    let mut events = cluster.n1.events();
    for _ in 0..100 {
        cluster.n1.to_cluster("warm").await.unwrap();
    }
    eventually("all is acknowledged", PATIENCE, async || {
        cluster.n1.status().iter().all(|node| node.queue == 0).then_some(())
    })
    .await;
    cluster.others[0].sigstop();
    let (mut kept, mut lost) = (0, 0);
    let end = Instant::now() + Duration::from_secs(4);
    let mut longest = Duration::ZERO;
    while Instant::now() < end {
        let start = Instant::now();
        let receipt = cluster.n1.to_cluster(Payload::from(vec![7; 256])).await.unwrap();
        longest = longest.max(start.elapsed());
        assert!(receipt.undelivered.iter().all(|name| &**name == "n2"), "n3 misses nothing");
        if receipt.undelivered.is_empty() {
            kept += 1
        } else {
            lost += 1
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    wait_for(&mut events, "the leave", |event| (*event == Event::Leave("n2".into())).then_some(())).await;
    println!("{kept} kept, {lost} lost; the longest send took {longest:?}");
    assert!(lost > 0 && kept >= 500);
    let pause = cluster.report(1, "longest_ms").await;
    println!("the longest pause at n3 was {pause} ms");
    assert!(Duration::from_millis(pause) < testkit::patience(Duration::from_secs(1)));
    assert_eq!(cluster.report(1, "missed").await, 0);

    cluster.others[0].sigcont();
    wait_for(&mut events, "the join", |event| (*event == Event::Join("n2".into())).then_some(())).await;
    eventually("it has all that fits", PATIENCE, async || {
        (cluster.report(0, "count").await == 100 + kept).then_some(())
    })
    .await;
    assert_eq!(cluster.report(0, "missed").await, lost, "and knows what it misses");
    assert_eq!(cluster.report(0, "disorder").await, 0);
    let n2 = cluster.n1.status().into_iter().find(|node| &*node.name == "n2").unwrap();
    assert_eq!(n2.undelivered, lost);
}
