//! Many faults at random: processes that write and deliver while links break, Redis is killed, and deliveries move.
//! `SEED=n` runs one again; `MUSTER_ROUNDS=n` runs n times as long.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::node::NodeId;
use common::queue::Sequence;
use support::{LIMIT, Tokens, delivered, keyed, node, update};
use testkit::{FaultLink, RedisServer, Rng, TempDir, eventually};
use update_log::{AppendError, Appended, Failure, Lease, LogError, RedisLog, RedisLogOptions, UpdateLog};

const PROXIES: usize = 3;
const NODES: u16 = 2;
const WRITERS: usize = 6;

/// What a node got: sequence, target, attempt.
type Arrivals = Mutex<Vec<(u64, String, u32)>>;

struct Proxy {
    link: FaultLink,
    tokens: Arc<Tokens>,
    log: Arc<RedisLog>,
    /// One deliverer a node: the next one begins when the one before has ended.
    delivering: Vec<tokio::sync::Mutex<()>>,
    _dir: TempDir,
}

struct World {
    proxies: Vec<Proxy>,
    arrivals: Vec<Arrivals>,
    /// Of each target that was appended: its sequence.
    taken: Mutex<HashMap<String, u64>>,
    doubtful: Mutex<HashSet<String>>,
    refused: Mutex<HashSet<String>>,
    writing: AtomicBool,
    ended: AtomicBool,
    moved: AtomicU64,
    stale: AtomicU64,
}

fn node_at(index: usize) -> NodeId {
    node(1 + index as u16)
}

