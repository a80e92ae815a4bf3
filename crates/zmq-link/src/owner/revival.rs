//! Brings a DEALER's connection back where libzmq gives up.
//!
//! libzmq connects again after a connection broke, but never after the other end refused the key or broke the
//! protocol. A refused key can become an allowed one, so the DEALER is connected anew, after growing pauses.

use std::time::{Duration, Instant};

use zmq::Socket;

use crate::options::DealerOptions;
use crate::owner::monitor::Line;
use crate::owner::open;

/// libzmq says within this time that it will try again by itself.
const SHORTEST: Duration = Duration::from_millis(100);

/// What is known of the connection.
#[derive(Debug)]
pub(super) struct Revival {
    options: DealerOptions,
    pause: Duration,
    /// When it is connected anew unless libzmq does.
    at: Option<Instant>,
}

impl Revival {
    pub(super) fn new(options: DealerOptions) -> Self {
        Self { pause: Duration::ZERO, at: None, options }
    }

    /// Takes the news in and connects anew when it is time; tells when it wants to be asked again.
    pub(super) fn tend(&mut self, socket: &mut Socket, news: Option<Line>, now: Instant) -> Option<Instant> {
        self.note(news, now);
        if self.at.is_some_and(|at| at <= now) {
            self.at = None;
            // Fails when libzmq has forgotten it already.
            let _ = socket.disconnect(&self.options.endpoint);
            if let Err(error) = open::connect(socket, &self.options) {
                tracing::warn!(socket = self.options.socket.name, %error, "trying again later");
                self.note(Some(Line::Down), now);
            }
        }
        self.at
    }

    fn note(&mut self, news: Option<Line>, now: Instant) {
        match news {
            None => {}
            Some(Line::Up) => (self.at, self.pause) = (None, Duration::ZERO),
            Some(Line::Trying) => self.at = None,
            Some(Line::Down) => {
                let longest = self.options.reconnect_max.max(SHORTEST);
                self.pause =
                    (self.pause * 2).clamp(self.options.reconnect.max(SHORTEST).min(longest), longest);
                self.at = Some(now + self.pause);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::ServerSecurity;

    #[test]
    fn pauses_grow_to_their_bound_and_begin_anew_with_a_connection() {
        let options = DealerOptions::new("test", "tcp://127.0.0.1:1", ServerSecurity::PlainText);
        let (mut revival, now) = (Revival::new(options), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..7 {
            revival.note(Some(Line::Down), now);
            pauses.push(revival.at.unwrap().duration_since(now).as_millis());
            revival.note(Some(Line::Trying), now);
            assert_eq!(revival.at, None, "libzmq does it");
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        revival.note(Some(Line::Up), now);
        revival.note(Some(Line::Down), now);
        assert_eq!(revival.at, Some(now + SHORTEST));
        revival.note(None, now);
        assert_eq!(revival.at, Some(now + SHORTEST));
    }
}
