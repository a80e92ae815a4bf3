//! What is written together: decided under the lock, written without it, told afterwards.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use common::node::NodeId;
use common::queue::Sequence;

use super::core::{Core, clip};
use super::encode;
use super::frame::{self, FRAME_HEADER};
use super::inbox::{Command, Outcome, Reply};
use super::keys::{Found, Key};
use super::record::{Append, Record, Slot};
use super::shared::Shared;
use super::state;
use crate::{AppendError, DeliveryState, Digest, Failure, LogError, NewUpdate, Tracker, Update, UpdateBody};

type AppendReply = Reply<Result<Outcome, AppendError>>;
type DoneReply = Reply<Result<(), LogError>>;

struct New {
    update: Arc<Update>,
    tracker: Arc<Tracker>,
    append: Append,
    /// Where its record begins in the frame.
    at: usize,
    reply: AppendReply,
    /// Requests with the same key in the same batch, and whether their bodies are the same too.
    twins: Vec<(bool, AppendReply)>,
}

/// One frame in the making.
pub(crate) struct Batch {
    frame: Vec<u8>,
    marks: Vec<Record>,
    new: Vec<New>,
    failures: Vec<(Slot, u64, Failure, DoneReply)>,
    flushes: Vec<DoneReply>,
    scopes: HashMap<Digest, usize>,
    bytes: u64,
    nodes: Option<Arc<[NodeId]>>,
    /// There is only room for cleaning up.
    short: bool,
}

impl Batch {
    /// A batch that begins with `marks`.
    pub(crate) fn new(marks: Vec<Record>, short: bool) -> Self {
        let mut frame = frame::begin();
        marks.iter().for_each(|mark| encode::encode(&mut frame, mark));
        Self {
            frame,
            marks,
            new: Vec::new(),
            failures: Vec::new(),
            flushes: Vec::new(),
            scopes: HashMap::new(),
            bytes: 0,
            nodes: None,
            short,
        }
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.frame.len() == FRAME_HEADER
    }

    /// Whether somebody waits for it to be durable.
    pub(crate) fn is_durable(&self) -> bool {
        !self.new.is_empty() || !self.failures.is_empty() || !self.flushes.is_empty()
    }

    /// The frame.
    pub(crate) fn frame(&mut self) -> &mut [u8] {
        &mut self.frame
    }

