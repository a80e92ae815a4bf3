//! The times that follow from an expiry, and which combinations cannot be safe.

use std::fmt;
use std::time::Duration;

/// The shortest expiry: below it, delays of the machine itself are as long as the lease.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest expiry; a record's end in microseconds stays an exact number in every store.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// What a margin has beside its share of the expiry: ending processes, and small steps of clocks.
const MARGIN_BASE: Duration = Duration::from_millis(50);
/// One part in so many is the margin's share of the expiry: how far clocks may differ in rate.
const MARGIN_SHARE: u32 = 100;
/// How long a release, or the end of a lease, takes to become a new holder.
const HANDOVER: Duration = Duration::from_millis(100);

/// The times of one lease. All are lengths on the runner's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long the lease lasts in the store after each renewal.
    pub expiry: Duration,
    /// From the sending of one renewal to that of the next.
    pub extend_every: Duration,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// By how much the deadline comes before the expiry: 1 % of it and 50 ms, for clocks that differ in
    /// rate, steps of the store's clock, and the time a killed process takes to end.
    pub margin: Duration,
}

/// Why a combination of times is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// Too short or too long.
    #[error("expiry {0:?} is not between {SHORTEST:?} and {LONGEST:?}")]
    Expiry(Duration),
    /// The store cannot do it.
    #[error("expiry {expiry:?} does not suit this lock: {why}")]
    Store {
        /// As asked for.
        expiry: Duration,
        /// What the store needs.
        why: &'static str,
    },
    /// The child could not be given its grace within the lease.
    #[error(
        "grace {grace:?} leaves nothing of expiry {expiry:?} less the margin {margin:?}; make it shorter"
    )]
    Grace {
        /// As asked for.
        grace: Duration,
        /// As asked for.
        expiry: Duration,
        /// As it follows.
        margin: Duration,
    },
    /// The child would be stopped before a renewal could have been repeated once.
    #[error(
        "extend-every {extend_every:?} is too long: the child is stopped {stop_after:?} after a renewal, \
         and one that fails must be tried again before; at most {most:?} is safe"
    )]
    ExtendEvery {
        /// As asked for.
        extend_every: Duration,
        /// When SIGTERM comes.
        stop_after: Duration,
        /// The longest that leaves room for a second try.
        most: Duration,
    },
    /// Nothing would ever be renewed.
    #[error("extend-every must be at least 10ms")]
    NoPause,
}

impl Timing {
    /// The times for an expiry: renewed at a third of it, grace a quarter of it but at most 5 s.
    pub fn of(expiry: Duration) -> Self {
        Self {
            expiry,
            extend_every: expiry / 3,
            grace: (expiry / 4).min(Duration::from_secs(5)),
            margin: expiry / MARGIN_SHARE + MARGIN_BASE,
        }
    }

    /// With another renewal interval.
    pub fn extend_every(self, extend_every: Duration) -> Self {
        Self { extend_every, ..self }
    }

    /// With another grace.
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// From the sending of a renewal to the moment at which the child must be dead.
    pub fn kill_after(&self) -> Duration {
        self.expiry.saturating_sub(self.margin)
    }

    /// From the sending of a renewal to the moment at which the child is asked to end.
    pub fn stop_after(&self) -> Duration {
        self.kill_after().saturating_sub(self.grace)
    }

    /// How long one request to the store, or one dial, may take before the connection is given up:
    /// a quarter of the renewal interval, from 100 ms to 2 s.
    pub fn patience(&self) -> Duration {
        (self.extend_every / 4).clamp(Duration::from_millis(100), Duration::from_secs(2))
    }

    /// The longest pause between two dials: a sixtieth of the expiry, from 50 to 500 ms.
    pub fn longest_redial(&self) -> Duration {
        (self.expiry / 60).clamp(Duration::from_millis(50), Duration::from_millis(500))
    }

    /// The longest time for which a waiter does not look at the store.
    pub fn longest_look(&self) -> Duration {
        self.expiry / 6
    }

    /// Everything about these times that cannot be safe; none when they can be used.
    pub fn problems(&self) -> Vec<Unsafe> {
        let Self { expiry, extend_every, grace, margin } = *self;
        if !(SHORTEST..=LONGEST).contains(&expiry) {
            return vec![Unsafe::Expiry(expiry)];
        }
        if grace >= self.kill_after() {
            return vec![Unsafe::Grace { grace, expiry, margin }];
        }
        if extend_every < Duration::from_millis(10) {
            return vec![Unsafe::NoPause];
        }
        let stop_after = self.stop_after();
        // One try that runs out of patience, the pause before the next dial, and that dial and try.
        let second_try = self.patience() * 2 + self.longest_redial();
        if extend_every + second_try <= stop_after {
            return Vec::new();
        }
        // patience() is a quarter of the interval, or its bounds.
        let most = [
            (stop_after.saturating_sub(self.longest_redial())) * 2 / 3,
            stop_after.saturating_sub(self.longest_redial() + Duration::from_millis(200)),
        ];
        let most = most[0].min(most[1]);
        vec![Unsafe::ExtendEvery { extend_every, stop_after, most }]
    }
}

