//! The directory that a daemon keeps its state in: locked, writable, and of a known format.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";

/// A directory that belongs to this process as long as this value lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Its lock ends with the process, however that ends.
    _lock: File,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Another process uses it.
    #[error(
        "{} is in use{}: stop that process, or give this one another directory",
        dir.display(), pid.map_or(String::new(), |pid| format!(" by process {pid}"))
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process, if it said who it is.
        pid: Option<u32>,
    },
    /// A later version wrote it.
    #[error("{} is of format {found}, and this version knows formats up to {known}: use a newer version", path.display())]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// The format that it names.
        found: u32,
        /// The latest format known here.
        known: u32,
    },
    /// The file that names the format does not.
    #[error("{} does not name a format: restore it from a copy, or move the directory away to begin anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StateDirError {
    /// The exit code of a daemon that cannot go on without the directory.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Newer { .. }) { 78 } else { 1 }
    }

    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

impl StateDir {
    /// Makes the directory unless it is there, locks it, and checks that it can be written.
    ///
    /// # Errors
    /// [`StateDirError::Locked`] when another process has it, [`StateDirError::Io`] when it cannot be
    /// made or written.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StateDirError> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(StateDirError::io("make", &path))?;
        let lock = lock(&path)?;
        let dir = Self { path, _lock: lock };
        dir.write_atomic("writable", b"").map_err(StateDirError::io("write to", &dir.path))?;
        fs::remove_file(dir.file("writable")).map_err(StateDirError::io("write to", &dir.path))?;
        Ok(dir)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file of this directory is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Checks the format of what is kept here for `purpose`, and writes it down where there is none
    /// yet. Returns the format found, which may be older than `known`.
    ///
    /// # Errors
    /// [`StateDirError::Newer`] when a later version wrote it.
    pub fn check_format(&self, purpose: &str, known: u32) -> Result<u32, StateDirError> {
        let name = format!("{purpose}.format");
        let path = self.file(&name);
        let Some(text) = self.read(&name).map_err(StateDirError::io("read", &path))? else {
            let text = format!("{known}\n");
            self.write_atomic(&name, text.as_bytes()).map_err(StateDirError::io("write", &path))?;
            return Ok(known);
        };
        match std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()) {
            None => Err(StateDirError::Damaged { path }),
            Some(found) if found > known => Err(StateDirError::Newer { path, found, known }),
            Some(found) => Ok(found),
        }
    }

    /// Replaces a file: whoever reads it, even after a crash, finds all of the old or all of the new.
    ///
    /// # Errors
    /// What the system says; the old content stands then.
    pub fn write_atomic(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.file(&format!("{name}.new"));
        let mut file = File::create(&new)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if let Err(error) = written.and_then(|()| fs::rename(&new, self.file(name))) {
            // Best effort: the next write of this file replaces it anyway.
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        File::open(&self.path)?.sync_all()
    }

    /// The content of a file; `None` when there is none.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.file(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn lock(dir: &Path) -> Result<File, StateDirError> {
    let path = dir.join(LOCK);
    let failed = |doing| StateDirError::io(doing, &path);
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed("open"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(StateDirError::Locked { dir: dir.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
    }
    let write = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    write.map_err(failed("write"))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temp() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_second_instance_is_told_whose_it_is() {
        let temp = temp();
        let dir = StateDir::open(temp.path().join("a/b")).unwrap();
        match StateDir::open(dir.path()) {
            Err(StateDirError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        let path = dir.path().to_owned();
        drop(dir);
        StateDir::open(path).unwrap();
    }

    #[test]
    fn formats_are_kept_and_newer_ones_refused() {
        let temp = temp();
        let dir = StateDir::open(temp.path()).unwrap();
        assert_eq!(dir.check_format("queue", 2).unwrap(), 2);
        assert_eq!(dir.check_format("queue", 3).unwrap(), 2);
        let error = dir.check_format("queue", 1).unwrap_err();
        assert_eq!(error.exit_code(), 78);
        assert!(error.to_string().contains("queue.format is of format 2"), "{error}");
        dir.write_atomic("queue.format", b"\xff").unwrap();
        assert!(matches!(dir.check_format("queue", 1), Err(StateDirError::Damaged { .. })));
    }

    #[test]
    fn files_are_replaced_whole() {
        let temp = temp();
        let dir = StateDir::open(temp.path()).unwrap();
        assert_eq!(dir.read("nodes").unwrap(), None);
        dir.write_atomic("nodes", b"old").unwrap();
        dir.write_atomic("nodes", b"new").unwrap();
        assert_eq!(dir.read("nodes").unwrap().as_deref(), Some(&b"new"[..]));
        assert!(!dir.file("nodes.new").exists());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let temp = temp();
        fs::write(temp.path().join("file"), "").unwrap();
        let error = StateDir::open(temp.path().join("file/dir")).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().starts_with("cannot make "), "{error}");
    }
}
