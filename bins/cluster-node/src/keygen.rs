//! `keygen`: a key file on stdout, or the public key of one.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use zmq_link::{KeyPair, key_file};

/// Prints a fresh key file, one for each node; or the public key of a key file, which its peers are given.
///
/// # Errors
/// When the file is no key file, libzmq cannot encrypt, or stdout cannot be written.
pub fn run(public_of: Option<&Path>, to: &mut impl Write) -> anyhow::Result<()> {
    let said = "writing to standard output";
    match public_of {
        Some(path) => writeln!(to, "{}", key_file::read(path)?.public()).context(said)?,
        None => {
            let pair = KeyPair::generate().context("no key could be made")?;
            to.write_all(key_file::render(&pair).as_bytes()).context(said)?;
        }
    }
    to.flush().context(said)
}
