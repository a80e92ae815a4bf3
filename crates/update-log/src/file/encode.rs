//! Writes records down. Pure.

use http::{HeaderMap, Method};

use super::codec::{put_bytes, put_number};
use super::record::{APPEND, DELETE, KEYED, RECORD_HEADER, Record, SPOOLED, Snapshot};
use crate::{ClientKey, DeliveryState, NewUpdate, Update, UpdateBody};

/// An update's parts, wherever they come from.
pub(crate) struct Parts<'a> {
    pub(crate) id: &'a str,
    pub(crate) key: Option<ClientKey>,
    pub(crate) received_ms: u64,
    pub(crate) method: &'a Method,
    pub(crate) target: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a UpdateBody,
}

impl<'a> From<&'a NewUpdate> for Parts<'a> {
    fn from(update: &'a NewUpdate) -> Self {
        let NewUpdate { id, key, received_ms, method, target, headers, body } = update;
        Self { id, key: *key, received_ms: *received_ms, method, target, headers, body }
    }
}

impl<'a> From<&'a Update> for Parts<'a> {
    fn from(update: &'a Update) -> Self {
        let Update { id, key, received_ms, method, target, headers, body, .. } = update;
        Self { id, key: *key, received_ms: *received_ms, method, target, headers, body }
    }
}

/// Encodes an update without its sequence: kind, length, checksum, eight bytes for the sequence, data.
/// `None` when it is too large for a record.
pub(crate) fn encode_append(update: &Parts<'_>) -> Option<Vec<u8>> {
    let mut out = vec![0; RECORD_HEADER + 8];
    put_number(&mut out, update.received_ms);
    let spooled = if let UpdateBody::Spooled(spooled) = update.body { Some(spooled) } else { None };
    let flags = [
        (update.key.is_some(), KEYED),
        (spooled.is_some(), SPOOLED),
        (*update.method == Method::DELETE, DELETE),
    ];
    out.push(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum());
    if let Some(key) = update.key {
        out.extend_from_slice(&key.scope);
        out.extend_from_slice(&key.body);
    }
    if let Some(spooled) = spooled {
        put_bytes(&mut out, spooled.path.file_name()?.to_str()?.as_bytes());
        put_number(&mut out, spooled.len);
        out.extend_from_slice(&spooled.crc.to_le_bytes());
    }
    put_bytes(&mut out, update.id.as_bytes());
    put_bytes(&mut out, update.method.as_str().as_bytes());
    put_bytes(&mut out, update.target.as_bytes());
    put_headers(&mut out, update.headers);
    if let UpdateBody::Memory(bytes) = update.body {
        out.extend_from_slice(bytes);
    }
    let len = u32::try_from(out.len() - RECORD_HEADER).ok().filter(|len| *len < 1 << 30)?;
    let crc = crc32c::crc32c(&out[RECORD_HEADER + 8..]);
    out[0] = APPEND;
    out[1..5].copy_from_slice(&len.to_le_bytes());
    out[5..9].copy_from_slice(&crc.to_le_bytes());
    Some(out)
}

/// Gives an encoded update its sequence.
pub(crate) fn number_append(encoded: &mut [u8], sequence: u64) {
    encoded[RECORD_HEADER..RECORD_HEADER + 8].copy_from_slice(&sequence.to_le_bytes());
}

/// Appends headers, repeated ones included.
pub(crate) fn put_headers(out: &mut Vec<u8>, headers: &HeaderMap) {
    put_number(out, headers.len() as u64);
    for (name, value) in headers {
        put_bytes(out, name.as_str().as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

fn state_code(state: DeliveryState) -> u8 {
    match state {
        DeliveryState::Pending => 0,
        DeliveryState::Delivered => 1,
        DeliveryState::Dead => 2,
        DeliveryState::Discarded => 3,
        DeliveryState::Rejected => 4,
    }
}

/// Appends a record to a frame. Updates go by [`encode_append`].
pub(crate) fn encode(out: &mut Vec<u8>, record: &Record) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEADER]);
    let kind = encode_data(out, record);
    let len = (out.len() - start - RECORD_HEADER) as u32;
    let crc = crc32c::crc32c(&out[start + RECORD_HEADER..]);
    out[start] = kind;
    out[start + 1..start + 5].copy_from_slice(&len.to_le_bytes());
    out[start + 5..start + 9].copy_from_slice(&crc.to_le_bytes());
}

fn put_all(out: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        put_number(out, *number);
    }
}

fn encode_data(out: &mut Vec<u8>, record: &Record) -> u8 {
    match record {
        Record::Append(append) => {
            debug_assert!(false, "update {} was to be encoded whole", append.sequence);
            0
        }
        Record::Failed { slot, sequence, attempts, failures, status, error } => {
            let numbers =
                [(*slot).into(), *sequence, (*attempts).into(), (*failures).into(), (*status).into()];
            put_all(out, &numbers);
            put_bytes(out, error.as_bytes());
            2
        }
        Record::Settled { slot, sequence, state, attempts, status, digest, error } => {
            put_all(out, &[(*slot).into(), *sequence]);
            out.push(state_code(*state));
            put_all(out, &[(*attempts).into(), (*status).into()]);
            out.extend_from_slice(&digest.to_le_bytes());
            put_bytes(out, error.as_bytes());
            3
        }
        Record::Rejected { sequence, status } => {
            put_all(out, &[*sequence, (*status).into()]);
            4
        }
        Record::Subscribe { slot, name } | Record::Rename { slot, name } => {
            put_number(out, (*slot).into());
            put_bytes(out, name.as_bytes());
            if matches!(record, Record::Subscribe { .. }) { 5 } else { 7 }
        }
        Record::Unsubscribe { slot } => {
            put_number(out, (*slot).into());
            6
        }
        Record::Discard { slot, until } => {
            put_all(out, &[(*slot).into(), *until]);
            8
        }
        Record::Snapshot(snapshot) => {
            encode_snapshot(out, snapshot);
            9
        }
        Record::Trim { segment } => {
            put_number(out, *segment);
            10
        }
        Record::Reopened => 11,
        Record::Closed => 12,
        Record::Rewind { slot, from } => {
            put_all(out, &[(*slot).into(), *from]);
            13
        }
        Record::Park { slot } => {
            put_number(out, (*slot).into());
            14
        }
    }
}

fn encode_snapshot(out: &mut Vec<u8>, snapshot: &Snapshot) {
    put_all(out, &[snapshot.next, snapshot.next_slot.into(), snapshot.trim]);
    match snapshot.previous {
        None => out.push(0),
        Some((number, end)) => {
            out.push(1);
            put_all(out, &[number, end]);
        }
    }
    put_number(out, snapshot.nodes.len() as u64);
    for (slot, name, since) in &snapshot.nodes {
        put_number(out, (*slot).into());
        put_bytes(out, name.as_bytes());
        put_number(out, *since);
    }
    if !snapshot.parked.is_empty() {
        put_number(out, snapshot.parked.len() as u64);
        for (slot, until) in &snapshot.parked {
            put_all(out, &[(*slot).into(), *until]);
        }
    }
}
