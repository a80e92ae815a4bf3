//! Logging on stderr, as text or JSON, with a level that a reload can change.
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::Metadata;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::settings::Values;

/// Changes the level of the running log.
#[derive(Debug, Clone)]
pub struct LogControl {
    level: Option<reload::Handle<LevelFilter, Registry>>,
}

impl LogControl {
    /// A control that controls nothing, for tests.
    pub const fn none() -> Self {
        Self { level: None }
    }

    /// Logs errors alone, unless somebody asked for a level: for subcommands that do one thing and end.
    pub fn quiet(&self, values: &Values) {
        if let Some(handle) = self.level.as_ref().filter(|_| !values.is_set("log-level")) {
            drop(handle.modify(|level| *level = LevelFilter::ERROR));
        }
    }

    /// Applies the `log-level` of reloaded values.
    pub fn apply(&self, values: &Values) {
        if let Some(handle) = &self.level {
            // Fails only when the subscriber is gone, and then there is no log.
            drop(handle.modify(|level| *level = level_of(&values.text("log-level"))));
        }
    }
}

/// Starts the log as the settings say. A log that somebody else started stays.
pub fn init(values: &Values) -> LogControl {
    let Ok(writer) = Writer::start(std::io::stderr()) else {
        return LogControl::none();
    };
    let sink = writer.clone();
    let make = move || sink.clone();
    let (filter, handle) = reload::Layer::new(level_of(&values.text("log-level")));
    let layer = if values.text("log-format") == "json" {
        fmt::layer().json().flatten_event(true).with_writer(make).boxed()
    } else {
        let colour =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        fmt::layer().with_ansi(colour).with_target(false).with_writer(make).boxed()
    };
    let layer = layer.with_filter(filter_fn(is_of_interest));
    let started = tracing_subscriber::registry().with(filter.and_then(layer)).try_init();
    match started {
        Ok(()) => {
            let _ = WRITER.set(writer);
            LogControl { level: Some(handle) }
        }
        Err(_) => LogControl::none(),
    }
}

/// Waits, for a second at most, until what was logged is written. To be called before the process
/// exits by itself.
pub fn flush() {
    if let Some(writer) = WRITER.get() {
        writer.flush(Duration::from_secs(1));
    }
}

/// The process has one log, and whoever ends the process has to be able to flush it.
static WRITER: OnceLock<Writer> = OnceLock::new();

/// Lines that wait to be written. A reader of stderr that hangs costs the daemon this much memory
/// at most, and never its time.
const WAITING: usize = 4096;

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Hands lines to a thread that writes them, and counts those that it has no room for.
#[derive(Debug, Clone)]
struct Writer {
    lines: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    fn start(mut to: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (lines, waiting) = sync_channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = dropped.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || {
            for message in waiting {
                match message {
                    // Nobody is left to tell when stderr is gone.
                    Message::Line(line) => drop(to.write_all(&line)),
                    Message::Flush(done) => {
                        drop(to.flush());
                        let _ = done.send(());
                    }
                }
                let lost = counted.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    drop(writeln!(to, "{lost} lines of the log were dropped: its reader was too slow"));
                }
            }
        })?;
        Ok(Self { lines, dropped })
    }

    fn flush(&self, timeout: Duration) {
        let (done, wait) = sync_channel(1);
        if self.lines.try_send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(timeout);
        }
    }
}

/// The subscriber writes each event at once and whole.
impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if self.lines.try_send(Message::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The level for a name; the originals' `NOTICE` and `CRITICAL` have near kin, not twins.
fn level_of(name: &str) -> LevelFilter {
    match name {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "warning" | "warn" | "notice" => match name {
            "notice" => LevelFilter::INFO,
            _ => LevelFilter::WARN,
        },
        "error" | "critical" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    }
}

/// Libraries that say at every level what only their authors want to know, and whose errors we tell ourselves.
const CHATTY: [&str; 1] = ["zookeeper_client"];

fn is_of_interest(event: &Metadata<'_>) -> bool {
    is_shown(event.target(), LevelFilter::current())
}

/// Whether events of this module are logged at all, at the level that is logged.
fn is_shown(target: &str, level: LevelFilter) -> bool {
    level >= LevelFilter::DEBUG || !CHATTY.iter().any(|chatty| target.starts_with(chatty))
}

/// Logs that a listener is open, in the one form that scripts wait for.
pub fn log_listening(role: &str, addr: std::net::SocketAddr) {
    tracing::info!(role, %addr, "listening");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chatty_libraries_are_shown_to_those_who_debug() {
        assert!(is_shown("reception::hold", LevelFilter::INFO));
        assert!(!is_shown("zookeeper_client::session", LevelFilter::INFO));
        assert!(is_shown("zookeeper_client::session", LevelFilter::DEBUG));
    }

    #[test]
    fn every_accepted_name_has_a_level() {
        assert_eq!(level_of("notice"), LevelFilter::INFO);
        assert_eq!(level_of("critical"), LevelFilter::ERROR);
        assert_eq!(level_of("warn"), level_of("warning"));
        for name in crate::cli::LEVELS {
            assert_ne!(level_of(name), LevelFilter::OFF, "{name}");
        }
    }

    /// A reader that is stuck until it is told to go on.
    struct Stuck(std::sync::mpsc::Receiver<()>, Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_hangs_costs_lines_and_not_time() {
        let (go_on, stuck) = std::sync::mpsc::channel();
        let written = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut writer = Writer::start(Stuck(stuck, written.clone())).unwrap();
        for _ in 0..WAITING * 2 {
            writer.write_all(b"line\n").unwrap();
        }
        drop(go_on);
        // Room for the request to flush comes with the first lines that are written.
        while !String::from_utf8_lossy(&written.lock().unwrap()).contains("were dropped") {
            std::thread::yield_now();
        }
        Writer::flush(&writer, Duration::from_secs(30));
        let text = String::from_utf8_lossy(&written.lock().unwrap()).into_owned();
        let lines = text.lines().filter(|line| *line == "line").count();
        assert!((WAITING..WAITING * 2).contains(&lines), "{lines}");
    }
}
