//! A configured peer: its line, its streams, whether it joined.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::core::inbound::Inbound;
use crate::core::outbound::{Bounds, Outbound};
use crate::core::{Conn, Time};
use crate::settings::Settings;
use crate::status::Status;

/// A peer whose link was lost has so long to come back before it has left.
pub(crate) const GRACE: Duration = Duration::from_millis(40);
/// So many runs of a node that were replaced are remembered, so that none of them comes back.
const PAST_RUNS: usize = 8;
/// Refusals double the wait before the next attempt up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How the line to a peer stands.
#[derive(Debug)]
pub(crate) enum Line {
    /// Nothing is under way; it is dialed then. `None`: taken down by hand.
    Idle { dial_at: Option<Time> },
    /// We dial. With `connected`, the greeting was sent.
    Dialing { conn: Conn, since: Time, connected: bool },
    /// Greetings were exchanged.
    Up(Link),
}

/// A link that stands.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) conn: Conn,
    /// By us.
    pub(crate) dialed: bool,
    pub(crate) since: Time,
    /// When anything came last.
    pub(crate) heard: Time,
    pub(crate) ping_at: Time,
}

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: Arc<str>,
    pub(crate) addr: String,
    pub(crate) line: Line,
    pub(crate) admin_down: bool,
    /// Since when it is a member.
    pub(crate) joined: Option<Time>,
    /// The link was lost: it has left by then unless it is back.
    pub(crate) leave_at: Option<Time>,
    /// It left cleanly, and was not dialed since.
    pub(crate) said_goodbye: bool,
    pub(crate) error: String,
    /// When it was last told that it breaks the protocol.
    pub(crate) complained_at: Option<Time>,
    /// So many times were not told since.
    pub(crate) complaints: u64,
    /// Attempts in a row that were refused.
    pub(crate) refusals: u32,
    pub(crate) last_dial: Option<Time>,
    /// The run that was linked last.
    pub(crate) incarnation: Option<u64>,
    /// Of that run, the newest greeting.
    pub(crate) epoch: u64,
    past: VecDeque<u64>,
    pub(crate) outbound: Outbound,
    pub(crate) inbound: Inbound,
    pub(crate) lag: Option<Duration>,
    /// It held a sender up, who waits for room.
    pub(crate) blocked: bool,
    pub(crate) refused: u64,
    /// In the list of peers that have something to send.
    pub(crate) is_dirty: bool,
    /// In the list of peers from which something can be read.
    pub(crate) is_readable: bool,
}

impl Peer {
    pub(crate) fn new(name: Arc<str>, addr: String, stream: u64, dial_at: Time, now: Time) -> Self {
        Self {
            name,
            addr,
            line: Line::Idle { dial_at: Some(dial_at) },
            admin_down: false,
            joined: None,
            leave_at: None,
            said_goodbye: false,
            error: String::new(),
            complained_at: None,
            complaints: 0,
            refusals: 0,
            last_dial: None,
            incarnation: None,
            epoch: 0,
            past: VecDeque::new(),
            outbound: Outbound::new(stream, now),
            inbound: Inbound::default(),
            lag: None,
            blocked: false,
            refused: 0,
            is_dirty: false,
            is_readable: false,
        }
    }

    pub(crate) fn link(&self) -> Option<&Link> {
        match &self.line {
            Line::Up(link) => Some(link),
            _ => None,
        }
    }

    pub(crate) fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.line {
            Line::Up(link) => Some(link),
            _ => None,
        }
    }

    /// The connection in use or in the making.
    pub(crate) fn conn(&self) -> Option<Conn> {
        match &self.line {
            Line::Idle { .. } => None,
            Line::Dialing { conn, .. } => Some(*conn),
            Line::Up(link) => Some(link.conn),
        }
    }

    pub(crate) fn status(&self, stopping: bool) -> Status {
        match (&self.line, self.joined) {
            _ if stopping => Status::Stopping,
            (_, Some(_)) => Status::Online,
            (Line::Idle { .. }, None) if self.said_goodbye => Status::Leaving,
            (Line::Idle { .. } | Line::Dialing { connected: false, .. }, None) => Status::Offline,
            (_, None) => Status::Authenticating,
        }
    }

    /// Whether this run was replaced by another one before.
    pub(crate) fn is_past(&self, incarnation: u64) -> bool {
        self.past.contains(&incarnation)
    }

    /// Another run takes the place of the one before.
    pub(crate) fn replace_run(&mut self, incarnation: u64) {
        if let Some(old) = self.incarnation.replace(incarnation) {
            if self.past.len() == PAST_RUNS {
                self.past.pop_front();
            }
            self.past.push_back(old);
        }
        self.epoch = 0;
    }

    /// How long to wait after so many refusals in a row.
    pub(crate) fn wait_refused(&mut self, settings: &Settings) -> Duration {
        self.refusals = self.refusals.saturating_add(1);
        let doubled = settings.connect_interval.saturating_mul(1 << self.refusals.min(16));
        doubled.min(LONGEST_WAIT.max(settings.connect_interval))
    }

    /// The lag that a stall is measured with.
    pub(crate) fn known_lag(&self) -> Duration {
        self.lag.unwrap_or_default()
    }

    /// Whether a full window of this peer holds senders up.
    pub(crate) fn pushes_back(&self, now: Time) -> bool {
        self.joined.is_some() && !self.outbound.is_stalled(now, self.known_lag())
    }

    pub(crate) fn is_blocking(&self, now: Time, bounds: Bounds) -> bool {
        // An eighth free, so that those who wait do not come for every single message.
        let room = bounds.bytes - bounds.bytes / 8;
        let messages = bounds.messages - bounds.messages / 8;
        (self.outbound.bytes() > room || self.outbound.len() >= messages.max(1)) && self.pushes_back(now)
    }

    /// When this peer next wants something done, if nothing happens before.
    pub(crate) fn due(&self, settings: &Settings) -> Option<Time> {
        let line = match &self.line {
            Line::Idle { dial_at } => *dial_at,
            Line::Dialing { since, .. } => Some(*since + settings.connect_timeout),
            Line::Up(link) => {
                let join = self.joined.is_none().then(|| link.since + settings.join_delay);
                [Some(link.ping_at), Some(link.heard + settings.silence()), join].into_iter().flatten().min()
            }
        };
        let unblocks = self.blocked.then(|| self.outbound.stalls_at(self.known_lag()));
        let expires = self.outbound.expires_at(settings.resend_for);
        [line, self.leave_at, expires, self.outbound.tells_at(), unblocks].into_iter().flatten().min()
    }
}
