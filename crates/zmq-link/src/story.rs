//! From libzmq's monitor events to what happened, one connection at a time. Pure.
//!
//! libzmq names the connection (by its descriptor) when it begins and when it ends, but not when its handshake
//! succeeds or fails. On a listening socket the story is put together: a failed handshake, unless it is a refused
//! key, is followed at once by the end of its connection; a refused key comes with the address that the ZAP
//! handler saw. A success belongs to the one connection in its handshake; with several, the address stays unknown.

use std::collections::HashMap;
use std::time::Duration;

use crate::auth::Denial;
use crate::event::{EventKind, HandshakeFailure};
use crate::ffi;

/// What a monitor socket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) event: u32,
    pub(crate) value: i32,
}

/// The connections of one socket.
#[derive(Debug, Default)]
pub(crate) struct Story {
    connections: HashMap<i32, Connection>,
    /// A failure whose connection is named by the next end.
    failed: Option<HandshakeFailure>,
    /// Addresses of refused keys whose connections have not ended yet.
    refused: Vec<String>,
    /// Connections that stand, but it is not known which.
    standing: usize,
}

#[derive(Debug)]
struct Connection {
    peer: Option<String>,
    stands: bool,
}

/// What happened, and to whom.
pub(crate) type Told = Option<(Option<String>, EventKind)>;

impl Story {
    /// What the event means. `peer` is the address behind the descriptor where the event carries one, or the
    /// server's on a connecting socket; `denial` is asked for when a key was refused.
    pub(crate) fn note(
        &mut self,
        raw: &Raw,
        peer: Option<String>,
        denial: impl FnOnce() -> Option<Denial>,
    ) -> Told {
        match raw.event {
            ffi::ZMQ_EVENT_ACCEPTED | ffi::ZMQ_EVENT_CONNECTED => {
                self.connections.insert(raw.value, Connection { peer, stands: false });
                None
            }
            ffi::ZMQ_EVENT_HANDSHAKE_SUCCEEDED => Some((self.succeeded(), EventKind::Connected)),
            ffi::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH => Some(self.refused(denial())),
            ffi::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL => {
                self.failed = Some(protocol_failure(raw.value.cast_unsigned()));
                None
            }
            ffi::ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL => {
                self.failed = Some(HandshakeFailure::NoDetail { error: system_error(raw.value) });
                None
            }
            ffi::ZMQ_EVENT_DISCONNECTED => self.ended(raw.value),
            ffi::ZMQ_EVENT_CONNECT_RETRIED => {
                let after = Duration::from_millis(u64::try_from(raw.value).unwrap_or(0));
                Some((peer, EventKind::Retried { after }))
            }
            ffi::ZMQ_EVENT_ACCEPT_FAILED => {
                Some((None, EventKind::AcceptFailed { error: system_error(raw.value) }))
            }
            _ => None,
        }
    }

    /// All connections were ended by us, which libzmq does not tell: the peers of those that stood.
    pub(crate) fn all_ended(&mut self) -> Vec<Option<String>> {
        let stood = self.connections.drain().filter(|(_, connection)| connection.stands);
        let mut peers: Vec<Option<String>> = stood.map(|(_, connection)| connection.peer).collect();
        peers.resize(peers.len() + std::mem::take(&mut self.standing), None);
        self.refused.clear();
        self.failed = None;
        peers
    }

    fn succeeded(&mut self) -> Option<String> {
        let mut shaking = self.connections.values_mut().filter(|connection| !connection.stands);
        if let (Some(only), None) = (shaking.next(), shaking.next()) {
            only.stands = true;
            return only.peer.clone();
        }
        self.standing += 1;
        None
    }

    fn refused(&mut self, denial: Option<Denial>) -> (Option<String>, EventKind) {
        let key = denial.as_ref().and_then(|denial| denial.key);
        let address = denial.map(|denial| denial.address);
        let shaking = || self.connections.values().filter(|connection| !connection.stands);
        // The address with its port, where only one connection can be meant.
        let exact = shaking().next().filter(|_| shaking().count() == 1).and_then(|only| only.peer.clone());
        if self.refused.len() < self.connections.len() {
            self.refused.extend(address.clone());
        }
        (exact.or(address), EventKind::HandshakeFailed(HandshakeFailure::Auth { key }))
    }

