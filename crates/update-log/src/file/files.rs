//! The log's files by name and number, and what can be wrong with them.

use std::io;
use std::path::PathBuf;

use super::disk::{self, Disk};
use super::frame::{self, FileHead, HeadError};
use super::journal::Naming;

/// The files of updates.
pub(crate) const LOG: Naming = Naming { folder: "log", suffix: "log", kind: *b"MUSTERUP" };
/// The files of answers.
pub(crate) const ANSWERS: Naming = Naming { folder: "answers", suffix: "ans", kind: *b"MUSTERAN" };

/// Why a log cannot be opened.
#[derive(Debug)]
pub(crate) enum RecoverError {
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    Newer { path: PathBuf, found: u32 },
    Damaged { path: PathBuf, offset: u64, what: String },
}

/// The numbers of the files of a kind, ascending; removes unfinished ones.
pub(crate) fn numbered(disk: &dyn Disk, naming: Naming) -> Result<Vec<u64>, RecoverError> {
    let files = disk.list(naming.folder).map_err(|error| io_error(disk, "read", naming.folder, error))?;
    for unfinished in files.iter().filter(|file| file.ends_with(".new")) {
        let _ = disk.remove(&format!("{}/{unfinished}", naming.folder));
    }
    let mut numbers: Vec<u64> = files.iter().filter_map(|file| naming.number(file)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The header of a numbered file.
pub(crate) fn file_head(
    disk: &dyn Disk,
    naming: Naming,
    number: u64,
    bytes: &[u8],
) -> Result<FileHead, RecoverError> {
    let name = naming.name(number);
    match frame::parse_file_header(naming.kind, bytes) {
        Ok(head) if head.number == number => Ok(head),
        Ok(_) => Err(damaged(disk, &name, 0, "the file has another file's number")),
        Err(HeadError::Newer(found)) => Err(RecoverError::Newer { path: disk.path(&name), found }),
        Err(HeadError::Bad) => Err(damaged(disk, &name, 0, "the file's header does not read back")),
    }
}

/// A whole file.
pub(crate) fn read_file(disk: &dyn Disk, name: &str) -> Result<Vec<u8>, RecoverError> {
    let read = || {
        let file = disk.open(name)?;
        disk::read(&*file, 0, file.len()? as usize)
    };
    read().map_err(|error| io_error(disk, "read", name, error))
}

/// Something is not as it was left.
pub(crate) fn damaged(disk: &dyn Disk, name: &str, offset: u64, what: &str) -> RecoverError {
    RecoverError::Damaged { path: disk.path(name), offset, what: what.to_owned() }
}

/// The system said no.
pub(crate) fn io_error(disk: &dyn Disk, doing: &'static str, name: &str, source: io::Error) -> RecoverError {
    RecoverError::Io { doing, path: disk.path(name), source }
}
