//! Reading the file of services: no more than allowed, and for a daemon never from what might not end.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::error::Error;

/// The SHA-256 of a file's content.
pub type Hash = [u8; 32];

/// The first few digits of a hash, for people.
#[must_use]
pub fn short(hash: &Hash) -> String {
    hash[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the system says about a file without reading it. Links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// Seconds and nanoseconds. Grows also where a tool sets the time of modification back.
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of the file at `path`.
    ///
    /// # Errors
    /// It is not there, or is no regular file.
    pub fn of(path: &Path) -> Result<Self, Error> {
        Ok(Self::from(&regular(std::fs::metadata(path)?)?))
    }
}

#[cfg(test)]
impl Stamp {
    /// One of many that differ.
    pub(crate) fn numbered(number: u64) -> Self {
        Self { device: 1, inode: number, size: 1, modified: (0, 0), changed: (0, 0) }
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The content of a file.
#[derive(Debug, Clone)]
pub struct Content {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Its hash.
    pub hash: Hash,
    /// What the system said of the file when it was opened.
    pub stamp: Stamp,
}

/// What reading a file came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Content with this hash.
    Content(Hash),
    /// Nothing: it is not there, or cannot be taken for another reason.
    Unreadable,
}

impl Seen {
    /// What `read` came to.
    #[must_use]
    pub fn of(read: &Result<Content, Error>) -> Self {
        read.as_ref().map_or(Self::Unreadable, |content| Self::Content(content.hash))
    }
}

/// What was read last to be put in force, whatever became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// Grows with each reading, which tells two of the same content apart.
    pub number: u64,
    /// What it came to; `None` before the first.
    pub seen: Option<Seen>,
}

impl Known {
    /// The next reading, which came to `seen`.
    #[must_use]
    pub fn then(self, seen: Seen) -> Self {
        Self { number: self.number + 1, seen: Some(seen) }
    }
}

/// The same, shared by who reads and who watches.
#[derive(Debug, Clone, Default)]
pub struct LastRead(Arc<Mutex<Known>>);

impl LastRead {
    /// What was read last.
    #[must_use]
    pub fn get(&self) -> Known {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was read.
    pub fn set(&self, seen: Seen) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = known.then(seen);
    }
}

/// Reads the file at `path`, at most `max` bytes, following links.
///
/// # Errors
/// It is not there, may not be read, is no regular file, or has more than `max` bytes.
pub fn read(path: &Path, max: u64) -> Result<Content, Error> {
    // Looked at before it is opened: to open some devices has effects.
    regular(std::fs::metadata(path)?)?;
    // And after, because it may have been replaced: without waiting, a pipe opens at once.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = regular(file.metadata()?)?;
    take_in(&file, &metadata, max)
}

/// The same for whoever waits anyway: reads pipes and devices too, to their end or their limit.
///
/// # Errors
/// It is not there, may not be read, is a directory, or has more than `max` bytes.
pub fn read_to_end(path: &Path, max: u64) -> Result<Content, Error> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(Error::NotAFile("a directory"));
    }
    take_in(&file, &metadata, max)
}

fn take_in(file: &File, metadata: &Metadata, max: u64) -> Result<Content, Error> {
    let bytes = read_bounded(file, metadata.len(), max)?;
    let hash = Sha256::digest(&bytes).into();
    Ok(Content { bytes, hash, stamp: Stamp::from(metadata) })
}

/// Reads what `file` has, which may be more than the `expected` size: it grows, or is made as it is read.
fn read_bounded(file: &File, expected: u64, max: u64) -> Result<Vec<u8>, Error> {
    if expected > max {
        return Err(Error::TooLarge { size: Some(expected), max });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0).saturating_add(1));
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(Error::TooLarge { size: None, max });
    }
    Ok(bytes)
}

fn regular(metadata: Metadata) -> Result<Metadata, Error> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(metadata);
    }
    Err(Error::NotAFile(match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::TempDir;

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let dir = TempDir::new();
        let path = dir.write("f", "12345");
        let content = read(&path, 5).unwrap();
        assert_eq!(content.bytes, b"12345");
        assert_eq!(content.stamp, Stamp::of(&path).unwrap());
        assert_eq!(short(&content.hash), "5994471abb01");
        let refused = read(&path, 4).unwrap_err().to_string();
        assert_eq!(refused, "has 5 bytes, more than --max-services-size allows (4)");
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let dir = TempDir::new();
        let pipe = dir.join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for (path, noun) in [(&*dir, "a directory"), (&pipe, "a pipe"), (Path::new("/dev/zero"), "a device")]
        {
            let refused = read(path, 1 << 20).unwrap_err().to_string();
            assert_eq!(refused, format!("is {noun}, not a file: name a file, or a link to one"));
        }
        assert!(read(&dir.join("none"), 1).unwrap_err().to_string().starts_with("cannot be read: No such"));
    }

    #[test]
    fn a_command_reads_pipes_too_but_no_directory_and_no_more_than_allowed() {
        let dir = TempDir::new();
        let pipe = dir.join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        for (limit, expected) in [(5, Ok(b"12345".to_vec())), (4, Err("goes on, more than"))] {
            let read = std::thread::scope(|scope| {
                // To open a pipe waits for the other side.
                scope.spawn(|| std::fs::write(&pipe, "12345").unwrap());
                read_to_end(&pipe, limit)
            });
            let read = read.map(|content| content.bytes).map_err(|error| error.to_string());
            match expected {
                Ok(bytes) => assert_eq!(read, Ok(bytes)),
                Err(start) => assert!(read.unwrap_err().starts_with(start)),
            }
        }
        assert!(matches!(read_to_end(Path::new("/dev/zero"), 10), Err(Error::TooLarge { size: None, .. })));
        assert!(matches!(read_to_end(&dir, 10), Err(Error::NotAFile("a directory"))));
        let path = dir.write("f", "12345");
        assert!(matches!(read_to_end(&path, 4), Err(Error::TooLarge { size: Some(5), .. })));
        assert_eq!(read_to_end(&path, 5).unwrap().stamp, Stamp::of(&path).unwrap());
    }

    #[test]
    fn a_huge_file_is_refused_by_its_size_and_an_endless_one_by_its_limit() {
        let dir = TempDir::new();
        let path = dir.join("huge");
        File::create(&path).unwrap().set_len(1 << 30).unwrap();
        assert!(matches!(read(&path, 1 << 20), Err(Error::TooLarge { size: Some(0x4000_0000), .. })));
        // The system gives such files the size 0.
        assert!(matches!(read(Path::new("/proc/self/status"), 10), Err(Error::TooLarge { size: None, .. })));
    }
}
