//! Why there is nothing to build rings of.

use std::io;

use common::ring::RosterError;
use daemon::settings::format_size;

/// Why a file of services cannot be taken. The message does not name the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is not there, or may not be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// A directory, a pipe, a device or a socket.
    #[error("is {0}, not a file: name a file, or a link to one")]
    NotAFile(&'static str),
    /// Larger than allowed. Nothing beyond the limit was read.
    #[error("{}, more than --max-services-size allows ({})", grown(*size), format_size(*max))]
    TooLarge {
        /// Its size in bytes, where the system knows it.
        size: Option<u64>,
        /// How many bytes it may have.
        max: u64,
    },
    /// The nodes of a service make no ring.
    #[error("service {service:?}: {source}")]
    Roster {
        /// The service.
        service: Box<str>,
        /// What is wrong with its nodes.
        source: RosterError,
    },
}

fn grown(size: Option<u64>) -> String {
    size.map_or_else(|| "goes on".to_owned(), |size| format!("has {size} bytes"))
}
