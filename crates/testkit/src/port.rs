//! Ports that two tests never get at once.

use std::fs::{File, OpenOptions, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Below the range from which the kernel gives ports to `:0` and to outgoing connections, so that neither
/// can take one of ours while its server is down.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

/// The locks on the ports that this process was given; each is held until the process ends.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port that nobody listens on and that no other caller gets, in any process, while this one lives.
///
/// For servers that come back on the same port. Whoever needs a port once binds to port 0 instead.
pub fn free_port() -> u16 {
    let folder = lock_folder();
    let count = u32::from(RANGE.end - RANGE.start);
    let start = rand::random::<u32>() % count;
    for step in 0..count {
        let port = RANGE.start + u16::try_from((start + step) % count).expect("smaller than the range");
        if let Some(lock) = take(&folder, port) {
            HELD.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
            return port;
        }
    }
    panic!("no free port among {RANGE:?}");
}

fn lock_folder() -> PathBuf {
    // One folder per user: nobody can lock the files of another.
    let user = rustix::process::getuid().as_raw();
    let folder = std::env::temp_dir().join(format!("muster-test-ports-{user}"));
    std::fs::create_dir_all(&folder).expect("the folder of port locks can be made");
    folder
}

fn take(folder: &Path, port: u16) -> Option<File> {
    let path = folder.join(port.to_string());
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).ok()?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return None,
    }
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).ok()?;
    Some(file)
}
