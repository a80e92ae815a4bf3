//! Updates that nodes answered differently. They are kept in a file of their own, which is written now and then: a crash may
//! take the newest. A file that does not read back is begun anew, for nothing else depends on it.

use std::collections::BTreeMap;
use std::io;

use common::node::NodeId;
use common::queue::Sequence;
use http::Method;

use super::codec::{Corrupt, Decoded, Input, put_bytes, put_number};
use super::core::Core;
use super::disk::{self, Disk, write_all};
use super::record::Slot;
use crate::{DeliveryState, Divergence, Update};

const FILE: &str = "divergences";
/// The newest are kept.
const MAX: usize = 1024;

/// All that is known.
#[derive(Debug, Default)]
pub(crate) struct Diverged {
    found: BTreeMap<u64, Divergence>,
    /// Since start.
    pub(crate) count: u64,
    /// Not written as it is.
    pub(crate) dirty: bool,
}

impl Diverged {
    /// In order.
    pub(crate) fn list(&self) -> Vec<Divergence> {
        self.found.values().cloned().collect()
    }

    /// What an earlier run wrote.
    pub(crate) fn load(disk: &dyn Disk) -> Self {
        let read = || {
            let file = disk.open(FILE)?;
            disk::read(&*file, 0, file.len()? as usize)
        };
        let found = match read() {
            Ok(bytes) => decode(&bytes).unwrap_or_else(|error| {
                tracing::warn!(
                    error = error.0,
                    "the list of divergences does not read back and is begun anew"
                );
                BTreeMap::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                tracing::warn!(%error, "the list of divergences cannot be read and is begun anew");
                BTreeMap::new()
            }
        };
        Self { found, count: 0, dirty: false }
    }

    /// As the file's content.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        put_number(&mut out, self.found.len() as u64);
        for one in self.found.values() {
            put_number(&mut out, one.sequence.0);
            put_bytes(&mut out, one.method.as_str().as_bytes());
            put_bytes(&mut out, one.target.as_bytes());
            put_number(&mut out, one.answers.len() as u64);
            for (node, status) in &one.answers {
                put_bytes(&mut out, node.as_str().as_bytes());
                put_number(&mut out, (*status).into());
            }
        }
        let crc = crc32c::crc32c(&out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }
}

/// Puts the list in the place of the one before.
pub(crate) fn write(disk: &dyn Disk, bytes: &[u8]) -> io::Result<()> {
    let new = format!("{FILE}.new");
    let file = disk.create(&new)?;
    write_all(&*file, bytes, 0)?;
    file.sync()?;
    disk.rename(&new, FILE)?;
    disk.sync_folder("")
}

fn decode(bytes: &[u8]) -> Decoded<BTreeMap<u64, Divergence>> {
    let mut input = Input(bytes);
    if u32::from_le_bytes(input.array()?) != crc32c::crc32c(input.0) {
        return Err(Corrupt("its checksum does not match"));
    }
    let mut found = BTreeMap::new();
    for _ in 0..input.number()? {
        let sequence = input.number()?;
        let method = Method::from_bytes(input.bytes()?).map_err(|_| Corrupt("a method is not one"))?;
        let target = input.text()?.to_owned();
        let mut answers = Vec::new();
        for _ in 0..input.number()? {
            let node: NodeId = input.text()?.parse().map_err(|_| Corrupt("a node's name is not one"))?;
            answers.push((node, input.small()?));
        }
        found.insert(sequence, Divergence { sequence: Sequence(sequence), method, target, answers });
    }
    Ok(found)
}

impl Core {
    /// A node has answered the first attempt at an update: compares that with what others answered.
    pub(crate) fn compare(&mut self, slot: Slot, update: &Update, digest: u64) {
        let sequence = update.sequence.0;
        let answered = |progress: &crate::Progress| progress.state == DeliveryState::Delivered;
        if digest != 0 {
            let others = self.state.nodes_of(sequence).filter(|(other, _)| *other != slot);
            let differs = others
                .filter(|(_, progress)| answered(progress) && progress.digest != 0)
                .any(|(_, progress)| progress.digest != digest);
            if differs {
                self.diverged.count += 1;
                if !self.diverged.found.contains_key(&sequence) {
                    tracing::warn!(%sequence, method = %update.method, path = %update.target,
                        node = %self.state.node(slot).map_or("", |node| node.name.as_str()), "nodes answered this update differently");
                    let (method, target) = (update.method.clone(), update.target.to_string());
                    let one = Divergence { sequence: update.sequence, method, target, answers: Vec::new() };
                    self.diverged.found.insert(sequence, one);
                }
            }
        }
        if self.diverged.found.contains_key(&sequence) {
            let answers = self.state.nodes_of(sequence).filter(|(_, progress)| answered(progress));
            let named = answers
                .filter_map(|(slot, progress)| Some((self.state.node(slot)?.name.clone(), progress.status)));
            let answers = named.collect();
            if let Some(one) = self.diverged.found.get_mut(&sequence) {
                one.answers = answers;
            }
            self.diverged.dirty = true;
            if self.diverged.found.len() > MAX {
                self.diverged.found.pop_first();
            }
        }
    }
}