    /// The marks in it, to be kept until they are durable.
    pub(crate) fn take_marks(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.marks)
    }

    /// Adds what a request wants written, or answers it.
    pub(crate) fn add(&mut self, core: &mut Core, shared: &Shared, command: Command, now_ms: u64) {
        match command {
            Command::Append { update, encoded, reply } => {
                let Some(reply) = self.repeated(core, &update, now_ms, reply) else { return };
                match self.admit(core, shared, &update, &encoded, now_ms) {
                    Ok(nodes) => self.append(core, nodes, update, encoded, reply),
                    Err(error) => {
                        core.refused += 1;
                        let _ = reply.send(Err(error));
                    }
                }
            }
            Command::Failed { node, sequence, failure, reply } => {
                self.fail(core, &node, sequence.0, failure, reply);
            }
            Command::Flush { reply } => self.flushes.push(reply),
            // Written alone.
            Command::Subscribe { .. }
            | Command::Unsubscribe { .. }
            | Command::Rename { .. }
            | Command::Discard { .. }
            | Command::Rewind { .. }
            | Command::Park { .. }
            | Command::Close { .. } => {}
        }
    }

    /// Answers a request whose key is known; gives the way to answer back if it is new.
    fn repeated(
        &mut self,
        core: &mut Core,
        update: &NewUpdate,
        now_ms: u64,
        reply: AppendReply,
    ) -> Option<AppendReply> {
        let Some(key) = &update.key else { return Some(reply) };
        if let Some(twin) = self.scopes.get(&key.scope).and_then(|index| self.new.get_mut(*index)) {
            let same = twin.update.key.is_some_and(|first| first.body == key.body);
            twin.twins.push((same, reply));
            return None;
        }
        let outcome = match core.keys.find(&key.scope, &key.body, now_ms, |open| core.state.is_open(open)) {
            Found::Nothing => return Some(reply),
            Found::Other(sequence) => Outcome::KeyReused { sequence: Sequence(sequence) },
            Found::Same(sequence) => {
                let (answer, tracker) = core.known(sequence);
                Outcome::Known { sequence: Sequence(sequence), answer, tracker }
            }
        };
        let _ = reply.send(Ok(outcome));
        None
    }

    fn admit(
        &mut self,
        core: &mut Core,
        shared: &Shared,
        update: &NewUpdate,
        encoded: &[u8],
        now_ms: u64,
    ) -> Result<Arc<[NodeId]>, AppendError> {
        let nodes = || core.state.live().map(|(_, node)| node.name.clone()).collect();
        let nodes = self.nodes.get_or_insert_with(nodes).clone();
        if nodes.is_empty() {
            return Err(AppendError::NoNodes);
        }
        if self.short {
            return Err(shared.short_of_room());
        }
        let body = if let UpdateBody::Spooled(spooled) = &update.body { spooled.len } else { 0 };
        let pending_bytes = core.state.pending_bytes() + self.bytes;
        if pending_bytes.saturating_add(body).saturating_add(encoded.len() as u64) > shared.max_pending_bytes
        {
            return Err(AppendError::Full { pending_bytes, limit: shared.max_pending_bytes });
        }
        let full = |core: &Core| core.keys.len() + self.scopes.len() as u64 >= shared.max_keys;
        if update.key.is_some() && full(core) {
            core.keys.expire(now_ms, |sequence| core.state.is_open(sequence));
            if full(core) {
                return Err(AppendError::TooManyKeys { limit: shared.max_keys });
            }
        }
        Ok(nodes)
    }

    fn append(
        &mut self,
        core: &Core,
        nodes: Arc<[NodeId]>,
        update: NewUpdate,
        mut encoded: Vec<u8>,
        reply: AppendReply,
    ) {
        let sequence = core.state.next() + self.new.len() as u64;
        encode::number_append(&mut encoded, sequence);
        let at = self.frame.len();
        self.frame.extend_from_slice(&encoded);
        let NewUpdate { id, key, received_ms, method, target, headers, body } = update;
        let spooled = match &body {
            UpdateBody::Memory(_) => None,
            UpdateBody::Spooled(spooled) => Some((String::new(), spooled.len, spooled.crc)),
        };
        let key_parts = key.map(|key| (key.scope, key.body));
        let (delete, len) = (method == http::Method::DELETE, encoded.len() as u32);
        let append = Append { sequence, received_ms, key: key_parts, spooled, delete, len };
        self.bytes += state::size(&append);
        if let Some(key) = &key {
            self.scopes.insert(key.scope, self.new.len());
        }
        let tracker = Arc::new(Tracker::new(nodes));
        let followed = Some(tracker.clone());
        let sequence = Sequence(sequence);
        let update = Arc::new(Update {
            sequence,
            id,
            key,
            received_ms,
            method,
            target,
            headers,
            body,
            appended: Some(Instant::now()),
            tracker: followed,
        });
        self.new.push(New { update, tracker, append, at, reply, twins: Vec::new() });
    }

    fn fail(
        &mut self,
        core: &mut Core,
        node: &NodeId,
        sequence: u64,
        mut failure: Failure,
        reply: DoneReply,
    ) {
        let Some(slot) = core.state.slot(node) else {
            let _ = reply.send(Err(LogError::Node(node.clone())));
            return;
        };
        failure.error = clip(failure.error);
        if core.state.progress(slot, sequence).is_some_and(|p| p.state == DeliveryState::Pending) {
            let Failure { attempt, failures, status, error, .. } = failure.clone();
            let record = Record::Failed { slot, sequence, attempts: attempt, failures, status, error };
            encode::encode(&mut self.frame, &record);
        }
        self.failures.push((slot, sequence, failure, reply));
    }

    /// It is durable: puts it into memory, lets readers see it and answers everyone.
    pub(crate) fn commit(self, shared: &Shared, payload_at: u64, at_ms: u64, len: Option<u64>) {
        let mut core = shared.core();
        for new in &self.new {
            let offset = payload_at as usize + new.at - FRAME_HEADER;
            if let Err(error) = core.state.append(&new.append, offset as u32, at_ms) {
                tracing::error!(error = error.0, "an update that was written does not apply");
            }
            let sequence = new.append.sequence;
            if let Some((scope, body)) = new.append.key {
                let key = Key { sequence, body, at_ms, place: None, answered: false, last: false };
                core.keys.insert(scope, key);
            }
            if let UpdateBody::Spooled(spooled) = &new.update.body {
                spooled.guard.iter().for_each(|guard| guard.keep(true));
                core.bodies.insert(sequence, spooled.clone());
            }
            core.follow(sequence, &new.tracker);
            core.cache.push(new.update.clone(), new.append.len.into());
        }
        core.appends += self.new.len() as u64;
        for (slot, sequence, failure, _) in &self.failures {
            core.failed(*slot, *sequence, failure.clone());
        }
        if let (Some(segment), Some(len)) = (core.state.last_segment(), len) {
            segment.len = len;
        }
        let tail = Sequence(core.state.next());
        drop(core);
        if !self.new.is_empty() {
            shared.tail.send_replace(tail);
        }
        for New { tracker, append, reply, twins, .. } in self.new {
            let sequence = Sequence(append.sequence);
            for (same, twin) in twins {
                let tracker = Some(tracker.clone());
                let outcome = match same {
                    true => Outcome::Known { sequence, answer: None, tracker },
                    false => Outcome::KeyReused { sequence },
                };
                let _ = twin.send(Ok(outcome));
            }
            let _ = reply.send(Ok(Outcome::New { sequence, tracker }));
        }
        let failed = self.failures.into_iter().map(|(.., reply)| reply);
        for reply in failed.chain(self.flushes) {
            let _ = reply.send(Ok(()));
        }
    }

    /// The bodies that have files of their own.
    pub(crate) fn bodies(&self) -> Vec<UpdateBody> {
        let bodies = self.new.iter().map(|new| &new.update.body);
        bodies.filter(|body| matches!(body, UpdateBody::Spooled(_))).cloned().collect()
    }

    /// It is not durable: nobody sees any of it.
    pub(crate) fn refuse(self, shared: &Shared, error: &LogError) {
        let mut core = shared.core();
        core.refused += self.new.len() as u64;
        for (slot, sequence, ..) in &self.failures {
            core.attempting.remove(&(*slot, *sequence));
        }
        drop(core);
        for New { reply, twins, .. } in self.new {
            for reply in twins.into_iter().map(|(_, reply)| reply).chain([reply]) {
                let _ = reply.send(Err(AppendError::Log(error.clone())));
            }
        }
        let failed = self.failures.into_iter().map(|(.., reply)| reply);
        for reply in failed.chain(self.flushes) {
            let _ = reply.send(Err(error.clone()));
        }
    }
}
