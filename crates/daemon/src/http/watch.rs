//! The watch over the connections of one accept loop: who is late, and what becomes of them.
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::clock::{Clock, Stage};
use super::server::Limits;
use crate::drain::Drain;

/// How long an idle HTTP/2 client may take to answer that it has heard of the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// The time that connections have.
#[derive(Debug, Clone, Copy)]
struct Times {
    header: Duration,
    idle: Duration,
    send: Duration,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Keep,
    /// It is to take no more requests and to close.
    Dismiss,
    End,
}

/// The connections of one accept loop, and since when each stands where it stands.
#[derive(Debug)]
pub(super) struct Watch {
    times: Times,
    interval: Duration,
    next_tick: Option<tokio::time::Instant>,
    connections: HashMap<u64, Connection>,
    next: u64,
}

#[derive(Debug)]
struct Connection {
    task: AbortHandle,
    clock: Arc<Clock>,
    standing: Standing,
}

/// How a connection stood when it was last looked at.
#[derive(Debug)]
struct Standing {
    stage: (u32, Stage),
    stage_since: Instant,
    unsent: Option<u64>,
    unsent_since: Instant,
    dismissed: Option<Instant>,
}

impl Watch {
    pub(super) fn new(limits: &Limits) -> Self {
        let times =
            Times { header: limits.header_timeout, idle: limits.idle_timeout, send: limits.send_timeout };
        let shortest = times.header.min(times.idle).min(times.send);
        let interval = (shortest / 20).clamp(Duration::from_millis(5), Duration::from_millis(500));
        Self { times, interval, next_tick: None, connections: HashMap::new(), next: 0 }
    }

    /// Watches this connection until it ends.
    pub(super) fn add(&mut self, task: AbortHandle, clock: Arc<Clock>) {
        let standing = Standing::new(Instant::now());
        self.connections.insert(self.next, Connection { task, clock, standing });
        self.next += 1;
        let first_tick = || tokio::time::Instant::now() + self.interval;
        self.next_tick.get_or_insert_with(first_tick);
    }

    /// Resolves when it is time for a sweep; never while there is nothing to sweep.
    pub(super) async fn tick(&self) {
        match self.next_tick {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Forgets what has ended, and ends what is late. While draining, who has not begun a request
    /// is late: some clients open a second connection just in case and would hold up the end.
    pub(super) fn sweep(&mut self, draining: bool) {
        let now = Instant::now();
        let mut times = self.times;
        if draining {
            times.idle = times.idle.min(self.interval);
        }
        self.connections.retain(|_, connection| {
            if connection.task.is_finished() {
                return false;
            }
            let clock = &connection.clock;
            let verdict =
                connection.standing.judge(now, clock.stage(), clock.unsent(), clock.is_http2(), &times);
            match verdict {
                Verdict::Keep => {}
                Verdict::Dismiss => clock.ask_to_leave(),
                Verdict::End => connection.task.abort(),
            }
            verdict != Verdict::End
        });
        let any = !self.connections.is_empty();
        self.next_tick = any.then(|| tokio::time::Instant::now() + self.interval);
    }

    /// Waits for the last connection, and drops those that outlast the drain.
    pub(super) async fn finish(mut self, drain: &Drain) {
        let mut expired = std::pin::pin!(drain.expired());
        // Short from here on, so that the end is not held up by our own slowness to notice it.
        self.interval = self.interval.min(Duration::from_millis(20));
        self.next_tick = Some(tokio::time::Instant::now());
        while self.next_tick.is_some() {
            tokio::select! {
                () = self.tick() => self.sweep(true),
                () = &mut expired => break,
            }
        }
        self.connections.values().for_each(|connection| connection.task.abort());
    }
}

impl Standing {
    const fn new(now: Instant) -> Self {
        let stage = (0, Stage::Serving);
        Self { stage, stage_since: now, unsent: None, unsent_since: now, dismissed: None }
    }

    /// Notes how it stands now, and decides.
    fn judge(
        &mut self,
        now: Instant,
        stage: (u32, Stage),
        unsent: Option<u64>,
        http2: bool,
        times: &Times,
    ) -> Verdict {
        if unsent != self.unsent {
            (self.unsent, self.unsent_since) = (unsent, now);
        }
        if stage != self.stage {
            (self.stage, self.stage_since) = (stage, now);
        }
        if unsent.is_some() && now - self.unsent_since >= times.send {
            return Verdict::End;
        }
        let waited = now - self.stage_since;
        match (stage.1, self.dismissed) {
            (Stage::Head, _) if waited >= times.header => Verdict::End,
            (Stage::Idle, None) if waited >= times.idle && http2 => {
                self.dismissed = Some(now);
                Verdict::Dismiss
            }
            (Stage::Idle, None) if waited >= times.idle => Verdict::End,
            (Stage::Idle, Some(at)) if waited.min(now - at) >= FAREWELL => Verdict::End,
            _ => Verdict::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        header: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        send: Duration::from_secs(60),
    };

    fn at(start: Instant, seconds: f32) -> Instant {
        start + Duration::from_secs_f32(seconds)
    }

    #[test]
    fn an_idle_http2_connection_is_told_and_then_ended_unless_a_request_comes() {
        let start = Instant::now();
        let mut standing = Standing::new(start);
        let mut judge = |seconds, stage| standing.judge(at(start, seconds), stage, None, true, &TIMES);
        assert_eq!(judge(1.0, (1, Stage::Idle)), Verdict::Keep);
        assert_eq!(judge(75.0, (1, Stage::Idle)), Verdict::Keep);
        assert_eq!(judge(76.0, (1, Stage::Idle)), Verdict::Dismiss);
        assert_eq!(judge(76.9, (1, Stage::Idle)), Verdict::Keep);
        // One that was on its way already is served, however long that takes.
        assert_eq!(judge(77.0, (2, Stage::Serving)), Verdict::Keep);
        assert_eq!(judge(977.0, (2, Stage::Serving)), Verdict::Keep);
        assert_eq!(judge(978.0, (2, Stage::Idle)), Verdict::Keep);
        assert_eq!(judge(979.0, (2, Stage::Idle)), Verdict::End);
    }

    #[test]
    fn what_does_not_go_out_has_its_time_and_each_byte_renews_it() {
        let start = Instant::now();
        let mut standing = Standing::new(start);
        let mut judge =
            |seconds, unsent| standing.judge(at(start, seconds), (1, Stage::Serving), unsent, false, &TIMES);
        assert_eq!(judge(1.0, Some(10)), Verdict::Keep);
        assert_eq!(judge(60.0, Some(10)), Verdict::Keep);
        assert_eq!(judge(60.5, Some(11)), Verdict::Keep);
        assert_eq!(judge(120.0, Some(11)), Verdict::Keep);
        assert_eq!(judge(120.4, None), Verdict::Keep);
        // Silence with nothing to send is no fault of the client.
        assert_eq!(judge(999.0, None), Verdict::Keep);
        assert_eq!(judge(1000.0, Some(11)), Verdict::Keep);
        assert_eq!(judge(1060.0, Some(11)), Verdict::End);
    }
}
