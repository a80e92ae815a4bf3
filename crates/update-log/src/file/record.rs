//! What the log writes down. Pure.
//!
//! A record is its kind, its length, a checksum of its data, and its data. An append has its
//! sequence before the part that the checksum covers, so that it can be encoded before it has one.

use std::sync::Arc;

use bytes::Bytes;
use common::queue::Sequence;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::codec::{Corrupt, Decoded, Input};
use crate::{ClientKey, DeliveryState};

/// The length of what stands before a record's data.
pub(crate) const RECORD_HEADER: usize = 9;

/// Numbers a subscription of a node, for ever: a name can be given to another node.
pub(crate) type Slot = u32;

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// An update came.
    Append(Append),
    /// An attempt failed.
    Failed { slot: Slot, sequence: u64, attempts: u32, failures: u32, status: u16, error: String },
    /// A node is done with an update.
    Settled {
        slot: Slot,
        sequence: u64,
        state: DeliveryState,
        attempts: u32,
        status: u16,
        digest: u64,
        error: String,
    },
    /// Every node that had not settled an update refused it.
    Rejected { sequence: u64, status: u16 },
    /// A node gets what comes from now on.
    Subscribe { slot: Slot, name: String },
    /// A node gets nothing more; what it had not settled is discarded.
    Unsubscribe { slot: Slot },
    /// A node has another name.
    Rename { slot: Slot, name: String },
    /// Everything before `until` that the node had not settled is discarded.
    Discard { slot: Slot, until: u64 },
    /// Everything held from `from` on is pending for the node again.
    Rewind { slot: Slot, from: u64 },
    /// What the node had not settled is discarded, and it gets nothing for now.
    Park { slot: Slot },
    /// What a segment begins with.
    Snapshot(Snapshot),
    /// The segments before this one are needed no more.
    Trim { segment: u64 },
    /// The log was opened after an end without [`Record::Closed`]: each pending update may have been tried.
    Reopened,
    /// The log was closed in order, and nothing is under way.
    Closed,
}

/// The state before a segment's first record, as far as the segment and those after it need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The sequence that the next append gets.
    pub(crate) next: u64,
    /// The slot that the next subscription gets.
    pub(crate) next_slot: Slot,
    /// Segments before this one are needed no more.
    pub(crate) trim: u64,
    /// Number of the segment before and how much of it is true; what stands behind that was given up.
    pub(crate) previous: Option<(u64, u64)>,
    /// Each subscribed node: slot, name, and the first sequence it gets.
    pub(crate) nodes: Vec<(Slot, String, u64)>,
    /// Those of them that are parked: the first sequence that each does not get.
    pub(crate) parked: Vec<(Slot, u64)>,
}

/// What recovery needs of an update; the rest is read when a node needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Append {
    /// Its place.
    pub(crate) sequence: u64,
    /// When it was received, in milliseconds since the Unix epoch.
    pub(crate) received_ms: u64,
    /// The client's key.
    pub(crate) key: Option<(crate::Digest, crate::Digest)>,
    /// Name, length and checksum of a body in a file of its own.
    pub(crate) spooled: Option<(String, u64, u32)>,
    /// Whether it is a DELETE, which queues count apart.
    pub(crate) delete: bool,
    /// The length of the whole record.
    pub(crate) len: u32,
}

pub(super) const APPEND: u8 = 1;
pub(super) const KEYED: u8 = 1;
pub(super) const SPOOLED: u8 = 2;
pub(super) const DELETE: u8 = 4;

/// Reads what [`put_headers`](super::encode::put_headers) wrote.
pub(crate) fn headers(input: &mut Input<'_>) -> Decoded<HeaderMap> {
    let bad = |_| Corrupt("a header is not one");
    let mut headers = HeaderMap::new();
    for _ in 0..input.number()? {
        let name = HeaderName::from_bytes(input.bytes()?).map_err(|_| Corrupt("a header is not one"))?;
        headers.append(name, HeaderValue::from_bytes(input.bytes()?).map_err(bad)?);
    }
    Ok(headers)
}

