//! Embedded databases behind a group commit.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::ReadableDatabase;
use tokio::sync::{oneshot, watch};

use crate::{APPENDERS, BODY, NODES, Rates, disk_bytes, rate, timed};

/// What a database has to do.
pub(crate) trait Peer: Send + Sync + Sized + 'static {
    fn open(dir: &Path) -> Self;
    /// Stores the updates from `first` on and the cursors, durably, in one transaction.
    fn commit(&self, first: u64, updates: &[Vec<u8>], cursors: &[(u8, u64)]);
    /// Up to `max` updates from `from` on.
    fn read(&self, from: u64, max: usize) -> Vec<(u64, Vec<u8>)>;
}

pub(crate) struct Fjall {
    database: Database,
    updates: Keyspace,
    cursors: Keyspace,
}

impl Peer for Fjall {
    fn open(dir: &Path) -> Self {
        let database = Database::builder(dir.join("fjall")).open().expect("fjall");
        let space = |name| database.keyspace(name, KeyspaceCreateOptions::default).expect("a keyspace");
        let (updates, cursors) = (space("updates"), space("cursors"));
        Self { database, updates, cursors }
    }

    fn commit(&self, first: u64, updates: &[Vec<u8>], cursors: &[(u8, u64)]) {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (sequence, update) in (first..).zip(updates) {
            batch.insert(&self.updates, sequence.to_be_bytes(), update.as_slice());
        }
        for (node, cursor) in cursors {
            batch.insert(&self.cursors, [*node], cursor.to_be_bytes());
        }
        batch.commit().expect("a commit");
    }

    fn read(&self, from: u64, max: usize) -> Vec<(u64, Vec<u8>)> {
        let range = self.updates.range(from.to_be_bytes()..).take(max);
        range
            .map(|entry| {
                let (key, value) = entry.into_inner().expect("an entry");
                (u64::from_be_bytes(key.as_ref().try_into().expect("a key")), value.to_vec())
            })
            .collect()
    }
}

const UPDATES: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("updates");
const CURSORS: redb::TableDefinition<'_, u8, u64> = redb::TableDefinition::new("cursors");

pub(crate) struct Redb(redb::Database);

impl Peer for Redb {
    fn open(dir: &Path) -> Self {
        let this = Self(redb::Database::create(dir.join("redb")).expect("redb"));
        this.commit(1, &[], &[]);
        this
    }

    fn commit(&self, first: u64, updates: &[Vec<u8>], cursors: &[(u8, u64)]) {
        let write = self.0.begin_write().expect("a transaction");
        {
            let mut table = write.open_table(UPDATES).expect("a table");
            for (sequence, update) in (first..).zip(updates) {
                table.insert(sequence, update.as_slice()).expect("an insert");
            }
            let mut table = write.open_table(CURSORS).expect("a table");
            for (node, cursor) in cursors {
                table.insert(*node, *cursor).expect("an insert");
            }
        }
        write.commit().expect("a commit");
    }

    fn read(&self, from: u64, max: usize) -> Vec<(u64, Vec<u8>)> {
        let read = self.0.begin_read().expect("a transaction");
        let table = read.open_table(UPDATES).expect("a table");
        let range = table.range(from..).expect("a range").take(max);
        range.map(|entry| entry.expect("an entry")).map(|(key, value)| (key.value(), value.value().to_vec())).collect()
    }
}

pub(crate) struct Sqlite {
    write: Mutex<rusqlite::Connection>,
    read: Mutex<rusqlite::Connection>,
}

impl Peer for Sqlite {
    fn open(dir: &Path) -> Self {
        let connect = || {
            let connection = rusqlite::Connection::open(dir.join("sqlite")).expect("SQLite");
            connection.pragma_update(None, "journal_mode", "WAL").expect("WAL");
            connection.pragma_update(None, "synchronous", "FULL").expect("FULL");
            connection
        };
        let write = connect();
        let tables = "CREATE TABLE IF NOT EXISTS updates (sequence INTEGER PRIMARY KEY, body BLOB);
            CREATE TABLE IF NOT EXISTS cursors (node INTEGER PRIMARY KEY, cursor INTEGER);";
        write.execute_batch(tables).expect("tables");
        Self { write: Mutex::new(write), read: Mutex::new(connect()) }
    }

    fn commit(&self, first: u64, updates: &[Vec<u8>], cursors: &[(u8, u64)]) {
        let mut connection = self.write.lock().expect("a connection");
        let transaction = connection.transaction().expect("a transaction");
        {
            let mut insert = transaction.prepare_cached("INSERT INTO updates VALUES (?, ?)").expect("a statement");
            for (sequence, update) in (first..).zip(updates) {
                insert.execute((sequence as i64, update)).expect("an insert");
            }
            let replace = "INSERT OR REPLACE INTO cursors VALUES (?, ?)";
            let mut replace = transaction.prepare_cached(replace).expect("a statement");
            for (node, cursor) in cursors {
                replace.execute((node, *cursor as i64)).expect("an insert");
            }
        }
        transaction.commit().expect("a commit");
    }

