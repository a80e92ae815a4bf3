//! Many writers at once, which remember what they sent and what they were told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::http::Answer;
use crate::raw::Raw;
use crate::seed::Rng;

/// How long a writer waits before it tries again with the same key.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Writers with keep-alive connections, each sending one update after another.
#[derive(Clone, Debug)]
pub struct Load {
    addr: SocketAddr,
    seed: u64,
    writers: u64,
    requests: u64,
    methods: Vec<String>,
    paths: Vec<String>,
    body: usize,
    retry: bool,
}

/// What a writer was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer.
    Answered {
        /// Its status.
        status: u16,
        /// Its `Spawn-Sequence`.
        sequence: Option<u64>,
    },
    /// Nothing: the connection failed, and whether the update was accepted is not known.
    Unknown(String),
}

/// One update that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its `Idempotency-Key`, unique for the load's seed.
    pub key: String,
    /// The method.
    pub method: String,
    /// The target.
    pub target: String,
    /// What the writer was told in the end.
    pub outcome: Outcome,
    /// How often it was sent.
    pub attempts: u32,
    /// When it was first sent, since the load began.
    pub began: Duration,
    /// How long it took until the outcome was known.
    pub took: Duration,
}

impl Sent {
    /// The proxy took it on: an answer below 400, or any answer that carries its sequence.
    pub fn accepted(&self) -> bool {
        matches!(self.outcome, Outcome::Answered { status, sequence } if status < 400 || sequence.is_some())
    }
}

/// All that was sent.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order in which outcomes became known.
    pub sent: Vec<Sent>,
    /// From the start to the last outcome.
    pub took: Duration,
}

impl Report {
    /// The keys of what was accepted.
    pub fn accepted(&self) -> impl Iterator<Item = &str> {
        self.sent.iter().filter(|sent| sent.accepted()).map(|sent| sent.key.as_str())
    }

    /// How many were answered with this status.
    pub fn answered(&self, wanted: u16) -> usize {
        let is = |sent: &&Sent| matches!(sent.outcome, Outcome::Answered { status, .. } if status == wanted);
        self.sent.iter().filter(is).count()
    }

