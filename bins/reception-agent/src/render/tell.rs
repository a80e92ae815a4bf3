//! Telling the readers of a file that it is new.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use supervise::{Boottime, Exit, Io, Spec, Status, Why};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How much of a command's output is logged, in bytes of each stream.
const LOGGED: usize = 4096;
/// Between SIGTERM and SIGKILL of a command that takes too long.
const GRACE: Duration = Duration::from_secs(2);

/// How the readers of a file are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnChange {
    /// Not at all: they look by themselves.
    None,
    /// By a signal.
    Signal {
        /// The file in which the reader writes its process id.
        pid_file: PathBuf,
        /// One of [`SIGNALS`].
        signal: &'static str,
    },
    /// By a command.
    Command {
        /// The program and its arguments.
        words: Vec<String>,
        /// How long it may take.
        timeout: Duration,
    },
}

/// The signals that can be sent.
pub const SIGNALS: &[&str] = &["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH"];

impl OnChange {
    /// Tells them. A future that is dropped kills the command.
    ///
    /// # Errors
    /// The sentence that says why they may not know.
    pub async fn tell(&self, path: &Path) -> Result<(), String> {
        match self {
            Self::None => Ok(()),
            Self::Signal { pid_file, signal } => send(pid_file, signal),
            Self::Command { words, timeout } => run(words, *timeout, path).await,
        }
    }
}

/// Only to a process that does something with it: a pid file may be older than its process, and a process that is
/// just starting would die of it.
fn send(pid_file: &Path, name: &str) -> Result<(), String> {
    let shown = pid_file.display();
    let text = std::fs::read_to_string(pid_file).map_err(|error| format!("the pid file {shown}: {error}"))?;
    let number = text.trim().parse().ok().filter(|number| *number > 0).and_then(Pid::from_raw);
    let Some(pid) = number else {
        let text: String = text.trim().chars().take(20).collect();
        return Err(format!("the pid file {shown} holds no process id: {text:?}"));
    };
    if pid == rustix::process::getpid() {
        return Err(format!("the pid file {shown} holds the process id of this agent"));
    }
    let failed = |error: rustix::io::Errno| match error {
        rustix::io::Errno::SRCH => format!("process {pid} of {shown} is gone"),
        error => format!("process {pid} of {shown}: {error}"),
    };
    // From here on the id cannot become another process's.
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
    let signal = number_of(name).ok_or_else(|| format!("{name} is no signal"))?;
    if matches!(signal, Signal::HUP | Signal::USR1 | Signal::USR2) && !handles(pid, signal) {
        return Err(format!(
            "process {pid} of {shown} does not handle SIG{name}, which would end it: not sent"
        ));
    }
    pidfd_send_signal(process, signal).map_err(failed)
}

fn number_of(name: &str) -> Option<Signal> {
    Some(match name {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "TERM" => Signal::TERM,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "WINCH" => Signal::WINCH,
        _ => return None,
    })
}

/// Whether a process has a handler for it, or blocks it to wait for it. What cannot be found out counts as yes.
fn handles(pid: Pid, signal: Signal) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let mask = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
    };
    let (Some(caught), Some(blocked)) = (mask("SigCgt:"), mask("SigBlk:")) else { return true };
    (caught | blocked) & 1 << (signal.as_raw() - 1) != 0
}

async fn run(words: &[String], timeout: Duration, path: &Path) -> Result<(), String> {
    let shown = words.join(" ");
    let (program, args) = words.split_first().ok_or("the command is empty")?;
    let mut spec = Spec::new(program).args(args).env("RENDER_PATH", path);
    // A daemon under systemd: what is said there is not the command's to say. The backend may hold a password.
    for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "RECEPTION_AGENT_BACKEND"] {
        spec = spec.env_remove(variable);
    }
    let spec = spec.stdout(Io::Pipe).stderr(Io::Pipe).grace(GRACE.min(timeout / 2));
    let mut child = spec.spawn(Boottime::now() + timeout).await.map_err(|error| error.to_string())?;
    let (stdout, stderr) = (child.stdout(), child.stderr());
    let (exit, stdout, stderr) = tokio::join!(child.wait(), said(stdout), said(stderr));
    for (stream, text) in [("stdout", stdout), ("stderr", stderr)] {
        if !text.is_empty() {
            tracing::info!(command = shown, stream, "the command said: {text}");
        }
    }
    judged(&shown, exit, timeout)
}

fn judged(shown: &str, exit: Exit, timeout: Duration) -> Result<(), String> {
    match (exit.status, exit.why) {
        (Status::Code(0), Why::Exited) => Ok(()),
        (_, Why::DeadlineReached) => Err(format!("`{shown}` did not end within {timeout:?}")),
        (Status::Code(code), _) => Err(format!("`{shown}` ended with {code}")),
        (Status::Signal(signal), _) => Err(format!("signal {signal} ended `{shown}`")),
        (Status::Unknown, _) => Err(format!("the guard of `{shown}` was killed")),
    }
}

/// The beginning of what a stream says, read to its end so that nobody waits for a full pipe.
async fn said(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut kept, mut buffer, mut left_out) = (Vec::new(), [0; 4096], 0);
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let room = length.min(LOGGED - kept.len());
        kept.extend_from_slice(&buffer[..room]);
        left_out += length - room;
    }
    let mut text = String::from_utf8_lossy(&kept).trim_end().to_owned();
    if left_out > 0 {
        text.push_str(&format!(" .. and {left_out} bytes more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_has_a_number() {
        assert!(SIGNALS.iter().all(|name| number_of(name).is_some()));
        assert!(number_of("KILL").is_none());
    }

    #[test]
    fn a_pid_file_that_names_nobody_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        assert!(send(&path, "HUP").unwrap_err().contains("No such file"));
        for text in ["", "x", "0", "-1", "99999999999"] {
            std::fs::write(&path, text).unwrap();
            assert!(send(&path, "HUP").unwrap_err().contains("holds no process id"), "{text}");
        }
        std::fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        assert!(send(&path, "HUP").unwrap_err().contains("of this agent"));
    }

    #[test]
    fn a_process_that_would_die_of_it_or_is_gone_is_not_signalled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        std::fs::write(&path, child.id().to_string()).unwrap();
        assert!(send(&path, "HUP").unwrap_err().contains("does not handle SIGHUP"));
        assert!(child.try_wait().unwrap().is_none(), "it lives");
        send(&path, "TERM").unwrap();
        child.wait().unwrap();
        assert!(send(&path, "HUP").unwrap_err().contains("is gone"));
    }
}
