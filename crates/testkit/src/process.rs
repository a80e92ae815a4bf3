//! Daemons as processes: start them, read what they log, treat them badly, and leave none behind.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::eventually;

/// How long a daemon may take to listen, and to end after SIGTERM.
const LIMIT: Duration = Duration::from_secs(20);
/// How many lines of each stream are kept: the first to listen come early, the reasons come last.
const KEPT: usize = 20_000;

/// A program with its arguments, which can be started again and again.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    name: String,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
}

impl Program {
    /// The program at `path`, named after its file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self { path, name, args: Vec::new(), env: Vec::new(), folder: None }
    }

    /// What its log is headed with.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// One more environment variable.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The folder in which it runs.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Starts it. Panics when there is no such program.
    pub fn start(&self) -> Process {
        let mut command = Command::new(&self.path);
        command.args(&self.args).envs(self.env.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("starting {}: {error}", self.path.display()));
        let (logged, printed) = (Lines::default(), Lines::default());
        logged.follow(child.stderr.take().expect("stderr is a pipe"));
        printed.follow(child.stdout.take().expect("stdout is a pipe"));
        Process { program: self.clone(), child, logged, printed, earlier: VecDeque::new() }
    }
}

/// A running process. Killed on drop; its log is printed when the test is failing.
#[derive(Debug)]
pub struct Process {
    program: Program,
    child: Child,
    logged: Lines,
    printed: Lines,
    /// What it logged before it was restarted, to be shown on failure.
    earlier: VecDeque<String>,
}

impl Process {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the `listening` line of this role and gives its address, with a wildcard made loopback.
    pub async fn listening(&mut self, role: &str) -> SocketAddr {
        let what = format!("{} to log that it listens as {role}", self.program.name);
        let logged = self.logged.clone();
        eventually(what, LIMIT, async || {
            if let Some(addr) = logged.lock().iter().find_map(|line| listening_line(line, role)) {
                return Some(addr);
            }
            self.assert_alive();
            None
        })
        .await
    }

    /// Waits for a logged line that contains `text`, and gives it.
    pub async fn logs(&mut self, text: &str) -> String {
        let what = format!("{} to log {text:?}", self.program.name);
        eventually(what, LIMIT, async || self.logged.lock().iter().find(|line| line.contains(text)).cloned())
            .await
    }

    /// What it wrote on stderr so far.
    pub fn log(&self) -> Vec<String> {
        self.logged.lock().iter().cloned().collect()
    }

    /// What it wrote on stdout so far.
    pub fn stdout(&self) -> Vec<String> {
        self.printed.lock().iter().cloned().collect()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) -> ExitStatus {
        // Refused only when it has ended already, which the wait then tells.
        let _ = self.child.kill();
        self.child.wait().expect("an own child can be waited for")
    }

    /// SIGTERM, and waits until it has ended.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended(LIMIT).await
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} to end", self.program.name);
        eventually(what, limit, async || self.exit_status()).await
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("an own child can be asked for")
    }

    /// Kills it if it still runs, and starts the same program with the same arguments and an empty log.
    pub fn restart(&mut self) {
        self.kill9();
        let program = self.program.clone();
        let before = std::mem::replace(self, program.start());
        self.earlier.extend(before.earlier.iter().cloned().chain(before.log()));
    }

    /// Stops it in its tracks.
    pub fn sigstop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn sigcont(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to reload.
    pub fn hup(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // Not yet waited for, so the id cannot be another process's; that it has ended is no error here.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
    }

    fn assert_alive(&mut self) {
        if let Some(status) = self.exit_status() {
            panic!("{} ended early: {status}", self.program.name);
        }
    }

    #[expect(clippy::print_stderr, reason = "a failed test shows what its daemons logged")]
    fn print_log(&self) {
        eprintln!("---- log of {} ({})", self.program.name, self.pid());
        for line in self.earlier.iter().chain(self.logged.lock().iter()) {
            eprintln!("{line}");
        }
        eprintln!("---- end of the log of {}", self.program.name);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            self.print_log();
        }
    }
}

/// The lines of one stream, filled by a thread of its own, so that a full pipe never stalls a daemon.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<VecDeque<String>>>);

impl Lines {
    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, stream: impl Read + Send + 'static) {
        let lines = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let mut kept = lines.lock();
                if kept.len() == KEPT {
                    // The middle goes: addresses stand at the start, reasons at the end.
                    kept.remove(KEPT / 2);
                }
                kept.push_back(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }
}

/// The address of a `listening` line of this role, in JSON (flat or with `fields`) or text.
fn listening_line(line: &str, role: &str) -> Option<SocketAddr> {
    let (found, addr) = match serde_json::from_str::<serde_json::Value>(line) {
        Ok(json) => {
            let fields = json.get("fields").unwrap_or(&json);
            let text = |key: &str| fields.get(key).and_then(|value| value.as_str()).map(str::to_owned);
            if text("message")? != "listening" {
                return None;
            }
            (text("role")?, text("addr")?)
        }
        Err(_) => {
            let (_, fields) = line.split_once("listening ")?;
            let text = |key: &str| {
                let value =
                    fields.split_whitespace().find_map(|field| field.strip_prefix(key)?.strip_prefix('='));
                value.map(|value| value.trim_matches('"').to_owned())
            };
            (text("role")?, text("addr")?)
        }
    };
    let mut addr: SocketAddr = addr.parse().ok()?;
    if addr.ip().is_unspecified() {
        addr.set_ip(if addr.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    (found == role).then_some(addr)
}

#[cfg(test)]
mod tests {
    use super::listening_line;

    #[test]
    fn the_address_is_read_from_every_form_of_the_line() {
        let addr = Some("127.0.0.1:80".parse().unwrap());
        let nested =
            r#"{"level":"INFO","fields":{"message":"listening","role":"api","addr":"127.0.0.1:80"}}"#;
        assert_eq!(listening_line(nested, "api"), addr);
        let flat = r#"{"level":"INFO","message":"listening","role":"api","addr":"0.0.0.0:80"}"#;
        assert_eq!(listening_line(flat, "api"), addr);
        assert_eq!(listening_line(flat, "proxy"), None);
        let text = r#"2026-01-01T00:00:00Z  INFO daemon: listening role="api" addr=127.0.0.1:80"#;
        assert_eq!(listening_line(text, "api"), addr);
        assert_eq!(listening_line("ready", "api"), None);
    }
}
