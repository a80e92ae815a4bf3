//! How long it takes from asking to be registered until a watcher elsewhere shows the instance, with this crate and with a bare client
//! of the same server, in one sitting:
//! `cargo run --release -p reception --example register_seen -- URL [INSTANCES]`
//!
//! The list grows by one instance at a time and is never emptied. Both register over one client and watch over another; the bare client does
//! the least that a server allows: the write, and the server's own way to tell of it. Rounds take turns, so that the lists are of the same length.
//! Prints a line per client: its name, then the milliseconds of each round.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::{Duration, Instant};

use reception::{Options, Service};
use tokio::sync::watch;

type Done<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A way to register, and the ids that a watcher shows.
struct Way {
    name: &'static str,
    register: Box<dyn Fn(String) -> Done<'static>>,
    shown: watch::Receiver<BTreeSet<String>>,
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let url = args.next().expect("URL of a store");
    let instances: usize = args.next().map_or(60, |text| text.parse().unwrap());
    let server = url.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap()).to_owned();
    let bare = match url.split(':').next().unwrap() {
        "consul" => bare_consul(&server).await,
        "etcd" => bare_etcd(&server).await,
        "zk" => bare_zookeeper(&server).await,
        other => panic!("there is no bare client for {other}"),
    };
    let ways = [ours(&url), bare];
    let mut took = [Vec::new(), Vec::new()];
    for round in 0..instances + 5 {
        for (way, took) in ways.iter().zip(&mut took) {
            let id = format!("instance-{round:05}");
            let mut shown = way.shown.clone();
            let begun = Instant::now();
            let seen = shown.wait_for(|ids| ids.contains(&id));
            let (_, seen) = tokio::join!((way.register)(id.clone()), async {
                seen.await.unwrap();
                begun.elapsed()
            });
            // The first rounds warm up.
            if round >= 5 {
                took.push(seen.as_secs_f64() * 1000.0);
            }
        }
    }
    for (way, took) in ways.iter().zip(&took) {
        let times = took.iter().map(|time| format!("{time:.3}")).collect::<Vec<_>>();
        println!("{} {}", way.name, times.join(" "));
    }
}

fn ours(url: &str) -> Way {
    let writer = reception::dial(url, Options::default()).unwrap();
    let reader = reception::dial(url, Options::default()).unwrap();
    let service = Service::new("ours", "127.0.0.1", 80).unwrap();
    let mut watcher = reader.watcher(&service.name);
    let (tell, shown) = watch::channel(BTreeSet::new());
    tokio::spawn(async move {
        while let Some(view) = watcher.next().await {
            let ids = view.services().into_iter().map(|service| service.id.clone()).collect();
            tell.send_replace(ids);
        }
    });
    let register = Box::new(move |id: String| -> Done<'static> {
        let registration = writer.register(service.clone().with_id(&id).unwrap());
        Box::pin(async move {
            registration.registered().await;
            // Held until the end of the program.
            std::mem::forget(registration);
        })
    });
    Way { name: "ours", register, shown }
}

async fn bare_consul(server: &str) -> Way {
    use consul_client::agent::{Check, Probe, Service, Status};
    use consul_client::blocking::Cursor;
    let client = || consul_client::Consul::new(consul_client::Config::at(server)).unwrap();
    let (writer, reader) = (std::sync::Arc::new(client()), client());
    let (tell, shown) = watch::channel(BTreeSet::new());
    tokio::spawn(async move {
        let mut cursor = Cursor::new(Duration::from_secs(30));
        loop {
            let reply = reader.health_service("bare", true, cursor.query(0.5)).await.unwrap();
            cursor.saw(reply.index);
            tell.send_replace(reply.value.into_iter().map(|instance| instance.id).collect());
        }
    });
    let register = Box::new(move |id: String| -> Done<'static> {
        let writer = writer.clone();
        Box::pin(async move {
            let check = Check {
                id: String::new(),
                name: String::new(),
                probe: Probe::Ttl(Duration::from_secs(600)),
                status: Some(Status::Passing),
                deregister_after: None,
            };
            let service = Service { id, name: "bare".to_owned(), checks: vec![check], ..Service::default() };
            writer.register_service(&service).await.unwrap();
        })
    });
    Way { name: "bare", register, shown }
}

async fn bare_etcd(server: &str) -> Way {
    use etcd_gateway::{Config, Etcd, Put, Txn};
    let client = || {
        Etcd::new(Config {
            endpoints: vec![server.to_owned()],
            tls: None,
            timeout: Duration::from_secs(5),
            limits: etcd_gateway::Limits::default(),
        })
        .unwrap()
    };
    let (writer, reader) = (std::sync::Arc::new(client()), client());
    let (tell, shown) = watch::channel(BTreeSet::new());
    let found = reader.range(b"/bare/").await.unwrap();
    let mut events = reader.watch(b"/bare/", found.revision + 1).await.unwrap();
    tokio::spawn(async move {
        loop {
            let news = events.next().await.unwrap();
            tell.send_modify(|ids: &mut BTreeSet<String>| {
                ids.extend(news.put.iter().map(|entry| String::from_utf8(entry.key[6..].to_vec()).unwrap()));
            });
        }
    });
    let register = Box::new(move |id: String| -> Done<'static> {
        let writer = writer.clone();
        Box::pin(async move {
            let (lease, _) = writer.grant(Duration::from_secs(600)).await.unwrap();
            let key = format!("/bare/{id}").into_bytes();
            let put = Put { key, value: b"{}".to_vec(), lease: Some(lease) };
            writer.commit(&Txn { put: vec![put], ..Txn::default() }).await.unwrap();
        })
    });
    Way { name: "bare", register, shown }
}

async fn bare_zookeeper(server: &str) -> Way {
    use zookeeper_client::{Acls, Client, CreateMode};
    let writer = Client::connect(server).await.unwrap();
    let reader = Client::connect(server).await.unwrap();
    let persistent = CreateMode::Persistent.with_acls(Acls::anyone_all());
    writer.create("/bare", b"", &persistent).await.unwrap();
    let (tell, shown) = watch::channel(BTreeSet::new());
    tokio::spawn(async move {
        let mut known = BTreeSet::new();
        loop {
            let (children, _, changed) = reader.get_and_watch_children("/bare").await.unwrap();
            for child in children {
                if known.insert(child.clone()) {
                    reader.get_data(&format!("/bare/{child}")).await.unwrap();
                }
            }
            // The server appends ten digits to each.
            tell.send_replace(known.iter().map(|child| child[..child.len() - 11].to_owned()).collect());
            changed.changed().await;
        }
    });
    let register = Box::new(move |id: String| -> Done<'static> {
        let writer = writer.clone();
        Box::pin(async move {
            let ephemeral = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
            writer.create(&format!("/bare/{id}-"), b"{}", &ephemeral).await.unwrap();
        })
    });
    Way { name: "bare", register, shown }
}
