//! The disk as the log uses it, so that tests can stand in its way.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One directory tree. Names are relative to its root, with at most one folder before them.
pub(crate) trait Disk: Send + Sync + 'static {
    /// The names of the files in a folder.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Makes a folder unless it is there.
    fn make_folder(&self, folder: &str) -> io::Result<()>;
    /// A new, empty file to write and read; an old one of that name is emptied.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// A file to read, and to cut.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file a second name.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
    /// Whether there is so little room left that it is needed for cleaning up.
    fn is_short(&self) -> bool {
        false
    }
    /// Where a file is, for whoever opens it without the log.
    fn path(&self, name: &str) -> PathBuf;
}

/// An open file.
pub(crate) trait DiskFile: Send + Sync {
    /// Writes some of `bytes` at `offset`; says how many.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Reads some bytes at `offset`; says how many.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes the content durable.
    fn sync(&self) -> io::Result<()>;
    /// Makes room for what is to come, as zeros, so that writing it changes no more than the bytes.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Cuts the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Its length.
    fn len(&self) -> io::Result<u64>;
}

/// Appends stop while the file system has less left than this, or than its share: what ends and
/// removes old files has to be written, too.
const RESERVE: u64 = 64 << 20;
const RESERVE_SHARE: u64 = 20;

/// Writes all of `bytes` at `offset`.
pub(crate) fn write_all(file: &dyn DiskFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads `len` bytes at `offset`, fewer when the file ends before.
pub(crate) fn read(file: &dyn DiskFile, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// A directory of the file system.
pub(crate) struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// The tree below `root`.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
}

impl Disk for RealDisk {
    fn is_short(&self) -> bool {
        let Ok(space) = rustix::fs::statvfs(&self.root) else { return false };
        let (free, all) = (space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize);
        free < (all / RESERVE_SHARE).min(RESERVE)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(self.path(folder))?;
        names.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn make_folder(&self, folder: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.path(folder))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        Ok(Arc::new(options.read(true).write(true).create(true).truncate(true).open(self.path(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.path(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::hard_link(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        File::open(self.path(folder))?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }
}

impl DiskFile for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(self, rustix::fs::FallocateFlags::empty(), offset, len)?)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
