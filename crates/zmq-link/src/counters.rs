//! What each socket counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($name:ident: $help:literal,)*) => {
        /// The counters of one socket, as they are written.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Counters {
            /// What they say now.
            pub(crate) fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.load(Relaxed),)* }
            }
        }

        /// The counters of one socket at one time; all of them only grow.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Snapshot {
            $(#[doc = $help] pub $name: u64,)*
        }

        impl Snapshot {
            /// Gives each counter's name, meaning and value, for a daemon's `/metrics`.
            pub fn each(&self, mut to: impl FnMut(&'static str, &'static str, u64)) {
                $(to(stringify!($name), $help, self.$name);)*
            }
        }
    };
}

counters! {
    sent: "Messages that libzmq took",
    sent_bytes: "Bytes of the messages that libzmq took",
    received: "Messages that came in",
    received_bytes: "Bytes of the messages that came in",
    refused_full: "Messages refused at once because the queue to the peer was full",
    refused_too_large: "Messages refused because they exceed the limits of the socket",
    waited: "Sends that had to wait for room in the queue",
    held_back: "Times that libzmq had no room for a peer's next message (high-water mark, or not connected)",
    unreachable: "Messages not delivered because their peer was not connected",
    cut_off: "Messages begun whose connection ended before their last frame; they were sent again",
    unsent_at_close: "Messages that were in the queue when the socket was closed",
    unread_at_close: "Messages that came in and nobody had read when the socket was closed",
    inbound_too_large: "Messages that came in and were discarded because they exceed the limits of the socket",
    inbound_not_allowed: "Messages that came in and were discarded because their sender's key is no longer allowed",
    inbound_paused: "Times that the socket was not read because the inbound queue was full",
    connected: "Connections made, handshake done",
    disconnected: "Connections that ended after their handshake",
    retried: "Attempts to connect again",
    handshake_failed_auth: "Handshakes refused because of the key",
    handshake_failed_protocol: "Handshakes that broke the protocol or used the wrong server key",
    handshake_failed_other: "Handshakes that ended or timed out without a reason given",
    accept_failed: "Connections that could not be accepted",
    bind_failed: "Addresses that could not be listened on",
    zap_allowed: "Keys let in",
    zap_denied: "Keys refused",
}

/// Counts one more.
pub(crate) fn one(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// Counts so many more.
pub(crate) fn many(counter: &AtomicU64, number: usize) {
    counter.fetch_add(number as u64, Relaxed);
}
