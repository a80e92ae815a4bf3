//! Updates: on disk first, then to every node; the client gets the answer of one.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use common::node::NodeId;
use common::queue::Sequence;
use daemon::http::{Intake, Parts, Reserved};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use rand::RngExt;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use update_log::{
    Answer, AnswerBody, AppendError, Appended, ClientKey, Digest, NewUpdate, Report, Spool, Tracker,
    UpdateBody,
};

use super::ack::{Verdict, Wanted, verdict};
use super::body::ClientBody;
use super::headers::{IDEMPOTENCY_KEY, SPAWN_SEQUENCE};
use super::reply::{Refusal, json_response};
use super::worker::Worker;
use crate::config::{Ack, LiveConfig};
use crate::nodes::full::make_room;

/// Bodies up to this stay in memory; larger ones are spooled to the data directory.
const HELD_BODY: u64 = 64 * 1024;
/// One update has at most so many nodes parked.
const MOST_PARKED: usize = 8;
/// The longest Idempotency-Key that is taken.
const MAX_KEY: usize = 256;
/// Says that an answer is a repetition of the first.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// An update that is on disk.
pub struct Taken {
    config: Arc<LiveConfig>,
    sequence: Sequence,
    /// The first answer, where the client has sent this update before.
    answer: Option<Arc<Answer>>,
    /// Follows the nodes' answers.
    tracker: Option<Arc<Tracker>>,
    /// Who has to have answered, where one is not enough.
    wanted: Option<Wanted>,
    repeated: bool,
}

/// Takes an update whose headers have been prepared for the nodes.
///
/// # Errors
/// When the update was not taken; no node then gets it.
pub async fn take(worker: &Worker, request: Request<Incoming>) -> Result<Taken, Refusal> {
    let config = worker.shared.config.load_full();
    let (parts, body) = request.into_parts();
    let target: Arc<str> = parts.uri.path_and_query().map_or("/", |target| target.as_str()).into();
    let (id, own_key) = identify(&parts.headers)?;
    let mut reserved = worker.shared.buffer.reserve();
    let received = receive(worker, &config, body, own_key, &mut reserved).await?;
    let key = received.digest.map(|body| ClientKey { scope: scope(&parts.method, &target, &id), body });
    let update = NewUpdate {
        id,
        key,
        received_ms: unix_ms(SystemTime::now()),
        method: parts.method,
        target,
        headers: to_store(&parts.headers),
        body: received.body,
    };
    let resting = resting(worker, config.updates.ack);
    let appended = append(worker, update).await;
    worker.shared.log_health.note(!matches!(appended, Err(AppendError::Log(_))));
    match appended.map_err(not_appended)? {
        Appended::New { sequence, tracker } => {
            let wanted = wanted(&config, &tracker, &resting);
            Ok(Taken { config, sequence, answer: None, tracker: Some(tracker), wanted, repeated: false })
        }
        Appended::Known { sequence, answer, tracker } => {
            worker.shared.metrics.replayed.inc();
            let wanted = tracker.as_ref().and_then(|tracker| wanted(&config, tracker, &resting));
            Ok(Taken { config, sequence, answer, tracker, wanted, repeated: true })
        }
        Appended::KeyReused { sequence } => Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "This Idempotency-Key was used with another body",
            format!("Update {sequence} has it: send the same body again, or use a new key"),
        )),
    }
}

/// Answers an update that was taken.
pub async fn answer(worker: &Worker, taken: Taken) -> Response<ClientBody> {
    let Taken { config, sequence, answer, tracker, wanted, repeated } = taken;
    let mut response = match (answer, tracker) {
        (Some(answer), _) => {
            to_client(&answer, sequence).unwrap_or_else(|| accepted(worker, &config, sequence, &[]))
        }
        (None, Some(tracker)) => answer_when(worker, &config, sequence, &tracker, wanted.as_ref()).await,
        (None, None) => accepted(worker, &config, sequence, &[]),
    };
    if repeated {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// The nodes in maintenance, where it matters who they are.
fn resting(worker: &Worker, ack: Ack) -> Vec<NodeId> {
    if matches!(ack, Ack::First | Ack::Queued) {
        return Vec::new();
    }
    let table = worker.shared.nodes.table();
    let resting = table.entries().iter().filter(|entry| entry.node.maintenance);
    resting.map(|entry| entry.node.id.clone()).collect()
}

fn wanted(config: &LiveConfig, tracker: &Tracker, resting: &[NodeId]) -> Option<Wanted> {
    if matches!(config.updates.ack, Ack::First | Ack::Queued) {
        return None;
    }
    let asked = tracker.nodes.iter().filter(|node| !resting.contains(node)).cloned();
    Wanted::new(config.updates.ack, asked.collect())
}

/// The key of an update, and whether it is the client's own.
fn identify(headers: &HeaderMap) -> Result<(Arc<str>, bool), Refusal> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok((format!("{:032x}", rand::rng().random::<u128>()).into(), false));
    };
    let bad = |what: &str| {
        Refusal::new(StatusCode::BAD_REQUEST, "The Idempotency-Key cannot be used", what).closing()
    };
    if headers.get_all(IDEMPOTENCY_KEY).iter().count() > 1 {
        return Err(bad("It was sent more than once"));
    }
    let text = value.to_str().map_err(|_| bad("It holds characters other than visible ASCII"))?;
    if text.is_empty() || text.len() > MAX_KEY {
        return Err(bad("Use 1 to 256 characters"));
    }
    Ok((text.into(), true))
}