async fn write(world: Arc<World>, writer: usize, mut rng: Rng) {
    let mut count = 0;
    while world.writing.load(Ordering::SeqCst) {
        count += 1;
        let target = format!("/{writer}/{count}");
        let proxy = &world.proxies[rng.within(0..PROXIES as u64) as usize];
        let body = vec![writer as u8; rng.within(0..600) as usize];
        let with_key = rng.percent(30);
        let make = || match with_key {
            true => {
                let mut update = keyed(&target, &body, writer as u8);
                let key = update.key.as_mut().unwrap();
                key.scope[..8].copy_from_slice(&u64::to_be_bytes(count));
                update
            }
            false => update(&target, &body),
        };
        let mut outcome = proxy.log.append(make()).await;
        // Who has a key may send it again, anywhere, and gets one update.
        for _ in 0..100 {
            if !with_key || !matches!(outcome, Err(AppendError::InDoubt { .. })) {
                break;
            }
            let other = &world.proxies[rng.within(0..PROXIES as u64) as usize];
            match other.log.append(make()).await {
                Err(AppendError::Log(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                answered => outcome = answered,
            }
        }
        match outcome {
            Ok(Appended::New { sequence, .. } | Appended::Known { sequence, .. }) => {
                assert!(world.taken.lock().unwrap().insert(target, sequence.0).is_none());
            }
            Ok(Appended::KeyReused { .. }) => panic!("the body of {target} is the same"),
            Err(AppendError::InDoubt { .. }) => drop(world.doubtful.lock().unwrap().insert(target)),
            Err(AppendError::Log(_)) => {
                world.refused.lock().unwrap().insert(target);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Delivers to one node from one process for as long as it believes that it may.
async fn deliver(world: Arc<World>, proxy: usize, index: usize, mut rng: Rng) {
    let (Proxy { log, tokens, delivering, .. }, node) = (&world.proxies[proxy], node_at(index));
    let _alone = delivering[index].lock().await;
    let Some(term) = tokens.token(&node) else { return };
    // A term ends with its lease: what was not granted under it is for the next one.
    let mine = || tokens.token(&node) == Some(term) && log.is_claimed(&node);
    loop {
        match log.claim(&node).await {
            Ok(()) => break,
            Err(LogError::Away { .. } | LogError::Unanswered { .. }) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(_) => return,
        }
    }
    let (mut from, mut tail) = (Sequence::FIRST, log.tail());
    while !world.ended.load(Ordering::SeqCst) && mine() {
        let end = *tail.borrow_and_update();
        let Ok(pending) = log.read(&node, from, 32).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if pending.is_empty() {
            // Discarded from under the window, or level: look again when there is more.
            if from >= end {
                let _ = tokio::time::timeout(Duration::from_millis(50), tail.changed()).await;
            }
            from = from.max(end);
            continue;
        }
        for one in pending {
            let (sequence, mut number) = (one.update.sequence, one.progress.attempts + 1);
            loop {
                let granted = log.begin_attempt(&node, sequence).await;
                if !mine() {
                    world.stale.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                if !granted {
                    break;
                }
                let target = one.update.target.to_string();
                world.arrivals[index].lock().unwrap().push((sequence.0, target, number));
                if rng.percent(90) {
                    log.settle(&node, &one.update, delivered(number));
                    break;
                }
                let error = "no".to_owned();
                let failure = Failure { attempt: number, failures: 1, status: 503, error, answer: None };
                let mut outcome = log.failed(&node, sequence, failure.clone()).await;
                while matches!(outcome, Err(LogError::Away { .. } | LogError::Unanswered { .. })) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    outcome = log.failed(&node, sequence, failure.clone()).await;
                }
                if outcome.is_err() {
                    world.stale.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                number += 1;
            }
            from = sequence.next();
        }
    }
    world.stale.fetch_add(u64::from(!world.ended.load(Ordering::SeqCst)), Ordering::SeqCst);
}

/// Moves deliveries to another process. The one before is told in half of the cases only.
async fn move_nodes(world: Arc<World>, mut rng: Rng) {
    let mut token = 0;
    let mut holders = [usize::MAX; NODES as usize];
    while !world.ended.load(Ordering::SeqCst) {
        let index = match holders.iter().position(|holder| *holder == usize::MAX) {
            Some(index) => index,
            None => rng.within(0..NODES.into()) as usize,
        };
        let node = node_at(index);
        let next = rng.within(0..PROXIES as u64) as usize;
        token += 1;
        if let Some(before) = world.proxies.get(holders[index])
            && (holders[index] == next || rng.percent(50))
        {
            before.tokens.set(&node, None);
        }
        holders[index] = next;
        world.proxies[next].tokens.set(&node, Some(token));
        let (world_of_it, rng_of_it) = (world.clone(), rng.fork());
        tokio::spawn(deliver(world_of_it, next, index, rng_of_it));
        world.moved.fetch_add(1, Ordering::SeqCst);
        let pause = if holders.contains(&usize::MAX) { 0 } else { rng.within(50..500) };
        // The last holders stay, so that all of it gets delivered.
        if world.writing.load(Ordering::SeqCst) || pause == 0 {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        } else {
            return;
        }
    }
}

async fn break_things(world: &World, server: &mut RedisServer, rng: &mut Rng, faults: u64) {
    for _ in 0..faults {
        let link = &world.proxies[rng.within(0..PROXIES as u64) as usize].link;
        match rng.within(0..100) {
            0..50 => link.reset(),
            50..65 => {
                link.cut();
                tokio::time::sleep(Duration::from_millis(rng.within(0..600))).await;
            }
            65..80 => {
                link.blackhole();
                tokio::time::sleep(Duration::from_millis(rng.within(0..1500))).await;
            }
            80..88 => {
                server.process().sigstop();
                tokio::time::sleep(Duration::from_millis(rng.within(0..800))).await;
                server.process().sigcont();
            }
            _ => server.restart().await,
        }
        if rng.percent(70) {
            link.heal();
        }
        tokio::time::sleep(Duration::from_millis(rng.within(0..150))).await;
        world.proxies.iter().for_each(|proxy| {
            if rng.percent(60) {
                proxy.link.heal()
            }
        });
    }
    world.proxies.iter().for_each(|proxy| proxy.link.heal());
}

fn judge(world: &World) {
    let (taken, doubtful) = (world.taken.lock().unwrap(), world.doubtful.lock().unwrap());
    let refused = world.refused.lock().unwrap();
    let sequences: HashSet<u64> = taken.values().copied().collect();
    assert_eq!(sequences.len(), taken.len(), "each acknowledged update has its own sequence");
    for (index, arrivals) in world.arrivals.iter().enumerate() {
        let arrivals = arrivals.lock().unwrap();
        let mut first = HashMap::new();
        let mut order = Vec::new();
        let mut numbers = HashSet::new();
        for (sequence, target, number) in arrivals.iter() {
            match first.insert(*sequence, target.clone()) {
                None => order.push(*sequence),
                Some(before) => assert_eq!(before, *target, "sequence {sequence} is two updates"),
            }
            assert!(!refused.contains(target), "{target} was known not to be taken");
            numbers.insert((*sequence, *number));
        }
        let inversions = order.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert_eq!(inversions, 0, "first arrivals at node {index} are in order");
        let targets: HashSet<_> = first.values().collect();
        assert_eq!(targets.len(), first.len(), "no update is there twice");
        for (target, sequence) in taken.iter() {
            assert_eq!(first.get(sequence), Some(target), "{target} was acknowledged as {sequence}");
        }
        let others = first.values().filter(|target| !taken.contains_key(*target));
        others.for_each(|target| assert!(doubtful.contains(target), "{target} came from nowhere"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_update_reaches_every_node_once_in_order_whatever_breaks() {
    let mut rng = Rng::from_env();
    let rounds: u64 = std::env::var("MUSTER_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut server = RedisServer::start().await;
    let proxies = (0..PROXIES).map(|_| {
        let (link, dir) = (FaultLink::to(server.addr()), TempDir::new());
        let tokens = Arc::new(Tokens::default());
        let options = RedisLogOptions {
            patience: Duration::from_millis(500),
            doubt: Duration::from_millis(700),
            // Most of what is read comes from Redis.
            cache_bytes: 200 << 10,
            retain: Duration::from_millis(100),
            ..RedisLogOptions::new(&format!("redis://{}", link.addr()), dir.join("spool")).unwrap()
        };
        let log = RedisLog::open(options, tokens.clone()).unwrap();
        let delivering = (0..NODES).map(|_| tokio::sync::Mutex::default()).collect();
        Proxy { link, tokens, log, delivering, _dir: dir }
    });
    let world = Arc::new(World {
        proxies: proxies.collect(),
        arrivals: (0..NODES).map(|_| Arrivals::default()).collect(),
        taken: Mutex::default(),
        doubtful: Mutex::default(),
        refused: Mutex::default(),
        writing: AtomicBool::new(true),
        ended: AtomicBool::new(false),
        moved: AtomicU64::new(0),
        stale: AtomicU64::new(0),
    });
    for index in 0..NODES.into() {
        world.proxies[0].log.subscribe(&node_at(index)).await.unwrap();
    }
    let mover = tokio::spawn(move_nodes(world.clone(), rng.fork()));
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(world.clone(), writer, rng.fork()))).collect();
    break_things(&world, &mut server, &mut rng, 60 * rounds).await;
    world.writing.store(false, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    mover.await.unwrap();
    for proxy in &world.proxies {
        for index in 0..NODES.into() {
            eventually(format!("node {index} to be level"), LIMIT * 3, async || {
                let queue = proxy.log.queue(&node_at(index))?;
                (queue.pending == 0 && queue.cursor.low() == *proxy.log.tail().borrow()).then_some(())
            })
            .await;
        }
        assert_eq!(proxy.log.usage().lost, 0);
    }
    world.ended.store(true, Ordering::SeqCst);
    judge(&world);
    let usage = world.proxies[0].log.usage();
    assert_eq!(usage.pending_bytes, 0);
    let counts = [&world.taken.lock().unwrap().len(), &world.doubtful.lock().unwrap().len()].map(|n| *n);
    let [moved, stale] = [&world.moved, &world.stale].map(|count| count.load(Ordering::SeqCst));
    let refused = world.refused.lock().unwrap().len();
    eprintln!("taken {} in doubt {} refused {refused}; moved {moved}, stale {stale}", counts[0], counts[1]);
    assert!(counts[0] > 100 && moved > 2);
}
