//! `keygen`: a key file on stdout.

use std::io::Write;

use anyhow::Context;
use zmq_link::{KeyPair, key_file};

/// Prints a fresh key file: the same file goes to every node and every sender.
///
/// # Errors
/// When libzmq cannot encrypt, or stdout cannot be written.
pub fn run(to: &mut impl Write) -> anyhow::Result<()> {
    let pair = KeyPair::generate().context("no key could be made")?;
    to.write_all(key_file::render(&pair).as_bytes()).context("writing the key to standard output")?;
    to.flush().context("writing the key to standard output")
}