fn scope(method: &http::Method, target: &str, key: &str) -> Digest {
    let mut hash = Sha256::new();
    for part in [method.as_str(), target, key] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    short(hash)
}

fn short(hash: Sha256) -> Digest {
    let whole: [u8; 32] = hash.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    half
}

/// What is stored of the headers: framing is made anew at each delivery. The copies share one
/// buffer of their own, so that an update in memory does not keep its connection's buffers alive.
fn to_store(headers: &HeaderMap) -> HeaderMap {
    const LEFT_OUT: [HeaderName; 4] = [header::CONTENT_LENGTH, header::TE, header::TRAILER, IDEMPOTENCY_KEY];
    let kept = || headers.iter().filter(|(name, _)| !LEFT_OUT.contains(name));
    let mut values = BytesMut::with_capacity(kept().map(|(_, value)| value.len()).sum());
    kept().for_each(|(_, value)| values.extend_from_slice(value.as_bytes()));
    let mut values = values.freeze();
    // Each delivery adds a few of its own.
    let mut stored = HeaderMap::with_capacity(headers.len() + 6);
    for (name, value) in kept() {
        let copy = HeaderValue::from_maybe_shared(values.split_to(value.len()));
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_str().as_bytes()), copy) {
            stored.append(name, value);
        }
    }
    stored
}

struct Received {
    body: UpdateBody,
    /// Of the body, when the client sent a key.
    digest: Option<Digest>,
}

/// Takes in a body: small ones in memory, large ones on disk, none beyond the limit.
async fn receive(
    worker: &Worker,
    config: &LiveConfig,
    body: Incoming,
    keyed: bool,
    reserved: &mut Reserved,
) -> Result<Received, Refusal> {
    let mut intake = Intake::new(body, config.body_limits())?;
    let mut hash = keyed.then(Sha256::new);
    let mut held = Parts::default();
    let mut spool: Option<Box<dyn Spool>> = None;
    let mut length = 0u64;
    while let Some(chunk) = intake.next().await? {
        length += chunk.len() as u64;
        if let Some(hash) = &mut hash {
            hash.update(&chunk);
        }
        if let Some(spool) = &mut spool {
            write(worker, &mut **spool, chunk, length).await?;
        } else if length > HELD_BODY {
            let mut fresh = begin(worker, length).await?;
            write(worker, &mut *fresh, held.join(), length).await?;
            write(worker, &mut *fresh, chunk, length).await?;
            spool = Some(fresh);
        } else {
            reserved.grow(chunk.len() as u64, config.max_buffer)?;
            held.push(chunk);
        }
    }
    let body = match spool {
        Some(spool) => UpdateBody::Spooled(spool.finish().await.map_err(not_appended)?),
        None => UpdateBody::Memory(Bytes::copy_from_slice(&held.join())),
    };
    Ok(Received { body, digest: hash.map(short) })
}

/// Appends an update; where the log is full, again for each node that could be parked.
async fn append(worker: &Worker, update: NewUpdate) -> Result<Appended, AppendError> {
    let shared = &worker.shared;
    // Only where it may be needed: a copy takes memory.
    let copy = shared.pressure.is_high().then(|| copy_of(&update));
    let mut appended = shared.log.append(update).await;
    let Some(copy) = copy else { return appended };
    for _ in 0..MOST_PARKED {
        let Err(AppendError::Full { limit, .. }) = appended else { break };
        if !make_room(shared, size(&copy), limit).await {
            break;
        }
        appended = shared.log.append(copy_of(&copy)).await;
    }
    appended
}

/// About what an update takes in the log.
fn size(update: &NewUpdate) -> u64 {
    let headers: usize =
        update.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    update.body.len() + (headers + update.target.len() + update.id.len() + 128) as u64
}

