//! The engine against a disk that crashes, fills up, fails and lies.

mod basic;
mod cut;
mod faults;
mod mem;
mod model;
mod retry;
mod rewind;
mod script;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::node::NodeId;
use common::queue::Sequence;
use http::{HeaderMap, Method, StatusCode};

use self::mem::MemDisk;
use crate::{
    Answer, AnswerBody, Appended, ClientKey, FileLog, FileLogOptions, NewUpdate, OpenError, Pending, Settled,
    Spool, Update, UpdateBody, UpdateLog,
};

/// Runs a future to its end.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// Waits until `check` gives something.
fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < end, "never came: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Numbers that look random and are not.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// The seeds to run: those of `SEED`, else `count` from 1 on, times `MUSTER_ROUNDS`.
fn seeds(count: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => vec![seed],
        None => (1..=count * number("MUSTER_ROUNDS").unwrap_or(1)).collect(),
    }
}

fn options() -> FileLogOptions {
    FileLogOptions {
        segment_bytes: 2048,
        cache_bytes: 4096,
        mark_delay: Duration::from_millis(1),
        ..FileLogOptions::new("/log")
    }
}

fn open(disk: &MemDisk) -> Result<Arc<FileLog>, OpenError> {
    FileLog::open_on(Arc::new(disk.clone()), options(), None)
}

fn node(name: &str) -> NodeId {
    NodeId::new(name, 80).unwrap()
}

/// An update that carries its name in every part.
fn update(name: &str, body: usize) -> NewUpdate {
    let mut headers = HeaderMap::new();
    headers.insert("x-name", name.parse().unwrap());
    headers.append("x-two", "a".parse().unwrap());
    headers.append("x-two", "b".parse().unwrap());
    NewUpdate {
        id: name.into(),
        key: None,
        received_ms: 1_700_000_000_000 + name.len() as u64,
        method: if name.contains("del") { Method::DELETE } else { Method::POST },
        target: format!("/things/{name}?x=1").into(),
        headers,
        body: UpdateBody::Memory(body_of(name, body)),
    }
}

fn body_of(name: &str, len: usize) -> Bytes {
    name.bytes().cycle().take(len).collect()
}

fn key(number: u8, body: u8) -> ClientKey {
    ClientKey { scope: [number; 16], body: [body; 16] }
}

fn answer(status: u16, body: &str) -> Arc<Answer> {
    let mut headers = HeaderMap::new();
    headers.insert("location", "/things/1".parse().unwrap());
    let body = AnswerBody::Whole(Bytes::copy_from_slice(body.as_bytes()));
    Arc::new(Answer { status: StatusCode::from_u16(status).unwrap(), headers, body })
}

fn delivered(attempt: u32) -> Settled {
    Settled::Delivered { attempt, answer: answer(201, "made"), digest: 7, level: true }
}

fn append(log: &FileLog, update: NewUpdate) -> u64 {
    match wait(log.append(update)).unwrap() {
        Appended::New { sequence, .. } => sequence.0,
        Appended::Known { sequence, .. } => panic!("known as {sequence}"),
        Appended::KeyReused { sequence } => panic!("key of {sequence}"),
    }
}

fn read(log: &FileLog, name: &str) -> Vec<Pending> {
    let mut all = Vec::new();
    let mut from = Sequence(0);
    loop {
        let batch = wait(log.read(&node(name), from, 100)).unwrap();
        let Some(last) = batch.last() else { return all };
        from = last.update.sequence.next();
        all.extend(batch);
    }
}

fn sequences(log: &FileLog, name: &str) -> Vec<u64> {
    read(log, name).iter().map(|pending| pending.update.sequence.0).collect()
}

fn get(log: &FileLog, name: &str, sequence: u64) -> Arc<Update> {
    let found = wait(log.read(&node(name), Sequence(sequence), 1)).unwrap().remove(0).update;
    assert_eq!(found.sequence.0, sequence);
    found
}

/// A spooled update.
fn spooled(log: &FileLog, name: &str, len: usize) -> NewUpdate {
    let mut spool: Box<dyn Spool> = wait(log.spool()).unwrap();
    for chunk in body_of(name, len).chunks(100) {
        wait(spool.write(Bytes::copy_from_slice(chunk))).unwrap();
    }
    let body = wait(spool.finish()).unwrap();
    NewUpdate { body: UpdateBody::Spooled(body), ..update(name, 0) }
}
