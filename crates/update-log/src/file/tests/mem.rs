//! A disk in memory that knows what is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::Dice;
use crate::file::disk::{Disk, DiskFile};

/// What a call wants of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Create,
    Write,
    Sync,
    Rename,
    Remove,
    SyncFolder,
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    Error(i32),
    /// Half of it is written, then the error.
    Short(i32),
}

pub(super) const ENOSPC: i32 = 28;
pub(super) const EIO: i32 = 5;

type Faults = Box<dyn FnMut(Op, &str) -> Option<Fault> + Send>;

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// A sync failed, so that the system calls pages clean that are not on disk.
    lost: bool,
}

#[derive(Default)]
struct Tree {
    contents: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    next: u64,
    capacity: Option<usize>,
    faults: Option<Faults>,
    /// Counts down to the moment at which everything stops.
    stop_in: Option<u64>,
    syncs: u64,
    dice: u64,
}

#[derive(Clone, Default)]
pub(super) struct MemDisk(Arc<Mutex<Tree>>);

struct MemFile {
    tree: Arc<Mutex<Tree>>,
    id: u64,
    name: String,
}

impl Tree {
    fn begin(&mut self, op: Op, name: &str) -> Result<Option<Fault>, io::Error> {
        match &mut self.stop_in {
            Some(0) => return Err(io::Error::from_raw_os_error(EIO)),
            Some(count) => *count -= 1,
            None => {}
        }
        match self.faults.as_mut().and_then(|faults| faults(op, name)) {
            Some(Fault::Error(code)) => Err(io::Error::from_raw_os_error(code)),
            other => Ok(other),
        }
    }

    fn used(&self) -> usize {
        let ids: BTreeSet<_> = self.names.values().collect();
        ids.into_iter().map(|id| self.contents[id].now.len()).sum()
    }
}

impl MemDisk {
    pub(super) fn faults(&self, faults: impl FnMut(Op, &str) -> Option<Fault> + Send + 'static) {
        self.0.lock().unwrap().faults = Some(Box::new(faults));
    }

    pub(super) fn no_faults(&self) {
        self.0.lock().unwrap().faults = None;
    }

    pub(super) fn capacity(&self, capacity: Option<usize>) {
        self.0.lock().unwrap().capacity = capacity;
    }

    pub(super) fn used(&self) -> usize {
        self.0.lock().unwrap().used()
    }

    pub(super) fn stop_in(&self, calls: u64) {
        self.0.lock().unwrap().stop_in = Some(calls);
    }

    pub(super) fn syncs(&self) -> u64 {
        self.0.lock().unwrap().syncs
    }

    /// What a new process finds when this one was killed.
    pub(super) fn killed(&self) -> Self {
        let tree = self.0.lock().unwrap();
        let contents = tree.contents.clone();
        let (names, durable_names) = (tree.names.clone(), tree.durable_names.clone());
        let copy =
            Tree { contents, names, durable_names, next: tree.next, dice: tree.dice, ..Tree::default() };
        Self(Arc::new(Mutex::new(copy)))
    }

    /// What a new process may find when the machine went down.
    pub(super) fn crashed(&self, dice: &mut Dice) -> Self {
        let copy = self.killed();
        {
            let mut tree = copy.0.lock().unwrap();
            let all: BTreeSet<String> = tree.names.keys().chain(tree.durable_names.keys()).cloned().collect();
            for name in all {
                if tree.names.get(&name) != tree.durable_names.get(&name) && dice.one_in(2) {
                    match tree.durable_names.get(&name).copied() {
                        Some(id) => tree.names.insert(name, id),
                        None => tree.names.remove(&name),
                    };
                }
            }
            tree.durable_names = tree.names.clone();
            for content in tree.contents.values_mut() {
                content.now = mixed(content, dice);
                content.durable = content.now.clone();
                content.lost = false;
            }
        }
        copy
    }

    /// The files in a folder, with their contents.
    pub(super) fn files(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        let tree = self.0.lock().unwrap();
        let inside = tree.names.iter().filter(|(name, _)| name.starts_with(folder));
        inside.map(|(name, id)| (name.clone(), tree.contents[id].now.clone())).collect()
    }

    /// Replaces a file's content, durably.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let mut tree = self.0.lock().unwrap();
        let id = tree.names[name];
        let content = Content { now: bytes.to_vec(), durable: bytes.to_vec(), lost: false };
        tree.contents.insert(id, content);
    }

    fn file(&self, tree: &mut Tree, name: &str, fresh: bool) -> Arc<dyn DiskFile> {
        if fresh && !tree.names.contains_key(name) {
            tree.next += 1;
            let id = tree.next;
            tree.contents.insert(id, Content::default());
            tree.names.insert(name.to_owned(), id);
        }
        let id = tree.names[name];
        Arc::new(MemFile { tree: self.0.clone(), id, name: name.to_owned() })
    }
}

