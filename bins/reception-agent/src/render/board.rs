//! What is counted of rendered files.

use std::path::Path;
use std::time::SystemTime;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::held::Why;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct File {
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    path: String,
    why: &'static str,
}

/// Counters of all files. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    written: Family<File, Counter>,
    failures: Family<File, Counter>,
    told: Family<File, Counter>,
    tell_failures: Family<File, Counter>,
    held: Family<Reason, Gauge>,
    behind: Family<File, Gauge>,
    last_success: Family<File, Gauge>,
}

impl Counters {
    /// Makes them visible.
    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            ("render_written", "Files written, because what they should hold had changed", &self.written),
            ("render_failures", "Files that could not be rendered or written", &self.failures),
            ("render_actions", "Times that the readers of a file were told", &self.told),
            ("render_action_failures", "Times that telling them failed", &self.tell_failures),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let help = "Services whose newest list does not count, and why: unconfirmed, empty or few";
        registry.register("render_held_services", help, self.held.clone());
        let help = "Whether a file or its readers do not have what they should";
        registry.register("render_behind", help, self.behind.clone());
        let help = "When the file was last found or made right, in seconds since 1970";
        registry.register("render_last_success_seconds", help, self.last_success.clone());
    }

    /// Those of one file.
    pub fn of(&self, path: &Path) -> Board {
        Board { counters: self.clone(), file: File { path: path.display().to_string() } }
    }
}

/// What is counted of one file.
#[derive(Clone, Debug)]
pub struct Board {
    counters: Counters,
    file: File,
}

impl Board {
    /// It was written.
    pub fn written(&self) {
        self.counters.written.get_or_create(&self.file).inc();
    }

    /// It holds what it should.
    pub fn right(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.counters.last_success.get_or_create(&self.file).set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// It could not be rendered or written.
    pub fn failed(&self) {
        self.counters.failures.get_or_create(&self.file).inc();
    }

    /// Its readers were told, or not.
    pub fn told(&self, worked: bool) {
        let family = if worked { &self.counters.told } else { &self.counters.tell_failures };
        family.get_or_create(&self.file).inc();
    }

    /// So many services are held back, by reason; and whether anything is left to do.
    pub fn stands(&self, held: impl Iterator<Item = Why> + Clone, behind: bool) {
        for why in Why::ALL {
            let reason = Reason { path: self.file.path.clone(), why: why.word() };
            let count = held.clone().filter(|other| *other == why).count();
            self.counters.held.get_or_create(&reason).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.counters.behind.get_or_create(&self.file).set(i64::from(behind));
    }

    /// The file is not kept any more: what says how it stands goes.
    pub fn ended(&self) {
        for why in Why::ALL {
            self.counters.held.remove(&Reason { path: self.file.path.clone(), why: why.word() });
        }
        self.counters.behind.remove(&self.file);
    }
}
