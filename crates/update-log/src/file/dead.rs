//! Updates that were given up on one node, each a file of its own, so that segments can go.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use common::queue::Sequence;

use super::codec::{Corrupt, Decoded, Input, put_bytes, put_number};
use super::core::Dying;
use super::disk::{self, Disk, write_all};
use super::encode::{self, Parts};
use super::files::{self, RecoverError};
use super::frame::{self, End, FileHead, HeadError, Kind};
use super::journal::random;
use super::record::{self, Slot, Whole};
use super::spool::Guard;
use crate::{DeadLetter, LogError, SpooledBody, Update, UpdateBody};

/// The folder of the dead letters.
pub(crate) const FOLDER: &str = "dead";
const KIND: Kind = *b"MUSTERDL";

/// The file of a dead letter.
pub(crate) fn name(slot: Slot, sequence: u64) -> String {
    format!("{FOLDER}/{slot:010}-{sequence:020}.dead")
}

/// The file of its body, when it has one of its own.
pub(crate) fn body_name(slot: Slot, sequence: u64) -> String {
    format!("{FOLDER}/{slot:010}-{sequence:020}.body")
}

/// How a dead letter stands: kept behind it in its file, and written anew when it changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stand {
    /// The first conflicting update after it that the node took.
    pub(crate) overtaken: Option<u64>,
    /// It is being tried again: attempts so far, and the failures since then that count.
    pub(crate) retrying: Option<(u32, u32)>,
}

/// What a dead letter's file holds.
pub(crate) struct Kept {
    pub(crate) letter: DeadLetter,
    pub(crate) update: Arc<Update>,
    pub(crate) stand: Stand,
    /// The file's length, and that of its body's.
    pub(crate) bytes: u64,
}

fn parse_name(file: &str) -> Option<(Slot, u64)> {
    let (slot, sequence) =
        file.strip_suffix(".dead").or_else(|| file.strip_suffix(".body"))?.split_once('-')?;
    Some((slot.parse().ok()?, sequence.parse().ok()?))
}

/// Writes a dead letter; durable when this returns.
pub(crate) fn write(
    disk: &dyn Disk,
    slot: Slot,
    letter: &DeadLetter,
    update: &Update,
    retrying: Option<(u32, u32)>,
) -> io::Result<()> {
    let stand = Stand { overtaken: letter.overtaken.map(|by| by.0), retrying };
    let sequence = letter.sequence.0;
    let mut body = update.body.clone();
    if let UpdateBody::Spooled(spooled) = &mut body {
        let to = body_name(slot, sequence);
        copy_body(disk, spooled, &to)?;
        spooled.path = disk.path(&to);
    }
    let mut update = encode::encode_append(&Parts { body: &body, ..Parts::from(update) })
        .ok_or_else(|| io::Error::other("the update does not fit a record"))?;
    encode::number_append(&mut update, sequence);
    let mut payload = frame::begin();
    put_bytes(&mut payload, letter.node.as_str().as_bytes());
    put_number(&mut payload, letter.attempts.into());
    put_number(&mut payload, letter.status.into());
    put_bytes(&mut payload, letter.error.as_bytes());
    put_number(&mut payload, letter.since_ms);
    payload.extend_from_slice(&update);
    let salt = random();
    frame::seal(&mut payload, salt, 0, letter.since_ms);
    let mut bytes = frame::file_header(KIND, FileHead { number: sequence, salt }).to_vec();
    bytes.extend_from_slice(&payload);
    if stand != Stand::default() {
        let mut payload = frame::begin();
        put_number(&mut payload, stand.overtaken.unwrap_or_default());
        let (attempts, failures) =
            stand.retrying.map_or((0, 0), |(sent, failed)| (u64::from(sent) + 1, failed));
        put_number(&mut payload, attempts);
        put_number(&mut payload, failures.into());
        frame::seal(&mut payload, salt, 0, letter.since_ms);
        bytes.extend_from_slice(&payload);
    }
    let name = name(slot, sequence);
    let new = format!("{name}.new");
    let file = disk.create(&new)?;
    write_all(&*file, &bytes, 0)?;
    file.sync()?;
    disk.rename(&new, &name)?;
    disk.sync_folder(FOLDER)
}

/// The body's file gets a second name; where that is not possible, it is copied.
fn copy_body(disk: &dyn Disk, spooled: &SpooledBody, to: &str) -> io::Result<()> {
    if spooled.path == disk.path(to) {
        // Its own already: it is written anew.
        return Ok(());
    }
    let from = spooled.guard.as_ref().map(|guard| guard.name()).ok_or(io::ErrorKind::NotFound)?;
    let _ = disk.remove(to);
    if disk.link(from, to).is_ok() {
        return Ok(());
    }
    let (from, to) = (disk.open(from)?, disk.create(to)?);
    let mut at = 0;
    while at < spooled.len {
        let chunk = disk::read(&*from, at, 1 << 20)?;
        if chunk.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write_all(&*to, &chunk, at)?;
        at += chunk.len() as u64;
    }
    to.sync()
}

/// Removes a dead letter.
pub(crate) fn remove(disk: &dyn Disk, slot: Slot, sequence: u64) -> io::Result<()> {
    disk.remove(&name(slot, sequence))?;
    let _ = disk.remove(&body_name(slot, sequence));
    disk.sync_folder(FOLDER)
}