/// An update as its record has it. A spooled body is given by name.
pub(crate) struct Whole {
    pub(crate) head: Append,
    pub(crate) id: Arc<str>,
    pub(crate) method: Method,
    pub(crate) target: Arc<str>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Whole {
    /// The client's key.
    pub(crate) fn key(&self) -> Option<ClientKey> {
        self.head.key.map(|(scope, body)| ClientKey { scope, body })
    }
}

/// Reads one whole update, `bytes` being its record and nothing else.
pub(crate) fn decode_whole(bytes: &Bytes, expected: Sequence) -> Decoded<Whole> {
    let mut input = Input(bytes);
    let (kind, data) = envelope(&mut input)?;
    if kind != APPEND || !input.is_empty() {
        return Err(Corrupt("an update does not stand where it should"));
    }
    let mut input = Input(data);
    let head = append_head(&mut input, bytes.len() as u32)?;
    if head.sequence != expected.0 {
        return Err(Corrupt("another update stands where one should"));
    }
    let id = input.text()?.into();
    let method = Method::from_bytes(input.bytes()?).map_err(|_| Corrupt("a method is not one"))?;
    let target = input.text()?.into();
    let headers = headers(&mut input)?;
    Ok(Whole { head, id, method, target, headers, body: bytes.slice_ref(input.0) })
}

/// Reads the next record; its place in `payload` is told to who counts what is left of `input`.
pub(crate) fn decode(input: &mut Input<'_>) -> Decoded<Record> {
    let before = input.0.len();
    let (kind, data) = envelope(input)?;
    let len = before - input.0.len();
    let mut data = Input(data);
    if kind == APPEND {
        return append_head(&mut data, len as u32).map(Record::Append);
    }
    let record = decode_small(kind, &mut data)?;
    if data.is_empty() { Ok(record) } else { Err(Corrupt("a record is longer than it should be")) }
}

fn envelope<'a>(input: &mut Input<'a>) -> Decoded<(u8, &'a [u8])> {
    let kind = input.byte()?;
    let len = u32::from_le_bytes(input.array()?);
    let crc = u32::from_le_bytes(input.array()?);
    let data = input.take(len as usize)?;
    let covered = if kind == APPEND { data.get(8..).unwrap_or_default() } else { data };
    if crc != crc32c::crc32c(covered) {
        return Err(Corrupt("a record's checksum does not match"));
    }
    Ok((kind, data))
}

fn append_head(data: &mut Input<'_>, len: u32) -> Decoded<Append> {
    let sequence = u64::from_le_bytes(data.array()?);
    let received_ms = data.number()?;
    let flags = data.byte()?;
    if flags & !(KEYED | SPOOLED | DELETE) != 0 {
        return Err(Corrupt("an update has unknown flags"));
    }
    let key = if flags & KEYED != 0 { Some((data.array()?, data.array()?)) } else { None };
    let spooled = match flags & SPOOLED {
        0 => None,
        _ => Some((data.text()?.to_owned(), data.number()?, u32::from_le_bytes(data.array()?))),
    };
    Ok(Append { sequence, received_ms, key, spooled, delete: flags & DELETE != 0, len })
}

fn decode_small(kind: u8, data: &mut Input<'_>) -> Decoded<Record> {
    Ok(match kind {
        2 => Record::Failed {
            slot: data.small()?,
            sequence: data.number()?,
            attempts: data.small()?,
            failures: data.small()?,
            status: data.small()?,
            error: data.text()?.to_owned(),
        },
        3 => Record::Settled {
            slot: data.small()?,
            sequence: data.number()?,
            state: state(data.byte()?)?,
            attempts: data.small()?,
            status: data.small()?,
            digest: u64::from_le_bytes(data.array()?),
            error: data.text()?.to_owned(),
        },
        4 => Record::Rejected { sequence: data.number()?, status: data.small()? },
        5 => Record::Subscribe { slot: data.small()?, name: data.text()?.to_owned() },
        6 => Record::Unsubscribe { slot: data.small()? },
        7 => Record::Rename { slot: data.small()?, name: data.text()?.to_owned() },
        8 => Record::Discard { slot: data.small()?, until: data.number()? },
        9 => Record::Snapshot(snapshot(data)?),
        10 => Record::Trim { segment: data.number()? },
        11 => Record::Reopened,
        12 => Record::Closed,
        13 => Record::Rewind { slot: data.small()?, from: data.number()? },
        14 => Record::Park { slot: data.small()? },
        _ => return Err(Corrupt("a record is of no known kind")),
    })
}

fn snapshot(data: &mut Input<'_>) -> Decoded<Snapshot> {
    let (next, next_slot, trim) = (data.number()?, data.small()?, data.number()?);
    let previous = match data.byte()? {
        0 => None,
        _ => Some((data.number()?, data.number()?)),
    };
    let mut nodes = Vec::new();
    for _ in 0..data.number()? {
        nodes.push((data.small()?, data.text()?.to_owned(), data.number()?));
    }
    let mut parked = Vec::new();
    // Left out where nobody is.
    if !data.is_empty() {
        for _ in 0..data.number()? {
            parked.push((data.small()?, data.number()?));
        }
    }
    Ok(Snapshot { next, next_slot, trim, previous, nodes, parked })
}

fn state(code: u8) -> Decoded<DeliveryState> {
    Ok(match code {
        1 => DeliveryState::Delivered,
        2 => DeliveryState::Dead,
        3 => DeliveryState::Discarded,
        4 => DeliveryState::Rejected,
        _ => return Err(Corrupt("a state is of no known kind")),
    })
}