fn copy_of(update: &NewUpdate) -> NewUpdate {
    let NewUpdate { id, key, received_ms, method, target, headers, body } = update;
    let (id, target, headers, body) = (id.clone(), target.clone(), headers.clone(), body.clone());
    NewUpdate { id, key: *key, received_ms: *received_ms, method: method.clone(), target, headers, body }
}

/// Begins a body on disk; where the log is full, once more when there is room.
async fn begin(worker: &Worker, length: u64) -> Result<Box<dyn Spool>, Refusal> {
    match worker.shared.log.spool().await {
        Err(AppendError::Full { limit, .. }) if make_room(&worker.shared, length, limit).await => {
            worker.shared.log.spool().await.map_err(not_appended)
        }
        other => other.map_err(not_appended),
    }
}

async fn write(worker: &Worker, spool: &mut dyn Spool, chunk: Bytes, length: u64) -> Result<(), Refusal> {
    match spool.write(chunk.clone()).await {
        Err(AppendError::Full { limit, .. }) if make_room(&worker.shared, length, limit).await => {
            spool.write(chunk).await.map_err(not_appended)
        }
        other => other.map_err(not_appended),
    }
}

fn not_appended(error: AppendError) -> Refusal {
    let refusal = Refusal::unavailable("The update was not taken, and no node got it", error.to_string());
    match error {
        AppendError::Full { .. } | AppendError::TooManyKeys { .. } => {
            Refusal { retry_after: Some(5), ..refusal }
        }
        AppendError::InDoubt { .. } => Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            "The update may have been taken: send it again with the same Idempotency-Key",
            error.to_string(),
        ),
        AppendError::NoNodes | AppendError::Log(_) => refusal,
    }
}

/// The answer to an update that is on disk.
async fn answer_when(
    worker: &Worker,
    config: &LiveConfig,
    sequence: Sequence,
    tracker: &Tracker,
    wanted: Option<&Wanted>,
) -> Response<ClientBody> {
    let metrics = &worker.shared.metrics;
    if config.updates.ack == Ack::Queued {
        metrics.accepted.inc();
        // Nobody will wait for the answers: let them go as they come.
        return accepted(worker, config, sequence, &tracker.wait_for(|reports| Some(reports.to_vec())).await);
    }
    let spoken = tracker.wait_for(|reports| match verdict(reports, &tracker.nodes, wanted) {
        Verdict::Speaks(report) => Some(Ok(report.answer.clone()?)),
        Verdict::Wait => None,
        Verdict::Never => Some(Err(reports.to_vec())),
    });
    let mut spoken = std::pin::pin!(spoken);
    match tokio::time::timeout(config.timeout, spoken.as_mut()).await {
        Ok(Err(reports)) => {
            metrics.accepted.inc();
            accepted(worker, config, sequence, &reports)
        }
        Ok(Ok(answer)) => {
            metrics.answered.inc();
            let response = to_client(&answer, sequence);
            response.unwrap_or_else(|| accepted(worker, config, sequence, &tracker.reports()))
        }
        // Still waiting as far as the tracker knows, so the answers so far are there.
        Err(_) => {
            metrics.accepted.inc();
            accepted(worker, config, sequence, &tracker.reports())
        }
    }
}

/// `None` when the answer was too large to be kept and somebody else has it already.
fn to_client(answer: &Answer, sequence: Sequence) -> Option<Response<ClientBody>> {
    let body = match &answer.body {
        AnswerBody::Whole(bytes) if bytes.is_empty() => ClientBody::Whole(None),
        AnswerBody::Whole(bytes) => ClientBody::Whole(Some(bytes.clone())),
        AnswerBody::Streamed(chunks) => {
            let length =
                answer.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
            let chunks = chunks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()?;
            ClientBody::Relayed { chunks, length }
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers.clone();
    response.headers_mut().insert(SPAWN_SEQUENCE, HeaderValue::from(sequence.0));
    Some(response)
}

/// 202: the update is safe, and this is where to look for what becomes of it.
fn accepted(
    worker: &Worker,
    config: &LiveConfig,
    sequence: Sequence,
    reports: &[Report],
) -> Response<ClientBody> {
    let base = config.updates.status_url.as_ref().unwrap_or(&worker.shared.api_url);
    let location = format!("{base}/updates/{sequence}");
    let answered: serde_json::Map<String, serde_json::Value> = reports
        .iter()
        .filter_map(|report| Some((report.node.to_string(), json!(report.answer.as_ref()?.status.as_u16()))))
        .collect();
    let body = json!({"success": true, "sequence": sequence.0, "location": location, "answered": answered});
    let mut response = json_response(StatusCode::ACCEPTED, &body);
    if let Ok(value) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response.headers_mut().insert(SPAWN_SEQUENCE, HeaderValue::from(sequence.0));
    response
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
