//! Python for tests of what other programs speak.

use std::process::{Command, Stdio};

/// A Python that has pyzmq: the first in the PATH, or the system's, for which Debian has a package. Panics when
/// there is none.
pub fn python_with_zmq() -> &'static str {
    let has_zmq = |python: &&str| {
        let status = Command::new(python).args(["-c", "import zmq"]).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(has_zmq);
    found.expect("a python3 with pyzmq (Debian: python3-zmq), which scripts/test installs")
}
