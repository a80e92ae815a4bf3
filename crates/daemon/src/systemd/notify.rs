//! The notification socket of systemd (`sd_notify`).
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Tells the service manager how the daemon fares. Does nothing where nobody asked. Cheap to clone.
#[derive(Debug, Default, Clone)]
pub struct Notifier {
    socket: Option<Arc<UnixDatagram>>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Follows `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn from_environment() -> Self {
        let ours = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let watchdog = std::env::var("WATCHDOG_USEC").ok().filter(|_| ours);
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(name) => Self::connect(&name, watchdog.as_deref()),
            None => Self::default(),
        }
    }

    /// Uses this socket: a path, or a name in the abstract namespace that starts with `@`.
    pub fn connect(name: &OsStr, watchdog_usec: Option<&str>) -> Self {
        let socket = open(name).inspect_err(|error| tracing::warn!("systemd cannot be told: {error}"));
        let micros = watchdog_usec.and_then(|text| text.parse().ok()).filter(|micros| *micros > 0);
        Self { socket: socket.ok().map(Arc::new), watchdog: micros.map(Duration::from_micros) }
    }

    /// Whether anybody listens.
    pub const fn is_active(&self) -> bool {
        self.socket.is_some()
    }

    /// The start, or a reload, is over.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// A reload has begun. State and time go in one datagram: systemd pairs them.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Still alive.
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    /// How often [`Notifier::watchdog`] has to be called: twice in the time that systemd allows.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.is_active()).map(|allowed| allowed / 2)
    }

    /// Does work that blocks this thread, while another one calls [`Notifier::watchdog`]: no longer than
    /// `limit`, so that it is noticed when the work never ends.
    pub fn alive_during<T>(&self, limit: Duration, work: impl FnOnce() -> T) -> T {
        let Some(interval) = self.watchdog_interval() else { return work() };
        // However short the work is: there may be more of it at once.
        self.watchdog();
        std::thread::scope(|scope| {
            let (working, ended) = mpsc::channel::<()>();
            let until = Instant::now() + limit;
            let tell = move || {
                while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) && Instant::now() < until
                {
                    self.watchdog();
                }
            };
            // Without a thread the work has the time that the watchdog leaves it.
            drop(std::thread::Builder::new().name("watchdog".into()).spawn_scoped(scope, tell));
            let done = work();
            drop(working);
            done
        })
    }

    fn send(&self, state: &str) {
        if let Some(socket) = &self.socket {
            // A service manager that is gone has nobody to tell.
            drop(socket.send(state.as_bytes()));
        }
    }
}

fn open(name: &OsStr) -> std::io::Result<UnixDatagram> {
    let bytes = name.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A service manager that does not read must not hold the daemon up.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn tells_a_socket_with_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::connect(path.as_os_str(), Some("3000000"));
        notifier.ready();
        notifier.reloading();
        notifier.stopping();
        notifier.watchdog();
        assert_eq!(received(&socket), "READY=1");
        let reloading = received(&socket);
        let (state, time) = reloading.split_once('\n').unwrap();
        assert_eq!(state, "RELOADING=1");
        assert!(time.strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().unwrap() > 0);
        assert_eq!(received(&socket), "STOPPING=1");
        assert_eq!(received(&socket), "WATCHDOG=1");
        assert_eq!(notifier.watchdog_interval(), Some(Duration::from_micros(1_500_000)));
    }

    #[test]
    fn tells_an_abstract_socket() {
        let name = format!("daemon-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::connect(OsStr::new(&format!("@{name}")), None).ready();
        assert_eq!(received(&socket), "READY=1");
    }

    #[test]
    fn work_that_blocks_is_alive_until_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::connect(path.as_os_str(), Some("20000"));
        notifier.alive_during(Duration::from_secs(60), || {
            assert_eq!((received(&socket), received(&socket)), ("WATCHDOG=1".into(), "WATCHDOG=1".into()));
        });
        notifier.stopping();
        while received(&socket) != "STOPPING=1" {}
        notifier.alive_during(Duration::ZERO, || std::thread::sleep(Duration::from_millis(50)));
        notifier.ready();
        assert_eq!((received(&socket), received(&socket)), ("WATCHDOG=1".into(), "READY=1".into()));
    }

    #[test]
    fn a_missing_socket_is_no_failure() {
        let notifier = Notifier::connect(OsStr::new("/nonexistent/notify"), Some("1000"));
        notifier.ready();
        assert!(!notifier.is_active() && notifier.watchdog_interval().is_none());
    }
}