/// Reads all dead letters, and removes what a crash left of unfinished ones.
pub(crate) fn load(disk: &dyn Disk) -> Result<BTreeMap<(Slot, u64), Kept>, RecoverError> {
    let failed = |error| files::io_error(disk, "read", FOLDER, error);
    let files = disk.list(FOLDER).map_err(failed)?;
    let mut letters = BTreeMap::new();
    for file in files.iter().filter(|file| file.ends_with(".dead")) {
        let Some((slot, sequence)) = parse_name(file) else { continue };
        letters.insert((slot, sequence), read(disk, slot, sequence)?);
    }
    for file in files {
        let kept = parse_name(&file).is_some_and(|key| letters.contains_key(&key));
        if file.ends_with(".new") || file.ends_with(".body") && !kept {
            let _ = disk.remove(&format!("{FOLDER}/{file}"));
        }
    }
    Ok(letters)
}

/// Reads one dead letter with its update.
pub(crate) fn read(disk: &dyn Disk, slot: Slot, sequence: u64) -> Result<Kept, RecoverError> {
    let name = name(slot, sequence);
    let bytes = files::read_file(disk, &name)?;
    let head = frame::parse_file_header(KIND, &bytes).map_err(|error| match error {
        HeadError::Newer(found) => RecoverError::Newer { path: disk.path(&name), found },
        HeadError::Bad => files::damaged(disk, &name, 0, "the file's header does not read back"),
    })?;
    let mut found: Option<Kept> = None;
    let end = End::Exactly(bytes.len() as u64);
    frame::scan(&bytes, head.salt, end, |frame| {
        if let Some(kept) = &mut found {
            kept.stand = stand(frame.payload)?;
            kept.letter.overtaken = kept.stand.overtaken.map(Sequence);
            return Ok(());
        }
        let (letter, whole) = decode(frame.payload, sequence)?;
        let spooled = whole.head.spooled.as_ref().map_or(0, |(_, len, _)| *len);
        let update = Arc::new(update(disk, slot, whole));
        let bytes = bytes.len() as u64 + spooled;
        found = Some(Kept { letter, update, stand: Stand::default(), bytes });
        Ok(())
    })
    .map_err(|damage| files::damaged(disk, &name, damage.offset, damage.what))?;
    found.ok_or_else(|| files::damaged(disk, &name, 0, "the file is empty"))
}

fn stand(payload: &[u8]) -> Decoded<Stand> {
    let mut input = Input(payload);
    let (overtaken, attempts, failures) = (input.number()?, input.small::<u32>()?, input.small()?);
    let retrying = attempts.checked_sub(1).map(|attempts| (attempts, failures));
    Ok(Stand { overtaken: (overtaken != 0).then_some(overtaken), retrying })
}

fn decode(payload: &[u8], sequence: u64) -> Decoded<(DeadLetter, Whole)> {
    let mut input = Input(payload);
    let node = input.text()?.parse().map_err(|_| Corrupt("a node's name is not one"))?;
    let (attempts, status) = (input.small()?, input.small()?);
    let (error, since_ms) = (input.text()?.to_owned(), input.number()?);
    let whole = record::decode_whole(&Bytes::copy_from_slice(input.0), Sequence(sequence))?;
    let letter = DeadLetter {
        node,
        sequence: Sequence(sequence),
        id: whole.id.to_string(),
        method: whole.method.clone(),
        target: whole.target.to_string(),
        attempts,
        status,
        error,
        since_ms,
        overtaken: None,
    };
    Ok((letter, whole))
}

fn update(disk: &dyn Disk, slot: Slot, whole: Whole) -> Update {
    let key = whole.key();
    let body = match whole.head.spooled {
        None => UpdateBody::Memory(whole.body),
        Some((_, len, crc)) => {
            let path = disk.path(&body_name(slot, whole.head.sequence));
            UpdateBody::Spooled(SpooledBody { path, len, crc, guard: None })
        }
    };
    Update {
        sequence: Sequence(whole.head.sequence),
        id: whole.id,
        key,
        received_ms: whole.head.received_ms,
        method: whole.method,
        target: whole.target,
        headers: whole.headers,
        body,
        appended: None,
        tracker: None,
    }
}

/// What is kept of an update that is given up.
pub(crate) fn letter(node: common::node::NodeId, dying: &Dying, since_ms: u64) -> DeadLetter {
    DeadLetter {
        node,
        sequence: dying.update.sequence,
        id: dying.update.id.to_string(),
        method: dying.update.method.clone(),
        target: dying.update.target.to_string(),
        attempts: dying.attempts,
        status: dying.status,
        error: dying.error.clone(),
        since_ms,
        overtaken: None,
    }
}

/// A body that the log keeps.
pub(crate) fn kept_body(disk: &Arc<dyn Disk>, name: &str, len: u64, crc: u32) -> SpooledBody {
    let name = format!("{}/{name}", super::spool::FOLDER);
    SpooledBody { path: disk.path(&name), len, crc, guard: Some(Guard::kept(disk.clone(), name)) }
}

/// The error of a running log for a dead letter that does not read back.
pub(crate) fn log_error(error: RecoverError) -> LogError {
    match error {
        RecoverError::Io { doing, path, source } => {
            LogError::Disk { doing, path: path.display().to_string(), source: Arc::new(source) }
        }
        RecoverError::Damaged { path, offset, what } => {
            LogError::Damaged { path: path.display().to_string(), offset, what }
        }
        RecoverError::Newer { path, found } => {
            let what = format!("version {found} of its format wrote it");
            LogError::Damaged { path: path.display().to_string(), offset: 0, what }
        }
    }
}
