//! Applications that connect by ZeroMQ.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zmq_link::{Dealer, DealerOptions, Link, Multipart, ServerSecurity};

use crate::harness::*;

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/app.py");
/// Enough that neither buffers nor windows could hold it.
const MESSAGES: usize = 200_000;

fn endpoint(plan: &Plan, at: usize) -> String {
    format!("ipc://{}", plan.dir.join(format!("app-{at}")).display())
}

async fn start(plan: &Plan, nodes: usize) -> Vec<Node> {
    let mut started = Vec::new();
    for at in 1..=nodes {
        let program = plan.program(at).args(["--app", &endpoint(plan, at)]);
        started.push(Node::start(&program, at).await);
    }
    joined(&started).await;
    started
}

/// The client of the reference, killed on drop.
struct Client(Child);

impl Client {
    fn start(endpoint: &str, words: &[&str], stdin: Stdio, stdout: &Path) -> Self {
        let file = std::fs::File::create(stdout).unwrap();
        let mut command = Command::new(testkit::python_with_zmq());
        Self(command.arg(CLIENT).arg(endpoint).args(words).stdin(stdin).stdout(file).spawn().unwrap())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

async fn sessions(node: &Node, count: usize) {
    let line = format!("cluster_node_apps {count}\n");
    testkit::eventually(format!("{count} applications at {}", node.name), SOON, async || {
        testkit::http::get(node.api, "/metrics").await.text().contains(&line).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_full_rate_everything_arrives_in_order() {
    let plan = Plan::of(3);
    let nodes = start(&plan, 3).await;
    let mut receivers = Vec::new();
    for at in [2, 3] {
        let output = plan.dir.join(format!("received-{at}"));
        receivers.push((Client::start(&endpoint(&plan, at), &[], Stdio::null(), &output), output));
        sessions(&nodes[at - 1], 1).await;
    }
    let text = |number: usize| format!("{number:064}");
    let (begin, errors) = (Instant::now(), plan.dir.join("sender"));
    let mut sender = Client::start(&endpoint(&plan, 1), &["send"], Stdio::piped(), &errors);
    let mut stdin = sender.0.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || {
        let all: String = (0..MESSAGES).map(|number| text(number) + "\n").collect();
        stdin.write_all(all.as_bytes()).unwrap();
    });
    let limit = SOON * 4;
    let status = testkit::eventually("all answers", limit, async || sender.0.try_wait().unwrap()).await;
    feeding.join().unwrap();
    assert!(status.success(), "{status}");
    println!("{MESSAGES} messages were answered within {:?}", begin.elapsed());
    for (_client, output) in &receivers {
        testkit::eventually("all messages", limit, async || {
            let count = std::fs::metadata(output).unwrap().len();
            (count >= (MESSAGES * 65) as u64).then_some(())
        })
        .await;
        let lines = lines(output);
        assert_eq!(lines.len(), MESSAGES, "{:?}", lines.iter().find(|line| line.starts_with('#')));
        assert!(lines.iter().enumerate().all(|(number, line)| *line == text(number)));
    }
    println!("and were there within {:?}", begin.elapsed());
}

/// An application of this test.
struct App {
    dealer: Dealer,
    _link: Link,
}

impl App {
    async fn connect(endpoint: &str) -> Self {
        let link = Link::start("test").unwrap();
        let options = DealerOptions::new("app", endpoint, ServerSecurity::PlainText);
        let dealer = link.dealer(options).await.unwrap();
        Self { dealer, _link: link }
    }

    async fn hello(endpoint: &str, credit: &str) -> (Self, Value) {
        let mut app = Self::connect(endpoint).await;
        app.say(&["hello", credit]).await;
        let welcome = app.next("welcome").await;
        (app, serde_json::from_str(&welcome[1]).unwrap())
    }

    async fn say(&self, frames: &[&str]) {
        let message: Multipart = frames.iter().map(|frame| frame.as_bytes().to_vec()).collect();
        self.dealer.sender().send(message).await.unwrap();
    }

    async fn any(&mut self) -> Vec<String> {
        loop {
            let incoming = tokio::time::timeout(testkit::patience(SOON), self.dealer.recv()).await;
            let message = incoming.expect("a message in time").unwrap().message;
            let frames: Vec<String> =
                message.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect();
            if frames[0] != "ping" {
                return frames;
            }
        }
    }

    async fn next(&mut self, kind: &str) -> Vec<String> {
        loop {
            let frames = self.any().await;
            if frames[0] == kind {
                return frames;
            }
        }
    }

    async fn answer(&mut self) -> Value {
        serde_json::from_str(&self.next("sent").await[1]).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_frames_are_those_of_the_reference() {
    let plan = Plan::of(2);
    let mut nodes = start(&plan, 2).await;
    let (mut one, welcome) = App::hello(&endpoint(&plan, 1), "0").await;
    assert_eq!(
        welcome,
        json!({"version":1,"node":"n1","members":["n2"],"quorum":true,"messages":10000,"bytes":16777216})
    );
    let (mut two, _) = App::hello(&endpoint(&plan, 2), "100").await;
    one.say(&["send", "*", "to all"]).await;
    let answer = one.answer().await;
    assert_eq!(answer[0]["accepted"], json!(["n2"]));
    let sequence = answer[0]["sequence"].as_u64().unwrap().to_string();
    assert_eq!(two.next("message").await, ["message", "n1", &sequence, "to all"]);
    one.say(&["send", "n2", "to you", "text/plain"]).await;
    one.say(&["send", "n9", "to nobody"]).await;
    let told = two.next("message").await;
    assert_eq!((&told[1], &told[3], &told[4]), (&"n1".into(), &"to you".into(), &"text/plain".into()));
    let mut outcomes = Vec::new();
    while outcomes.len() < 2 {
        outcomes.extend(one.answer().await.as_array().unwrap().clone());
    }
    assert_eq!(outcomes[1], json!({"count":1,"error":"no node n9 is configured"}));

    one.say(&["what"]).await;
    assert!(one.next("error").await[1].contains("there are hello"));
    let mut stranger = App::connect(&endpoint(&plan, 1)).await;
    stranger.say(&["send", "*", "x"]).await;
    assert!(stranger.next("error").await[1].contains("say hello first"));

    nodes[0].done("POST", "/admin/n2/flush", "now").await;
    let call = two.next("api").await;
    let data: Value = serde_json::from_str(&call[3]).unwrap();
    assert_eq!((&call[1], &data["action"], &data["data"]), (&"n1".into(), &json!("flush"), &json!("now")));
    nodes[0].process.kill9();
    let left = two.next("leave").await;
    assert_eq!((&left[1], &left[2]), (&"n1".into(), &String::new()));
}

/// Sends this many messages to all, and waits for their answers.
async fn send(app: &mut App, count: u64, most: u64) {
    let mut answered = 0;
    for number in 0..count {
        if number >= answered + most {
            answered += counted(&app.answer().await);
        }
        app.say(&["send", "*", &number.to_string()]).await;
    }
    while answered < count {
        answered += counted(&app.answer().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ring_no_longer_has_is_a_gap_in_the_stream() {
    let plan = Plan::of(2);
    let nodes = start(&plan, 2).await;
    let (mut sender, _) = App::hello(&endpoint(&plan, 1), "0").await;
    let mut stream = nodes[1].events(None).await;
    send(&mut sender, 1, 1).await;
    let first = stream.next("message").await;
    drop(stream);
    send(&mut sender, 12_000, 5000).await;
    testkit::eventually("all messages to come", SOON, async || {
        (nodes[1].state().await["nodes"]["n1"]["packets"] == 12_001).then_some(())
    })
    .await;
    let mut again = nodes[1].events(Some(&first.id)).await;
    let gap = again.try_next().await.unwrap();
    assert_eq!((gap.kind.as_str(), &gap.id), ("gap", &String::new()));
    let mut count = gap.data["count"].as_u64().unwrap();
    loop {
        let told = again.try_next().await.unwrap();
        assert_eq!((told.kind.as_str(), &told.data["payload"]), ("message", &json!(count.to_string())));
        count += 1;
        if count == 12_000 {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_application_is_told_what_it_missed_and_holds_nobody_up() {
    let plan = Plan::of(2).flags(&["--buffer", "100"]);
    let nodes = start(&plan, 2).await;
    let (mut sender, _) = App::hello(&endpoint(&plan, 1), "0").await;
    let (mut slow, _) = App::hello(&endpoint(&plan, 2), "0").await;
    let (mut fast, _) = App::hello(&endpoint(&plan, 2), "1000000").await;
    let count = 5000_u64;
    send(&mut sender, count, 100).await;
    for number in 0..count {
        assert_eq!(fast.next("message").await[3], number.to_string());
    }
    slow.say(&["credit", "1000000"]).await;
    let (mut messages, mut missed) = (0, 0);
    while messages + missed < count {
        let frames = slow.any().await;
        match frames[0].as_str() {
            "message" => {
                assert_eq!(frames[3], (messages + missed).to_string(), "in order, with the gap in its place");
                messages += 1;
            }
            "gap" => {
                let data: Value = serde_json::from_str(&frames[3]).unwrap();
                missed += data["count"].as_u64().unwrap();
            }
            _ => {}
        }
    }
    assert!(messages >= 100 && missed > 0, "{messages} came, {missed} did not");
    let metrics = testkit::http::get(nodes[1].api, "/metrics").await.text();
    assert!(metrics.contains(&format!("cluster_node_app_events_left_out_total {missed}\n")), "{metrics}");
}

fn counted(answer: &Value) -> u64 {
    let outcomes = answer.as_array().unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.get("error").is_none()), "{answer}");
    outcomes.iter().map(|outcome| outcome["count"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_go_make_room_for_others_and_a_path_has_one_owner() {
    let plan = Plan::of(1).flags(&["--max-apps", "1"]);
    let mut nodes = start(&plan, 1).await;
    let at = endpoint(&plan, 1);
    let (first, _) = App::hello(&at, "10").await;
    let mut second = App::connect(&at).await;
    second.say(&["hello"]).await;
    assert!(second.next("error").await[1].contains("--max-apps"));
    drop(first);
    sessions(&nodes[0], 0).await;
    second.say(&["hello"]).await;
    second.next("welcome").await;

    let other = Plan::of(1);
    let mut taken = other.lone(1).args(["--app", &at]).start();
    let status = taken.ended(SOON).await;
    assert_eq!(status.code(), Some(1), "{:?}", taken.log());
    assert!(taken.log().iter().any(|line| line.contains("another process serves")), "{:?}", taken.log());
    // One that was killed leaves its path to the next.
    nodes[0].restart().await;
    App::hello(&at, "1").await;
    let open = run(words(&["--name", "n1", "--app", "tcp://0.0.0.0:5000"])).await;
    assert!(String::from_utf8_lossy(&open.stderr).contains("reached by others"), "{open:?}");
    assert!(!open.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_hello_again_is_told_what_it_lost() {
    let plan = Plan::of(2);
    let _nodes = start(&plan, 2).await;
    let (mut sender, _) = App::hello(&endpoint(&plan, 1), "0").await;
    let (mut app, _) = App::hello(&endpoint(&plan, 2), "0").await;
    send(&mut sender, 3, 3).await;
    // They wait for credit by now or in a moment.
    let begin = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        app.say(&["hello", "10"]).await;
        app.next("welcome").await;
        let frames = app.any().await;
        if frames[0] == "gap" && frames[3].contains("\"count\":3") {
            break;
        }
        assert!(begin.elapsed() < SOON, "{frames:?}");
    }
}
