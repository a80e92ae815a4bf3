//! Runners, senders, and what can be seen of them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use testkit::http::get;
use testkit::{Beats, Process, Program, Raw, TempDir, eventually};

use crate::role;

/// Long enough for anything that is not stuck.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// The shortest expiry that there is.
pub(crate) const EXPIRY: Duration = Duration::from_secs(1);
/// How much longer than the contract's bound a hand-over may take where the machine is shared with builds.
pub(crate) const SHARED: u32 = 10;

const EXE: &str = env!("CARGO_BIN_EXE_gone-runner");

/// A runner to be started: `run --id job` over this lock, with the shortest expiry and an API.
#[derive(Clone)]
pub(crate) struct Setup {
    flags: Vec<String>,
    env: Vec<(String, String)>,
    command: Vec<String>,
}

impl Setup {
    pub(crate) fn over(lock: &str) -> Self {
        let flags =
            ["--id", "job", "--lock", lock, "--expiry", "1s", "--api", "127.0.0.1:0", "--log-format", "json"];
        Self { flags: flags.map(str::to_owned).to_vec(), env: Vec::new(), command: Vec::new() }
    }

    /// With a lock in a folder of this host.
    pub(crate) fn in_folder(dir: &Path) -> Self {
        Self::over(&folder_lock(dir))
    }

    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<Path>) -> Self {
        self.env.push((key.to_owned(), value.as_ref().to_str().unwrap().to_owned()));
        self
    }

    pub(crate) fn shell(mut self, script: &str) -> Self {
        self.command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        self
    }

    pub(crate) fn beating(self, beats: &Beats) -> Self {
        Self { command: role::words(), ..self }
            .env("ROLE", "beat")
            .env(testkit::beats::FOLDER, beats.folder())
    }

    pub(crate) fn recording(self, file: &Path) -> Self {
        Self { command: role::words(), ..self }.env("ROLE", "record").env("RECORD", file)
    }

    pub(crate) fn program(&self, name: &str) -> Program {
        let program = Program::new(EXE).name(name).arg("run").args(&self.flags).arg("--").args(&self.command);
        self.env.iter().fold(program, |program, (key, value)| program.env(key, value))
    }

    pub(crate) fn start(&self, name: &str) -> Process {
        self.program(name).start()
    }
}

pub(crate) fn folder_lock(dir: &Path) -> String {
    format!("file:{}", dir.display())
}

/// What `/status` says.
pub(crate) async fn status(runner: &mut Process) -> Value {
    let api: SocketAddr = runner.listening("api").await;
    get(api, "/status").await.json()
}

/// Waits until the runner holds the lease and its child runs; gives the child's process id.
pub(crate) async fn holds(runner: &mut Process) -> i32 {
    let api = runner.listening("api").await;
    eventually("the runner to hold the lease", SOON, async || {
        let status = get(api, "/status").await.json();
        let pid = status["child"]["pid"].as_i64()?;
        (status["state"] == "held").then_some(i32::try_from(pid).unwrap())
    })
    .await
}

/// Runs to its end, on a thread that may wait.
pub(crate) async fn call(args: &[&str], input: &str) -> Output {
    let (args, input) = (args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>(), input.to_owned());
    tokio::task::spawn_blocking(move || {
        let mut command = Command::new(EXE);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // One that fails early does not read it.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap()
}

/// As [`call`], for a call that has to work; gives its stdout.
pub(crate) async fn done(args: &[&str], input: &str) -> String {
    let output = call(args, input).await;
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// As [`call`], for a call that has to fail with this code; gives its stderr.
pub(crate) async fn fails(code: i32, args: &[&str], input: &str) -> String {
    let output = call(args, input).await;
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// One inline command; gives the first line of the answer.
pub(crate) async fn tell_redis(addr: SocketAddr, command: &str) -> String {
    let mut raw = Raw::try_connect(addr).await.unwrap();
    raw.send(format!("{command}\r\n")).await;
    String::from_utf8(raw.read_until(b"\r\n").await.unwrap()).unwrap()
}

/// The lines of a file that may not be there yet.
pub(crate) fn lines(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// A folder, and a file in it that is not there yet.
pub(crate) fn record() -> (TempDir, std::path::PathBuf) {
    let dir = TempDir::new();
    let file = dir.join("record");
    (dir, file)
}
