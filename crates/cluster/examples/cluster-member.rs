//! A member as a process of its own, for the tests: `cluster-member NAME LISTEN [PEER=ADDRESS]...`, the secret in the
//! variable SECRET. Prints a line for each event but messages, and answers a message `report` with one about them.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for tests")]

use std::time::{Duration, Instant};

use cluster::{Event, Keyring, Manager, Message, Node, Settings};

/// What came so far.
#[derive(Debug, Default)]
struct Seen {
    count: u64,
    last: u64,
    missed: u64,
    disorder: u64,
    at: Option<Instant>,
    longest: Duration,
}

impl Seen {
    fn note(&mut self, message: &Message) {
        let pause = self.at.replace(Instant::now()).map(|at| at.elapsed()).unwrap_or_default();
        self.longest = self.longest.max(pause);
        self.count += 1;
        self.missed += message.missed;
        self.disorder += u64::from(message.sequence <= self.last);
        self.last = message.sequence;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (name, listen) = (args.next().unwrap(), args.next().unwrap());
    let settings = Settings {
        ping_interval: Duration::from_millis(200),
        read_timeout: Duration::from_secs(3),
        connect_interval: Duration::from_millis(200),
        ..Settings::default()
    };
    let keyring = Keyring::new([std::env::var("SECRET").unwrap()]).unwrap();
    let mut builder = Manager::builder(name.as_str()).keyring(keyring).settings(settings);
    for peer in args {
        let (name, addr) = peer.split_once('=').unwrap();
        builder = builder.node(Node::new(name, addr));
    }
    let manager = builder.start().unwrap();
    println!("listening {}", manager.listen(listen).await.unwrap());
    let mut events = manager.events();
    let mut seen = Seen::default();
    while let Some(event) = events.next().await {
        match event {
            Event::Message(message) if &message.payload[..] == b"report" => {
                seen.missed += message.missed;
                let Seen { count, missed, disorder, longest, .. } = &seen;
                println!(
                    "report count={count} missed={missed} disorder={disorder} longest_ms={}",
                    longest.as_millis()
                );
            }
            Event::Message(message) if &message.payload[..] == b"leave" => {
                manager.shutdown(Duration::from_secs(1)).await;
            }
            Event::Message(message) => seen.note(&message),
            Event::Join(node) => println!("join {node}"),
            Event::Leave(node) => println!("leave {node}"),
            Event::Quorum(quorum) => println!("quorum {quorum}"),
            Event::Undelivered(lost) => println!("undelivered {} {}", lost.node, lost.count),
            Event::Log(line) => println!("log {}", line.message),
            other => println!("{other:?}"),
        }
    }
    println!("ended");
}
