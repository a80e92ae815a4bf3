//! The file engine.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::node::NodeId;
use common::queue::Sequence;
use http::{HeaderMap, Method, StatusCode};
use update_log::{
    Answer, AnswerBody, FileLog, FileLogOptions, NewUpdate, Settled, UpdateBody, UpdateLog,
};

use crate::{APPENDERS, BODY, NODES, Rates, disk_bytes, rate, timed};

fn update(number: usize) -> NewUpdate {
    NewUpdate {
        id: format!("id-{number}").into(),
        key: None,
        received_ms: 1,
        method: Method::POST,
        target: "/kv/some/key".into(),
        headers: HeaderMap::new(),
        body: UpdateBody::Memory(Bytes::from(vec![number as u8; BODY])),
    }
}

async fn append_all(log: &Arc<FileLog>, appenders: usize, count: usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for appender in 0..appenders {
        let log = log.clone();
        tasks.spawn(async move {
            for number in (appender..count).step_by(appenders) {
                log.append(update(number)).await.expect("an append");
            }
        });
    }
    tasks.join_all().await;
}

async fn follow(log: Arc<FileLog>, node: NodeId, from: usize, until: usize) {
    let answer = Arc::new(Answer {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: AnswerBody::Whole(Bytes::new()),
    });
    let (mut tail, mut next) = (log.tail(), Sequence(from as u64));
    while next.0 <= until as u64 {
        let batch = log.read(&node, next, 1000).await.expect("a read");
        if batch.is_empty() {
            tail.wait_for(|tail| *tail > next).await.expect("the log is open");
        }
        for pending in batch {
            next = pending.update.sequence.next();
            let answer = answer.clone();
            log.settle(&node, &pending.update, Settled::Delivered { attempt: 1, answer, digest: 0, level: true });
        }
    }
}

pub(crate) fn measure(dir: &Path) -> Rates {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let nodes: Vec<_> = (0..NODES).map(|n| NodeId::new("node", 80 + n as u16).expect("a name")).collect();
    let log = FileLog::open(FileLogOptions::new(dir)).expect("a log");
    let mut rates = Rates::default();
    runtime.block_on(log.subscribe(&nodes[0])).expect("a node");
    let (alone, together, backlog) = (2_000, 40_000, 100_000);
    rates.alone = rate(alone, timed(|| runtime.block_on(append_all(&log, 1, alone))));
    runtime.block_on(log.discard(&nodes[0])).expect("a node");
    for node in &nodes[1..] {
        runtime.block_on(log.subscribe(node)).expect("a node");
    }
    let time = timed(|| {
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for node in &nodes {
                tasks.spawn(follow(log.clone(), node.clone(), alone + 1, alone + together));
            }
            append_all(&log, APPENDERS, together).await;
            tasks.join_all().await;
        });
    });
    rates.together = rate(together, time);
    runtime.block_on(append_all(&log, APPENDERS, backlog));
    let total = alone + together + backlog;
    rates.space = disk_bytes(dir) as f64 / (total * BODY) as f64;
    runtime.block_on(log.close()).expect("a close");
    drop(log);
    let log = FileLog::open(FileLogOptions::new(dir)).expect("a log");
    let time = timed(|| runtime.block_on(follow(log.clone(), nodes[0].clone(), alone + together + 1, total)));
    rates.catch_up = rate(backlog, time);
    rates
}