/// Each sector as it was or as it is; nothing that was synced is lost.
fn mixed(content: &Content, dice: &mut Dice) -> Vec<u8> {
    const SECTOR: usize = 64;
    let (now, durable) = (&content.now, &content.durable);
    let (short, long) = (now.len().min(durable.len()), now.len().max(durable.len()));
    let len = short + dice.below(long - short + 1);
    let mut out = vec![0; len];
    for (index, sector) in out.chunks_mut(SECTOR).enumerate() {
        let at = index * SECTOR;
        let from = if dice.one_in(2) { now } else { durable };
        for (offset, byte) in sector.iter_mut().enumerate() {
            *byte = from.get(at + offset).copied().unwrap_or(0);
        }
    }
    out
}

impl Disk for MemDisk {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let prefix = format!("{folder}/");
        let tree = self.0.lock().unwrap();
        Ok(tree.names.keys().filter_map(|name| name.strip_prefix(&prefix)).map(str::to_owned).collect())
    }

    fn make_folder(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut tree = self.0.lock().unwrap();
        tree.begin(Op::Create, name)?;
        let file = self.file(&mut tree, name, true);
        let id = tree.names[name];
        // What is written from here on is dirty, whatever became of what was there.
        let content = tree.contents.entry(id).or_default();
        content.now.clear();
        content.lost = false;
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut tree = self.0.lock().unwrap();
        if !tree.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(self.file(&mut tree, name, false))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut tree = self.0.lock().unwrap();
        tree.begin(Op::Rename, to)?;
        let id = tree.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        tree.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut tree = self.0.lock().unwrap();
        tree.begin(Op::Create, to)?;
        let id = *tree.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        tree.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut tree = self.0.lock().unwrap();
        tree.begin(Op::Remove, name)?;
        tree.names.remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let mut tree = self.0.lock().unwrap();
        tree.begin(Op::SyncFolder, folder)?;
        let prefix = format!("{folder}/");
        let kept: BTreeMap<_, _> =
            tree.durable_names.iter().filter(|(name, _)| !name.starts_with(&prefix)).map(clone).collect();
        let inside: BTreeMap<_, _> =
            tree.names.iter().filter(|(name, _)| name.starts_with(&prefix)).map(clone).collect();
        tree.durable_names = kept.into_iter().chain(inside).collect();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/log").join(name)
    }
}

fn clone((name, id): (&String, &u64)) -> (String, u64) {
    (name.clone(), *id)
}

impl DiskFile for MemFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut tree = self.tree.lock().unwrap();
        let fault = tree.begin(Op::Write, &self.name)?;
        let mut bytes = bytes;
        let mut error = None;
        if let Some(Fault::Short(code)) = fault {
            bytes = &bytes[..bytes.len() / 2];
            error = Some(code);
        }
        let (used, capacity) = (tree.used(), tree.capacity.unwrap_or(usize::MAX));
        let content = tree.contents.get_mut(&self.id).unwrap();
        let grows = (offset as usize + bytes.len()).saturating_sub(content.now.len());
        if used + grows > capacity {
            let room = capacity.saturating_sub(used);
            bytes = &bytes[..bytes.len().min(room)];
            error = bytes.is_empty().then_some(ENOSPC);
        }
        let end = offset as usize + bytes.len();
        if content.now.len() < end {
            content.now.resize(end, 0);
        }
        content.now[offset as usize..end].copy_from_slice(bytes);
        content.lost &= offset > 0 || end < content.now.len();
        match error {
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => Ok(bytes.len()),
        }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let tree = self.tree.lock().unwrap();
        let content = tree.contents[&self.id].now.get(offset as usize..).unwrap_or_default();
        let count = content.len().min(bytes.len());
        bytes[..count].copy_from_slice(&content[..count]);
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        let mut tree = self.tree.lock().unwrap();
        tree.syncs += 1;
        tree.dice += 1;
        let mut dice = Dice(tree.dice);
        let begun = tree.begin(Op::Sync, &self.name);
        let content = tree.contents.get_mut(&self.id).unwrap();
        match begun {
            Ok(_) => {
                if !content.lost {
                    content.durable = content.now.clone();
                }
                Ok(())
            }
            Err(error) => {
                content.durable = mixed(content, &mut dice);
                content.lost = true;
                Err(error)
            }
        }
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut tree = self.tree.lock().unwrap();
        tree.begin(Op::Write, &self.name)?;
        let (used, capacity) = (tree.used(), tree.capacity.unwrap_or(usize::MAX));
        let content = tree.contents.get_mut(&self.id).unwrap();
        let end = (offset + len) as usize;
        if used + end.saturating_sub(content.now.len()) > capacity {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        if content.now.len() < end {
            content.now.resize(end, 0);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut tree = self.tree.lock().unwrap();
        tree.begin(Op::Write, &self.name)?;
        tree.contents.get_mut(&self.id).unwrap().now.resize(len as usize, 0);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.tree.lock().unwrap().contents[&self.id].now.len() as u64)
    }
}
