//! What is counted of `serve`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The counters of `serve`. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Instances and candidates that were not kept alive by their callers.
    pub expired: Counter,
    /// Requests that were refused for want of places.
    pub refused: Counter,
    /// Requests that the store could not answer in time.
    pub unanswered: Counter,
    /// Changes that were asked for and not allowed.
    pub forbidden: Counter,
    /// Event streams now.
    pub streams: Gauge,
    /// Long polls that wait now.
    pub polls: Gauge,
    /// Instances held now.
    pub instances: Gauge,
    /// Candidates held now.
    pub candidates: Gauge,
    /// Lists watched now.
    pub watches: Gauge,
    /// Of those, not confirmed by the store.
    pub stale: Gauge,
}

impl Counters {
    /// Makes them visible.
    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            ("expired", "Instances and candidates that their callers did not keep alive", &self.expired),
            ("refused", "Requests refused because a bound was reached", &self.refused),
            ("unanswered", "Requests that the store did not answer in time", &self.unanswered),
            ("forbidden", "Changes that were asked for and not allowed", &self.forbidden),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let gauges = [
            ("streams", "Event streams", &self.streams),
            ("polls", "Long polls that wait", &self.polls),
            ("instances", "Instances held for callers", &self.instances),
            ("candidates", "Candidates that stand for callers", &self.candidates),
            ("watches", "Lists that are kept up to date", &self.watches),
            ("stale_watches", "Lists that the store does not confirm now", &self.stale),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
    }
}

/// One more, for as long as it is held.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    /// Counts.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