/// How long a kind of lock takes until another holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    /// The lock's kind, as in its URL.
    pub kind: &'static str,
    /// After the holder was killed.
    pub after_death: Duration,
    /// After the holder stopped in order, or its child ended.
    pub after_release: Duration,
    /// After the store lost what it knew, or came back as another process, with the holder dead.
    pub after_store_loss: Duration,
    /// After the start of a runner, when none waited as the holder died; none: the store tells when the lease ends.
    pub after_start: Option<Duration>,
}

impl Failover {
    /// For a store whose leases end after the expiry by its own clock: Redis.
    pub fn timed(kind: &'static str, timing: &Timing) -> Self {
        let after_death = timing.expiry + HANDOVER;
        let after_store_loss = after_death + timing.longest_redial();
        Self { kind, after_death, after_release: HANDOVER, after_store_loss, after_start: None }
    }

    /// For a store in which a lease that was not released has to stand unrenewed for one expiry on the clock of
    /// whoever takes it: Consul, etcd.
    pub fn observed(kind: &'static str, timing: &Timing) -> Self {
        let timed = Self::timed(kind, timing);
        Self { after_start: Some(timed.after_death), ..timed }
    }

    /// For a lock that goes with the process that holds it: the kernel's.
    pub fn by_kernel(kind: &'static str) -> Self {
        let (after_death, after_release, after_store_loss) = (HANDOVER, HANDOVER, HANDOVER);
        Self { kind, after_death, after_release, after_store_loss, after_start: None }
    }

    /// The table that `--check-config` prints: one line a time, with how it comes about.
    pub fn table(&self, timing: &Timing) -> String {
        let rows: [(&str, Duration, &str); 9] = [
            ("expiry", timing.expiry, "the lease ends this long after a renewal reached the store"),
            ("renewal", timing.extend_every, "from sending one to sending the next"),
            ("margin", timing.margin, "1 % of the expiry + 50ms: clock rates, steps of the store's clock"),
            (
                "SIGTERM after",
                timing.stop_after(),
                "without a renewal, from the sending of the last: expiry - margin - grace",
            ),
            ("grace", timing.grace, "from SIGTERM to SIGKILL"),
            ("deadline", timing.kill_after(), "without a renewal: SIGKILL, expiry - margin"),
            ("fail-over, holder killed", self.after_death, "at most, from its death"),
            ("fail-over, holder stops", self.after_release, "at most, from the end of its child"),
            (
                "fail-over, store lost",
                self.after_store_loss,
                "at most, from its return, when no holder lived on",
            ),
        ];
        let mut table = format!("lock: {}\n", self.kind);
        let late = self.after_start.map(|time| {
            ("fail-over, nobody waited", time, "at most, from the start of a runner after the holder's death")
        });
        for (name, time, how) in rows.into_iter().chain(late) {
            table.push_str(&format!("{name:<26}{:>10}  {how}\n", Seconds(time).to_string()));
        }
        table
    }
}

/// Seconds with as many digits as tell.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.0.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_default_of_thirty_seconds_is_what_the_docs_say() {
        let timing = Timing::of(ms(30_000));
        assert_eq!(timing.problems(), []);
        let times =
            [timing.extend_every, timing.grace, timing.margin, timing.stop_after(), timing.kill_after()];
        assert_eq!(times, [ms(10_000), ms(5_000), ms(350), ms(24_650), ms(29_650)]);
        let table = Failover::timed("redis", &timing).table(&timing);
        for line in
            ["margin                        0.350s", "deadline                     29.650s", "30.100s"]
        {
            assert!(table.contains(line), "{line:?} is missing in\n{table}");
        }
        assert!(!table.contains("nobody waited"));
        let table = Failover::observed("etcd", &timing).table(&timing);
        assert!(
            table.contains("fail-over, nobody waited     30.100s")
                || table.contains("nobody waited    30.100s"),
            "{table}"
        );
    }

    #[test]
    fn defaults_are_safe_for_every_expiry() {
        for expiry in [1000, 1500, 2000, 3000, 10_000, 60_000, 86_400_000] {
            assert_eq!(Timing::of(ms(expiry)).problems(), [], "expiry {expiry} ms");
        }
    }

    #[test]
    fn what_cannot_be_safe_is_refused_and_the_advice_is_right() {
        let timing = Timing::of(ms(3000));
        assert!(matches!(timing.grace(ms(3000)).problems()[..], [Unsafe::Grace { .. }]));
        assert!(matches!(timing.grace(ms(2920)).problems()[..], [Unsafe::Grace { .. }]));
        assert!(matches!(timing.extend_every(ms(0)).problems()[..], [Unsafe::NoPause]));
        assert!(matches!(Timing::of(ms(100)).problems()[..], [Unsafe::Expiry(_)]));
        for expiry in [1000, 3000, 30_000, 600_000] {
            let timing = Timing::of(ms(expiry));
            let too_long = timing.extend_every(timing.stop_after()).problems();
            let [Unsafe::ExtendEvery { most, .. }] = too_long[..] else { panic!("{too_long:?}") };
            assert_eq!(timing.extend_every(most).problems(), [], "the advice {most:?} for {expiry} ms");
        }
    }
}
