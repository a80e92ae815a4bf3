//! The life of a daemon from ready to drained: signals, reloads and the orderly end in one place.
use std::future::Future;
use std::time::Duration;

use crate::admin::Admin;
use crate::cli::Start;
use crate::drain::Drain;
use crate::log::LogControl;
use crate::metrics::{Metrics, ReloadState};
use crate::readiness::Readiness;
use crate::settings::{Config, Loaded, Values, changed_at_start};
use crate::signals::{Request, Signals};
use crate::systemd::Notifier;

/// How long a reload may take before the service manager sees that the daemon is stuck in it.
const LONGEST_RELOAD: Duration = Duration::from_secs(300);

/// Everything that lives as long as the daemon. Made once, before listeners open.
#[derive(Debug)]
pub struct Lifecycle {
    /// Says when to begin no more, and counts what is in flight.
    pub drain: Drain,
    /// The conditions behind `/readyz`.
    pub readiness: Readiness,
    /// The registry behind `/metrics`.
    pub metrics: Metrics,
    /// The admin routes.
    pub admin: Admin,
    /// What the daemon's own end may take at most, on top of `--drain-timeout`. Zero at first.
    pub own_end: Duration,
    loaded: Loaded,
    log: LogControl,
    reloads: ReloadState,
    signals: Signals,
    notifier: Notifier,
    reload_wanted: bool,
}

impl Lifecycle {
    /// Takes over the signals. From here on SIGTERM drains instead of killing.
    pub fn new<C>(start: &Start<C>) -> std::io::Result<Self> {
        let program = start.loaded.program();
        let (drain, readiness, metrics) = (Drain::new(), Readiness::new(), Metrics::new(program));
        Ok(Self {
            admin: Admin::new(program, readiness.clone(), metrics.clone()),
            reloads: ReloadState::new(&metrics, &readiness),
            loaded: start.loaded.clone(),
            log: start.log.clone(),
            signals: Signals::install()?,
            notifier: Notifier::from_environment(),
            own_end: Duration::ZERO,
            drain,
            readiness,
            metrics,
            reload_wanted: false,
        })
    }

    /// Does what has to be done before the daemon can serve, unless the end is asked for first:
    /// then `None`. For starts that wait for something outside, such as a database.
    pub async fn start<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                request = self.signals.next() => match request {
                    // There is nothing to reload into yet: `run` does it.
                    Request::Reload => self.reload_wanted = true,
                    Request::Drain => return None,
                },
                () = pause(self.notifier.watchdog_interval()) => self.notifier.watchdog(),
            }
        }
    }

    /// Says that the start is over, to `/readyz` and to the service manager, then serves signals
    /// until the daemon has drained. `apply` puts a reloaded configuration in force, or refuses it
    /// with a sentence, in which case it must have changed nothing. It may block: signals are still
    /// noted (any number of SIGHUPs meanwhile are one more reload, SIGTERM goes before that), and the
    /// service manager is told for 5 minutes that the daemon lives.
    ///
    /// Runs in any tokio runtime with time enabled.
    pub async fn run<C: Config>(mut self, mut apply: impl FnMut(C, &Values) -> Result<(), String>) {
        self.readiness.started();
        self.notifier.ready();
        let watchdog = self.notifier.watchdog_interval();
        if std::mem::take(&mut self.reload_wanted) {
            self.reload(&mut apply);
        }
        loop {
            tokio::select! {
                biased;
                // Something inside the daemon may ask for the end as well.
                () = self.drain.draining() => break,
                request = self.signals.next() => match request {
                    Request::Reload => self.reload(&mut apply),
                    Request::Drain => break,
                },
                () = pause(watchdog) => self.notifier.watchdog(),
            }
        }
        let finish = self.finish();
        let mut finish = std::pin::pin!(finish);
        loop {
            tokio::select! {
                () = &mut finish => break,
                // Work that takes its time to finish is no reason to be killed as stuck.
                () = pause(watchdog) => self.notifier.watchdog(),
            }
        }
    }

    fn reload<C: Config>(&mut self, apply: &mut impl FnMut(C, &Values) -> Result<(), String>) {
        self.notifier.reloading();
        let notifier = self.notifier.clone();
        let problem = notifier.alive_during(LONGEST_RELOAD, || self.try_reload(apply)).err();
        match problem {
            None => {
                self.reloads.succeeded();
                tracing::info!("reloaded");
            }
            Some(problem) => {
                self.reloads.failed(&problem);
                tracing::error!("reload failed, the configuration before it stays in force: {problem}");
            }
        }
        self.notifier.ready();
    }

    fn try_reload<C: Config>(
        &mut self,
        apply: &mut impl FnMut(C, &Values) -> Result<(), String>,
    ) -> Result<(), String> {
        let (loaded, config) =
            self.loaded.reload::<C>().map_err(|problems| problems.to_string().replace('\n', "; "))?;
        apply(config, loaded.values())?;
        for key in changed_at_start(self.loaded.values(), loaded.values()) {
            tracing::warn!("'{key}' was changed: that takes effect at the next start");
        }
        self.log.apply(loaded.values());
        for warning in loaded.warnings() {
            tracing::warn!("{warning}");
        }
        self.loaded = loaded;
        Ok(())
    }

    /// Fails readiness, waits the delay, drains, waits for what is in flight, then drops the rest.
    async fn finish(&self) {
        let values = self.loaded.values();
        let (delay, timeout) = (values.duration("drain-delay"), values.duration("drain-timeout"));
        let timeout = timeout.saturating_add(self.own_end);
        self.readiness.draining();
        self.notifier.stopping();
        tracing::info!(timeout_ms = timeout.as_millis() as u64, "draining");
        if !self.drain.is_draining() {
            pause_for(delay).await;
        }
        self.drain.begin();
        if !self.drain.wait_idle(timeout).await {
            tracing::warn!(in_flight = self.drain.in_flight(), "drain timed out: dropping what is left");
        }
        self.drain.expire();
        // Those that notice the expiry only have to let go; this is not a second deadline.
        self.drain.wait_idle(Duration::from_millis(200)).await;
        tracing::info!("drained");
    }
}

async fn pause(interval: Option<Duration>) {
    match interval {
        Some(interval) => tokio::time::sleep(interval).await,
        None => std::future::pending().await,
    }
}

async fn pause_for(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}
