//! What can be set, with its defaults.

use std::time::Duration;

/// Times, windows and bounds of a node. Each can be changed while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Time between pings on each link. 1 s.
    pub ping_interval: Duration,
    /// A link has to stand so long before its node joins. 100 ms.
    pub join_delay: Duration,
    /// A peer that hangs has left within this time. 3 s; less a tenth, longer than `ping_interval`.
    pub read_timeout: Duration,
    /// Wait before an unreachable peer is dialed again. 1 s.
    pub connect_interval: Duration,
    /// An attempt to connect may take so long. 5 s.
    pub connect_timeout: Duration,
    /// All nodes of the cluster, this one included: quorum is then more than half of them, without the exception
    /// for two. `None`: the configured nodes and the original's formula.
    pub expect: Option<usize>,
    /// What was sent to a peer that is away is kept for so long. 30 s.
    pub resend_for: Duration,
    /// Bytes kept for each peer until it acknowledges them, with 64 added for each message. 64 MiB.
    pub window_bytes: usize,
    /// Messages kept for each peer until it acknowledges them. 500,000.
    pub window_messages: usize,
    /// The longest message. 4 MiB.
    pub max_message: usize,
    /// Messages that wait in each of the application's streams before peers are slowed. 10,000.
    pub buffer: usize,
    /// Bytes that wait in each of the application's streams, with 64 added for each message. 16 MiB.
    pub buffer_bytes: usize,
    /// Whether each message is logged, at level debug.
    pub log_traffic: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(1),
            join_delay: Duration::from_millis(100),
            read_timeout: Duration::from_secs(3),
            connect_interval: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            expect: None,
            resend_for: Duration::from_secs(30),
            window_bytes: 64 << 20,
            window_messages: 500_000,
            max_message: 4 << 20,
            buffer: 10_000,
            buffer_bytes: 16 << 20,
            log_traffic: false,
        }
    }
}

/// The longest message that any settings allow: a link carries no more.
pub(crate) const LARGEST_MESSAGE: usize = 64 << 20;
/// Counted for each message in a window beside its bytes.
pub(crate) const MESSAGE_COST: usize = 64;
/// The longest content type or action, in bytes.
pub(crate) const LONGEST_LABEL: usize = 255;

impl Settings {
    /// A peer from which nothing came for so long is taken for gone: a tenth less than `read_timeout`, so that it has
    /// left within that time also where a look at the clock comes late.
    pub(crate) fn silence(&self) -> Duration {
        self.read_timeout - self.read_timeout / 10
    }

    /// What is wrong with them, a sentence each; empty when they can be used.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |wrong: bool, sentence: &str| {
            if wrong {
                problems.push(sentence.to_owned());
            }
        };
        let short = Duration::from_millis(10);
        check(self.ping_interval < short, "ping-interval is below 10ms");
        check(
            self.silence() <= self.ping_interval,
            "read-timeout, less a tenth, has to be longer than ping-interval",
        );
        check(self.connect_interval < short, "connect-interval is below 10ms");
        check(self.connect_timeout < short, "connect-timeout is below 10ms");
        check(self.expect == Some(0), "expect counts this node too, so it is 1 at least");
        check(self.max_message == 0, "a longest message of 0 bytes lets nothing through");
        check(self.max_message > LARGEST_MESSAGE, "messages of more than 64 MiB are not carried");
        check(
            self.window_bytes < self.max_message.saturating_add(MESSAGE_COST + LONGEST_LABEL)
                || self.window_messages == 0,
            "the window has to hold one message of the longest kind: max-message and 319 bytes more",
        );
        check(self.buffer == 0 || self.buffer_bytes == 0, "a buffer of nothing lets nothing through");
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound_and_each_problem_is_told() {
        assert!(Settings::default().problems().is_empty());
        let bad = Settings {
            read_timeout: Duration::from_millis(1),
            ping_interval: Duration::ZERO,
            buffer: 0,
            window_bytes: 10,
            expect: Some(0),
            ..Settings::default()
        };
        assert_eq!(bad.problems().len(), 4, "{:?}", bad.problems());
        let least = Settings { window_bytes: (4 << 20) + 64 + 255, ..Settings::default() };
        assert!(least.problems().is_empty());
        let less = Settings { window_bytes: least.window_bytes - 1, ..least };
        assert_eq!(less.problems().len(), 1, "a message with a content type would wait for ever");
    }
}
