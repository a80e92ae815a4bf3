//! How often somebody may guess a password. Pure: time comes in.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Failures that are let pass within the time.
const FAILURES: usize = 5;
/// The time.
const WITHIN: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const ADDRESSES: usize = 10_000;

/// Counts failed logins by address.
#[derive(Debug, Default)]
pub struct Limiter {
    failed: HashMap<IpAddr, VecDeque<Instant>>,
}

impl Limiter {
    /// One attempt, which is judged only where it may be made at all; an attempt that fails is counted.
    ///
    /// # Errors
    /// After how many seconds to try again.
    pub fn attempt(&mut self, from: IpAddr, now: Instant, judge: impl FnOnce() -> bool) -> Result<bool, u64> {
        let from = group(from);
        self.forget(now);
        if let Some(failed) = self.failed.get(&from)
            && failed.len() >= FAILURES
            && let Some(first) = failed.front()
        {
            let wait = WITHIN.saturating_sub(now.duration_since(*first));
            return Err(wait.as_secs() + 1);
        }
        if judge() {
            return Ok(true);
        }
        if self.failed.len() >= ADDRESSES && !self.failed.contains_key(&from) {
            // So many at once is an attack by itself: whoever is new waits.
            return Err(WITHIN.as_secs());
        }
        self.failed.entry(from).or_default().push_back(now);
        Ok(false)
    }

    fn forget(&mut self, now: Instant) {
        self.failed.retain(|_, times| {
            while times.front().is_some_and(|at| now.duration_since(*at) >= WITHIN) {
                times.pop_front();
            }
            !times.is_empty()
        });
    }
}

/// A host has a whole IPv6 network to guess from.
fn group(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_sixth_guess_of_a_minute_is_not_looked_at() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(limiter.attempt(ip("10.0.0.1"), now, || false), Ok(false));
        }
        let later = now + Duration::from_secs(20);
        assert_eq!(limiter.attempt(ip("10.0.0.1"), later, || unreachable!()), Err(41));
        assert_eq!(limiter.attempt(ip("::ffff:10.0.0.1"), later, || unreachable!()), Err(41));
        assert_eq!(limiter.attempt(ip("10.0.0.2"), later, || true), Ok(true));
        assert_eq!(limiter.attempt(ip("10.0.0.1"), now + WITHIN, || true), Ok(true));
    }

    #[test]
    fn successes_do_not_count_and_a_network_is_one() {
        let (mut limiter, now) = (Limiter::default(), Instant::now());
        for at in 0..5 {
            assert_eq!(limiter.attempt(ip(&format!("2001:db8::{at}")), now, || false), Ok(false));
            assert_eq!(limiter.attempt(ip("10.0.0.1"), now, || true), Ok(true));
        }
        assert!(limiter.attempt(ip("2001:db8::99"), now, || true).is_err());
        assert_eq!(limiter.attempt(ip("2001:db8:1::1"), now, || true), Ok(true));
    }
}
