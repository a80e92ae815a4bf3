//! Directories that go with the test.

use std::ops::Deref;
use std::path::{Path, PathBuf};

/// A fresh directory, removed on drop. `KEEP_TEMP=1` keeps it and says where it is.
#[derive(Debug)]
pub struct TempDir(tempfile::TempDir);

impl TempDir {
    /// A fresh directory under the system's temporary one.
    #[expect(clippy::new_without_default, reason = "a default value that touches the disk would surprise")]
    pub fn new() -> Self {
        let mut builder = tempfile::Builder::new();
        builder.prefix("muster-test-").disable_cleanup(std::env::var_os("KEEP_TEMP").is_some());
        let dir = Self(builder.tempdir().expect("a temporary directory can be made"));
        dir.announce_if_kept();
        dir
    }

    /// The path of a file or folder in it, which need not exist.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file in it and gives its path.
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, content).expect("a file in a fresh temporary directory can be written");
        path
    }

    #[expect(clippy::print_stderr, reason = "whoever asked to keep it wants to know where it is")]
    fn announce_if_kept(&self) {
        if std::env::var_os("KEEP_TEMP").is_some() {
            eprintln!("kept: {}", self.0.path().display());
        }
    }
}

impl Deref for TempDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        self.0.path()
    }
}

impl AsRef<Path> for TempDir {
    fn as_ref(&self) -> &Path {
        self.0.path()
    }
}