    /// The time that this share of updates (0.5, 0.99) took at most.
    pub fn percentile(&self, share: f64) -> Duration {
        let mut times: Vec<Duration> = self.sent.iter().map(|sent| sent.took).collect();
        times.sort_unstable();
        let last = times.len().saturating_sub(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank within the list")]
        let rank = (last as f64 * share.clamp(0.0, 1.0)).round() as usize;
        times.get(rank).copied().unwrap_or_default()
    }

    /// Updates a second.
    pub fn rate(&self) -> f64 {
        self.sent.len() as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// A load under way.
#[derive(Debug)]
pub struct Running {
    start: Instant,
    stop: Arc<AtomicBool>,
    left: Arc<AtomicU64>,
    sent: Arc<Mutex<Vec<Sent>>>,
    writers: JoinSet<()>,
}

impl Load {
    /// One writer that PUTs to one path until it is stopped.
    pub fn to(addr: SocketAddr, seed: u64) -> Self {
        Self {
            addr,
            seed,
            writers: 1,
            requests: u64::MAX,
            methods: vec!["PUT".to_owned()],
            paths: vec!["/kv/a".to_owned()],
            body: 32,
            retry: false,
        }
    }

    /// So many writers at once.
    pub fn writers(mut self, writers: u64) -> Self {
        self.writers = writers;
        self
    }

    /// So many updates in all, then the end.
    pub fn requests(mut self, requests: u64) -> Self {
        self.requests = requests;
        self
    }

    /// The methods to choose from.
    pub fn methods(mut self, methods: &[&str]) -> Self {
        self.methods = methods.iter().map(|&method| method.to_owned()).collect();
        self
    }

    /// The paths to choose from.
    pub fn paths(mut self, paths: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.paths = paths.into_iter().map(Into::into).collect();
        self
    }

    /// The length of each body.
    pub fn body(mut self, length: usize) -> Self {
        self.body = length;
        self
    }

    /// Tries again with the same key until there is an answer, through broken connections and 503.
    pub fn retry(mut self) -> Self {
        self.retry = true;
        self
    }

    /// Starts the writers on the runtime of the caller.
    pub fn start(self) -> Running {
        let mut running = Running {
            start: Instant::now(),
            stop: Arc::default(),
            left: Arc::new(AtomicU64::new(self.requests)),
            sent: Arc::default(),
            writers: JoinSet::new(),
        };
        let mut rng = Rng::new(self.seed);
        let load = Arc::new(self);
        for number in 0..load.writers {
            let writer = Writer {
                load: Arc::clone(&load),
                number,
                rng: rng.fork(),
                start: running.start,
                stop: Arc::clone(&running.stop),
                left: Arc::clone(&running.left),
                sent: Arc::clone(&running.sent),
                connection: None,
            };
            running.writers.spawn(writer.run());
        }
        running
    }

    /// Runs to the end of its requests.
    pub async fn run(self) -> Report {
        self.start().finish().await
    }
}

impl Running {
    /// How many outcomes are known so far.
    pub fn count(&self) -> usize {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Lets each writer finish its update, and gives the report.
    pub async fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.finish().await
    }

    /// Waits until all requests are done, and gives the report.
    pub async fn finish(mut self) -> Report {
        while let Some(ended) = self.writers.join_next().await {
            ended.expect("a writer does not panic");
        }
        let sent = std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner));
        Report { sent, took: self.start.elapsed() }
    }
}

/// One writer.
struct Writer {
    load: Arc<Load>,
    number: u64,
    rng: Rng,
    start: Instant,
    stop: Arc<AtomicBool>,
    left: Arc<AtomicU64>,
    sent: Arc<Mutex<Vec<Sent>>>,
    connection: Option<Raw>,
}

impl Writer {
    async fn run(mut self) {
        let take = |left: u64| left.checked_sub(1);
        for turn in 0_u64.. {
            let stopped = self.stop.load(Ordering::Relaxed);
            if stopped || self.left.try_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
                break;
            }
            let sent = self.update(turn).await;
            self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(sent);
        }
    }

    async fn update(&mut self, turn: u64) -> Sent {
        let key = format!("{}-{}-{turn}", self.load.seed, self.number);
        let method = self.rng.pick(&self.load.methods).clone();
        let target = self.rng.pick(&self.load.paths).clone();
        let mut body = key.clone().into_bytes();
        body.resize(self.load.body.max(body.len()), b'.');
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nIdempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n",
            self.load.addr,
            body.len()
        )
        .into_bytes();
        request.extend(body);
        let began = self.start.elapsed();
        let mut attempts = 1;
        let mut outcome = self.once(&request).await;
        while self.load.retry && !settled(&outcome) {
            tokio::time::sleep(RETRY_PAUSE).await;
            attempts += 1;
            outcome = self.once(&request).await;
        }
        Sent { key, method, target, outcome, attempts, began, took: self.start.elapsed() - began }
    }

    async fn once(&mut self, request: &[u8]) -> Outcome {
        match self.exchange(request).await {
            Ok(answer) => {
                if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                    self.connection = None;
                }
                let sequence = answer.header("spawn-sequence").and_then(|value| value.parse().ok());
                Outcome::Answered { status: answer.status, sequence }
            }
            Err(error) => {
                self.connection = None;
                Outcome::Unknown(error.to_string())
            }
        }
    }

    async fn exchange(&mut self, request: &[u8]) -> std::io::Result<Answer> {
        if self.connection.is_none() {
            self.connection = Some(Raw::try_connect(self.load.addr).await?);
        }
        let connection = self.connection.as_mut().expect("connected just now");
        connection.send(request).await;
        connection.answer().await
    }
}

/// Whether a retrying writer is content: an answer that is not 503 made without taking the update on.
fn settled(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Answered { status, sequence } if *status != 503 || sequence.is_some())
}
