//! Services in a directory of one host: the kernel's file locks say who lives, inotify says when to look.
//!
//! `DIR/PREFIX/NAME/SEQUENCE-ID.json` is the record, locked (`flock`) as long as any copy of its owner's descriptor is open.
//! `docs/design/reception-file.md` says what is promised.

mod held;
mod presence;
mod tree;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Backend, BackendFuture, Bounds, Candidacy, Leader, Names, Presence, Source, line};
use crate::error::Error;
use crate::options::Options;
use crate::service::{Name, Scope, Service, Snapshot};

use presence::FilePresence;
use tree::Tree;
use watch::Watch;

/// How often everything is looked at again, whatever inotify says: a lock that a guard frees makes no event, and events can be lost.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Services in the directory that `file:DIR` or `file:///DIR` names. Nothing is touched yet; whoever registers makes the directory.
///
/// # Errors
/// [`Error::Url`] when it names none, [`Error::Illegal`] for a prefix that cannot be used.
pub fn dial(url: &str, options: &Options) -> Result<Arc<dyn Backend>, Error> {
    let wrong = |what: &str| Error::Url { url: url.to_owned(), what: what.to_owned() };
    let rest = url.strip_prefix("file:").ok_or_else(|| wrong("it is no directory; write file:DIR"))?;
    let folder = match rest.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => return Err(wrong("a directory has no host; write file:DIR or file:///DIR")),
        None => rest,
    };
    if folder.is_empty() {
        return Err(wrong("it names no directory; write file:DIR"));
    }
    // The process may change its directory, and its records must not move by that.
    let root = std::path::absolute(Path::new(folder))
        .map_err(|error| wrong(&format!("the directory cannot be made out: {error}")))?;
    let base = below(&root, options.prefix.as_deref().unwrap_or_default())?;
    Ok(Arc::new(FileStore { tree: Arc::new(Tree::new(root, base, options.timeout)) }))
}

/// The folder of a prefix: one level for each of its parts.
fn below(root: &Path, prefix: &str) -> Result<PathBuf, Error> {
    let parts = prefix.split('/').filter(|part| !part.is_empty());
    parts.map(Name::new).try_fold(root.to_owned(), |at, part| Ok(at.join(tree::folder_name(&part?))))
}

#[derive(Clone, Debug)]
struct FileStore {
    tree: Arc<Tree>,
}

impl Backend for FileStore {
    fn address(&self) -> String {
        self.tree.address()
    }

    fn problems(&self) -> Vec<String> {
        self.tree.problems()
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            instance: LOOK_EVERY,
            leader: LOOK_EVERY,
            because: format!(
                "the kernel frees the lock of a process at its end and says so; all is looked at again every {LOOK_EVERY:?}, should it not"
            ),
        }
    }

    fn list<'a>(&'a self, name: &'a Name, _: Scope) -> BackendFuture<'a, Result<Snapshot, Error>> {
        let name = name.clone();
        Box::pin(self.tree.run(move |tree| tree.snapshot(&name)))
    }

    fn names(&self) -> BackendFuture<'_, Result<Names, Error>> {
        Box::pin(self.tree.run(Tree::names))
    }

    fn leader<'a>(&'a self, name: &'a Name) -> BackendFuture<'a, Result<Option<Leader>, Error>> {
        Box::pin(line::leader(self, name))
    }

    fn watch(&self, name: &Name) -> Box<dyn Source<Snapshot>> {
        let (name, folder) = (name.clone(), self.tree.folder(name));
        let folders = move |_: &Tree| vec![folder.clone()];
        Box::new(Watch::new(self.tree.clone(), folders, move |tree| tree.snapshot(&name)))
    }

    fn watch_names(&self) -> Box<dyn Source<Names>> {
        Box::new(Watch::new(self.tree.clone(), Tree::folders, Tree::names))
    }

    fn register(&self, service: &Service) -> Box<dyn Presence> {
        Box::new(FilePresence::new(self.tree.clone(), service))
    }

    fn candidate(&self, service: &Service) -> Box<dyn Candidacy> {
        Box::new(line::Line::apart(Arc::new(self.clone()), service))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_directory() {
        let address = |url: &str| dial(url, &Options::default()).map(|backend| backend.address());
        assert_eq!(address("file:/run/a b"), Ok("file:/run/a b".to_owned()));
        assert_eq!(address("file:///run/x"), Ok("file:/run/x".to_owned()));
        let here = std::env::current_dir().unwrap().join("x");
        assert_eq!(address("file:x"), Ok(format!("file:{}", here.display())));
        for bad in ["file:", "file://host/x", "file://", "/run/x"] {
            assert!(matches!(address(bad), Err(Error::Url { .. })), "{bad}");
        }
        let options = Options { prefix: Some("a/../../etc".to_owned()), ..Options::default() };
        assert!(matches!(dial("file:/run/x", &options), Err(Error::Illegal(_))));
    }
}
