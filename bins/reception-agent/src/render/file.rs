//! The file on disk: replaced as a whole, and a mark beside it while its readers were not told.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Of a file that was not there before, less what the umask takes.
const MODE: u32 = 0o644;

/// The file of one `[[render]]`, and what stands beside it.
#[derive(Clone, Debug)]
pub struct Target {
    path: PathBuf,
}

impl Target {
    /// The file at `path`, wherever that leads: a link stays a link.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// What it holds; none when there is no file.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces it: whoever reads it, even after a crash, finds all of the old or all of the new. Mode and owner
    /// stay, the owner as far as this process may give files away. With `mark`, [`Self::is_marked`] from before
    /// the file is new, until [`Self::unmark`].
    ///
    /// # Errors
    /// What the system says; the old content stands then.
    pub fn write(&self, bytes: &[u8], mark: bool) -> io::Result<()> {
        // A link that leads nowhere yet is written through as well.
        let path =
            fs::canonicalize(&self.path).or_else(|_| fs::read_link(&self.path).map(|to| self.beside(&to)));
        let path = path.unwrap_or_else(|_| self.path.clone());
        let folder = folder(&path);
        if mark {
            File::create(self.mark())?;
            File::open(self.mark_folder())?.sync_all()?;
        }
        let new = hidden(&path, "new");
        // Left by a crash, or a link that somebody put there.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&new)?;
        let written = keep_owner(&path, &file)
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&new, &path));
        if let Err(error) = written {
            // Best effort: the next write removes it anyway.
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        File::open(folder)?.sync_all()
    }

    /// Whether its readers were not told of what it holds.
    pub fn is_marked(&self) -> bool {
        self.mark().exists()
    }

    /// Its readers were told.
    ///
    /// # Errors
    /// What the system says: then they will be told again.
    pub fn unmark(&self) -> io::Result<()> {
        match fs::remove_file(self.mark()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn mark(&self) -> PathBuf {
        hidden(&self.path, "untold")
    }

    fn mark_folder(&self) -> &Path {
        folder(&self.path)
    }

    fn beside(&self, link: &Path) -> PathBuf {
        folder(&self.path).join(link)
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// `.NAME.SUFFIX` in the same directory: programs that read `*.conf` do not see it.
fn hidden(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

fn keep_owner(old: &Path, new: &File) -> io::Result<()> {
    let old = match fs::metadata(old) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let own = new.metadata()?;
    // Who is not root cannot give files to others: the content counts more.
    if own.uid() != old.uid() {
        let _ = fchown(new, Some(old.uid()), None);
    }
    if own.gid() != old.gid() {
        let _ = fchown(new, None, Some(old.gid()));
    }
    new.set_permissions(Permissions::from_mode(old.mode() & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_keeps_its_mode_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("services.toml");
        let target = Target::new(&path);
        assert_eq!(target.read().unwrap(), None);
        target.write(b"one", false).unwrap();
        assert_eq!(mode(&path) & 0o700, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        fs::write(dir.path().join(".services.toml.new"), "left by a crash").unwrap();
        target.write(b"two", false).unwrap();
        assert_eq!((target.read().unwrap().unwrap(), mode(&path)), (b"two".to_vec(), 0o640));
        assert_eq!(names(dir.path()), ["services.toml"]);
    }

    #[test]
    fn the_owner_stays_where_that_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "x").unwrap();
        // Only root can try this.
        if std::os::unix::fs::chown(&path, Some(12), Some(34)).is_ok() {
            Target::new(&path).write(b"y", false).unwrap();
            let meta = fs::metadata(&path).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (12, 34));
        }
    }

    #[test]
    fn a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("real/file", &link).unwrap();
        for content in [&b"one"[..], b"two"] {
            Target::new(&link).write(content, true).unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read(dir.path().join("real/file")).unwrap(), content);
        }
        assert!(Target::new(&link).is_marked());
        assert_eq!(names(&dir.path().join("real")), ["file"]);
    }

    #[test]
    fn the_mark_stays_until_it_is_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::new(&dir.path().join("f"));
        target.write(b"x", false).unwrap();
        assert!(!target.is_marked());
        target.write(b"y", true).unwrap();
        assert!(Target::new(&dir.path().join("f")).is_marked());
        target.unmark().unwrap();
        target.unmark().unwrap();
        assert!(!target.is_marked());
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::new(&dir.path().join("none/f"));
        assert!(target.write(b"x", false).is_err());
        assert_eq!(target.read().unwrap(), None);
        // A folder stands where the file should be.
        fs::create_dir(dir.path().join("g")).unwrap();
        assert!(Target::new(&dir.path().join("g")).write(b"x", false).is_err());
        assert_eq!(names(dir.path()), ["g"]);
    }
}
