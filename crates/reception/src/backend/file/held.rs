//! A record that this process holds: how it comes to be, whether it stands, how it ends.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::tree::{
    SEQUENCE, Tree, file_of_record, is_at, is_held, open_record, record_of_file, remove, unless_gone,
};
use crate::error::Error;
use crate::record;
use crate::service::Service;

/// A record before it has its name. One at a time, under the lock of the sequence.
const FRESH: &str = ".fresh";
/// Between two tries at the lock of the sequence, which is held for a write and a rename.
const TRY_EVERY: Duration = Duration::from_millis(3);

/// A record, its descriptor locked.
#[derive(Debug)]
pub(super) struct Held {
    file: File,
    path: PathBuf,
    pub(super) created: u64,
}

impl Tree {
    /// Puts a record there, in place of any other one with its id; the id of a candidate is nobody else's.
    pub(super) fn enter(&self, service: &Service) -> Result<Held, Error> {
        let folder = self.folder(&service.name);
        self.make(&folder)?;
        let sequence = self.lock_sequence()?;
        // What this process has seen counts too: the directory may have been lost and made anew.
        let mut last = self.last(&sequence)?.max(self.highest());
        let mut replaced = Vec::new();
        for file in self.entries(&folder)?.unwrap_or_default() {
            let Some((created, id)) = record_of_file(&file) else { continue };
            // Whoever took the sequence's file away must not make the last in a line its first.
            last = last.max(created);
            if id == service.id {
                replaced.push(folder.join(&file));
            }
        }
        let created = last.checked_add(1).ok_or_else(|| Error::Refused {
            backend: self.address(),
            what: format!(
                "there is no number after {last}: remove the file in {} that has it",
                folder.display()
            ),
        })?;
        self.remember(&sequence, created)?;
        self.saw(created);

        let (fresh, path) = (folder.join(FRESH), folder.join(file_of_record(created, &service.id)));
        let put = || -> io::Result<File> {
            // Left by one who died here.
            fs::remove_file(&fresh).or_else(unless_gone)?;
            let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&fresh)?;
            // Locked before anybody can see it, so that it is never taken for a dead one's.
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            file.write_all(&record::encode(service))?;
            fs::rename(&fresh, &path)?;
            Ok(file)
        };
        let file = put().map_err(|error| self.error("writing", &path, &error))?;
        for old in replaced {
            fs::remove_file(&old)
                .or_else(unless_gone)
                .map_err(|error| self.error("replacing", &old, &error))?;
        }
        Ok(Held { file, path, created })
    }

    /// Makes the folders. The directory itself is its owner's alone, since whoever may write there can take records away;
    /// one that is there already, and all below it, have the modes that their makers gave them.
    fn make(&self, folder: &Path) -> Result<(), Error> {
        let mut root = DirBuilder::new();
        root.recursive(true).mode(0o700);
        root.create(&self.root).map_err(|error| self.error("making", &self.root, &error))?;
        fs::create_dir_all(folder).map_err(|error| self.error("making", folder, &error))
    }

    fn lock_sequence(&self) -> Result<File, Error> {
        let path = self.root.join(SEQUENCE);
        let told = |error: io::Error| self.error("locking", &path, &error);
        let start = Instant::now();
        // A blocking call could wait for ever, for one who is stopped. Some time is left for the rest.
        let patience = self.timeout.mul_f64(0.75);
        while start.elapsed() < patience {
            let mut options = OpenOptions::new();
            let file =
                options.read(true).write(true).create(true).truncate(false).open(&path).map_err(told)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&file, &path).map_err(told)? => return Ok(file),
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => std::thread::sleep(TRY_EVERY),
                Err(error) => return Err(told(error.into())),
            }
        }
        let what = format!(
            "the lock of {} was not free for {patience:?}: is a process that holds it stopped?",
            path.display(),
        );
        Err(Error::Disconnected { backend: self.address(), what })
    }

    fn last(&self, sequence: &File) -> Result<u64, Error> {
        let path = self.root.join(SEQUENCE);
        let mut text = [0; 32];
        let length = sequence.read_at(&mut text, 0).map_err(|error| self.error("reading", &path, &error))?;
        let text = String::from_utf8_lossy(&text[..length]);
        match text.trim_end() {
            "" => Ok(0),
            number => number.parse().map_err(|_| Error::Refused {
                backend: self.address(),
                what: format!(
                    "{} is no number but {number:?}: write one there that is larger than all tokens so far",
                    path.display()
                ),
            }),
        }
    }

    /// On the disk before it is used: no token comes twice, whatever happens to the host.
    fn remember(&self, sequence: &File, last: u64) -> Result<(), Error> {
        let write = || -> io::Result<()> {
            let first = sequence.metadata()?.len() == 0;
            sequence.write_all_at(format!("{last:020}\n").as_bytes(), 0)?;
            sequence.sync_data()?;
            if first { File::open(&self.root)?.sync_all() } else { Ok(()) }
        };
        write().map_err(|error| self.error("writing", &self.root.join(SEQUENCE), &error))
    }
}

impl Held {
    /// None when it stands, else why it does not. What was lost for a moment only is lost too: another may lead since.
    pub(super) fn lost(&self) -> io::Result<Option<String>> {
        let path = self.path.display();
        if self.file.metadata()?.nlink() == 0 {
            return Ok(Some(format!("somebody removed the record {path}")));
        }
        let seen = match open_record(&self.path) {
            Ok(seen) => seen,
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        match seen {
            Some(seen) if is_at(&self.file, &self.path)? => {
                Ok((!is_held(&seen)?).then(|| format!("the lock of the record {path} was freed")))
            }
            _ => Ok(Some(format!("somebody moved the record {path} away"))),
        }
    }

    /// Takes the record away, whoever has copies of the descriptor.
    pub(super) fn end(&self) -> io::Result<()> {
        let removed = remove(&self.path, &self.file);
        // One that cannot be removed is at least a dead one's.
        let freed = flock(&self.file, FlockOperation::Unlock).map_err(io::Error::from);
        removed.or(freed)
    }

    pub(super) fn copy(&self) -> io::Result<OwnedFd> {
        self.file.try_clone().map(OwnedFd::from)
    }
}