    fn read(&self, from: u64, max: usize) -> Vec<(u64, Vec<u8>)> {
        let connection = self.read.lock().expect("a connection");
        let select = "SELECT sequence, body FROM updates WHERE sequence >= ? ORDER BY sequence LIMIT ?";
        let mut select = connection.prepare_cached(select).expect("a statement");
        let rows = select.query_map((from as i64, max as i64), |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)));
        rows.expect("rows").map(|row| row.expect("a row")).collect()
    }
}

struct Log<P> {
    peer: Arc<P>,
    requests: mpsc::Sender<(Vec<u8>, oneshot::Sender<u64>)>,
    tail: watch::Receiver<u64>,
    cursors: Arc<Vec<AtomicU64>>,
}

impl<P: Peer> Log<P> {
    fn start(peer: Arc<P>, first: u64) -> Arc<Self> {
        let (requests, waiting) = mpsc::channel::<(Vec<u8>, oneshot::Sender<u64>)>();
        let (tell, tail) = watch::channel(first);
        let cursors: Arc<Vec<AtomicU64>> = Arc::new((0..NODES).map(|_| AtomicU64::new(1)).collect());
        let (writer, marks) = (peer.clone(), cursors.clone());
        std::thread::spawn(move || {
            let mut next = first;
            while let Ok(request) = waiting.recv() {
                let (updates, replies): (Vec<_>, Vec<_>) = std::iter::once(request).chain(waiting.try_iter()).unzip();
                let marks: Vec<_> =
                    marks.iter().enumerate().map(|(node, mark)| (node as u8, mark.load(Ordering::Relaxed))).collect();
                writer.commit(next, &updates, &marks);
                for reply in replies {
                    let _ = reply.send(next);
                    next += 1;
                }
                tell.send_replace(next);
            }
        });
        Arc::new(Self { peer, requests, tail, cursors })
    }

    async fn append_all(self: &Arc<Self>, appenders: usize, count: usize) {
        let mut tasks = tokio::task::JoinSet::new();
        for appender in 0..appenders {
            let log = self.clone();
            tasks.spawn(async move {
                for number in (appender..count).step_by(appenders) {
                    let (reply, answer) = oneshot::channel();
                    log.requests.send((vec![number as u8; BODY], reply)).expect("a writer");
                    answer.await.expect("an append");
                }
            });
        }
        tasks.join_all().await;
    }

    async fn follow(self: Arc<Self>, node: usize, from: u64, until: u64) {
        let (mut tail, mut next) = (self.tail.clone(), from);
        while next <= until {
            let peer = self.peer.clone();
            let batch = tokio::task::spawn_blocking(move || peer.read(next, 1000)).await.expect("a read");
            if batch.is_empty() {
                tail.wait_for(|tail| *tail > next).await.expect("the log is open");
            }
            for (sequence, _) in batch {
                next = sequence + 1;
                self.cursors[node].store(next, Ordering::Relaxed);
            }
        }
    }
}

pub(crate) fn measure<P: Peer>(dir: &Path) -> Rates {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let (alone, together, backlog) = (2_000, 40_000, 100_000);
    let total = alone + together + backlog;
    let mut rates = Rates::default();
    {
        let peer = Arc::new(P::open(dir));
        let log = Log::start(peer, 1);
        rates.alone = rate(alone, timed(|| runtime.block_on(log.append_all(1, alone))));
        let time = timed(|| {
            runtime.block_on(async {
                let mut tasks = tokio::task::JoinSet::new();
                for node in 0..NODES {
                    tasks.spawn(log.clone().follow(node, alone as u64 + 1, (alone + together) as u64));
                }
                log.append_all(APPENDERS, together).await;
                tasks.join_all().await;
            });
        });
        rates.together = rate(together, time);
        runtime.block_on(log.append_all(APPENDERS, backlog));
        rates.space = disk_bytes(dir) as f64 / (total * BODY) as f64;
        let peer = log.peer.clone();
        drop(log);
        while Arc::strong_count(&peer) > 1 {
            std::thread::yield_now();
        }
    }
    let log = Log::start(Arc::new(P::open(dir)), total as u64 + 1);
    let from = (alone + together) as u64 + 1;
    let time = timed(|| runtime.block_on(log.clone().follow(0, from, total as u64)));
    rates.catch_up = rate(backlog, time);
    rates
}
