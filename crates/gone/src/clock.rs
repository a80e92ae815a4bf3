//! The clock that decides: CLOCK_BOOTTIME, which never goes back and goes on while the machine sleeps.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// The time since the machine was started, with the time that it was suspended.
pub fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    // Never negative: the kernel counts from its start.
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// A timer on that clock. tokio's own stands still while the machine is suspended.
#[derive(Debug)]
pub struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    /// A timer of the current runtime.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    #[expect(deprecated, reason = "an OwnedFd keeps its descriptor; the newer call needs unsafe code")]
    pub fn new() -> std::io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(AsyncFd::new(timerfd_create(TimerfdClockId::Boottime, flags)?)?))
    }

    /// Resolves at `at`, or at once when that has passed. Only the last call of it counts.
    pub async fn until(&self, at: Duration) {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let at = Timespec {
            tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
            // All zero would disarm it.
            tv_nsec: i64::from(at.subsec_nanos()).max(1),
        };
        let setting = Itimerspec { it_interval: zero, it_value: at };
        if timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::ABSTIME, &setting).is_err() {
            return;
        }
        while let Ok(mut ready) = self.0.readable().await {
            let mut expirations = [0; 8];
            match rustix::io::read(self.0.get_ref(), &mut expirations) {
                Err(error) if error == rustix::io::Errno::AGAIN => ready.clear_ready(),
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_fires_at_its_time_and_at_once_for_a_past_one() {
        let timer = Timer::new().unwrap();
        let at = now() + Duration::from_millis(30);
        timer.until(at).await;
        assert!(now() >= at);
        timer.until(Duration::ZERO).await;
        timer.until(now()).await;
        let cut_short =
            tokio::time::timeout(Duration::from_millis(20), timer.until(now() + Duration::from_secs(60)));
        assert!(cut_short.await.is_err(), "a later time is waited for after earlier ones");
    }
}