    fn ended(&mut self, fd: i32) -> Told {
        let connection = self.connections.remove(&fd)?;
        if let Some(failure) = self.failed.take() {
            return Some((connection.peer, EventKind::HandshakeFailed(failure)));
        }
        if connection.stands {
            return Some((connection.peer, EventKind::Disconnected));
        }
        let host = connection.peer.as_deref().map(host);
        if let Some(at) = self.refused.iter().position(|refused| Some(host_or(refused)) == host) {
            self.refused.swap_remove(at);
            return None;
        }
        if self.standing > 0 {
            self.standing -= 1;
            return Some((connection.peer, EventKind::Disconnected));
        }
        None
    }
}

/// The host of `host:port`.
fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host_or(host))
}

fn host_or(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']').trim_start_matches("::ffff:")
}

fn protocol_failure(code: u32) -> HandshakeFailure {
    match code {
        ffi::ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC => HandshakeFailure::WrongServerKey,
        ffi::ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH => HandshakeFailure::MechanismMismatch,
        other => HandshakeFailure::Protocol(other),
    }
}

fn system_error(number: i32) -> String {
    if number == 0 {
        return "the other end closed it, or was silent".into();
    }
    std::io::Error::from_raw_os_error(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(story: &mut Story, event: u32, value: i32, peer: &str) -> Told {
        let denial = Denial { key: None, address: "10.0.0.9".into() };
        story.note(&Raw { event, value }, Some(peer.to_owned()), || Some(denial))
    }

    #[test]
    fn a_connection_that_stood_has_ended() {
        let mut story = Story::default();
        assert_eq!(note(&mut story, ffi::ZMQ_EVENT_ACCEPTED, 7, "10.0.0.1:5"), None);
        let peer = Some("10.0.0.1:5".to_owned());
        let told = note(&mut story, ffi::ZMQ_EVENT_HANDSHAKE_SUCCEEDED, 0, "");
        assert_eq!(told, Some((peer.clone(), EventKind::Connected)));
        let told = note(&mut story, ffi::ZMQ_EVENT_DISCONNECTED, 7, "");
        assert_eq!(told, Some((peer, EventKind::Disconnected)));
        assert_eq!(note(&mut story, ffi::ZMQ_EVENT_DISCONNECTED, 7, ""), None, "not twice");
    }

    #[test]
    fn a_failed_handshake_is_told_once_with_its_address() {
        let mut story = Story::default();
        note(&mut story, ffi::ZMQ_EVENT_ACCEPTED, 7, "10.0.0.1:5");
        note(&mut story, ffi::ZMQ_EVENT_ACCEPTED, 8, "10.0.0.2:6");
        let code = ffi::ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC.cast_signed();
        assert_eq!(note(&mut story, ffi::ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL, code, ""), None);
        let told = note(&mut story, ffi::ZMQ_EVENT_DISCONNECTED, 8, "");
        let failed = EventKind::HandshakeFailed(HandshakeFailure::WrongServerKey);
        assert_eq!(told, Some((Some("10.0.0.2:6".into()), failed)));
    }

    #[test]
    fn a_refused_key_is_no_connection_that_ended() {
        let mut story = Story::default();
        note(&mut story, ffi::ZMQ_EVENT_ACCEPTED, 7, "10.0.0.9:5");
        note(&mut story, ffi::ZMQ_EVENT_ACCEPTED, 8, "10.0.0.2:6");
        let told = note(&mut story, ffi::ZMQ_EVENT_HANDSHAKE_FAILED_AUTH, 400, "");
        let failed = EventKind::HandshakeFailed(HandshakeFailure::Auth { key: None });
        assert_eq!(told, Some((Some("10.0.0.9".into()), failed)));
        note(&mut story, ffi::ZMQ_EVENT_HANDSHAKE_SUCCEEDED, 0, "");
        assert_eq!(note(&mut story, ffi::ZMQ_EVENT_DISCONNECTED, 7, ""), None);
        let told = note(&mut story, ffi::ZMQ_EVENT_DISCONNECTED, 8, "");
        assert_eq!(told, Some((Some("10.0.0.2:6".into()), EventKind::Disconnected)));
    }
}
