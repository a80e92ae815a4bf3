//! The runner as a process of its own, which can be killed and frozen: told what to do on stdin, tells on
//! stdout what happened.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use supervise::{Boottime, Spec};
use testkit::eventually;
use tokio::sync::mpsc;

use crate::support::{LIMIT, children, descriptors, exe, far, run, send, shell};

/// The runner as the test sees it. Killed on drop.
pub(crate) struct Runner {
    process: std::process::Child,
    stdin: ChildStdin,
    said: Arc<Mutex<Vec<String>>>,
}

impl Runner {
    /// Starts one whose child is this shell script. `lock`: a file that it locks and has the guard keep.
    pub(crate) fn start(script: &str, kill_at: Boottime, grace: Duration, lock: Option<&str>) -> Self {
        let mut command = Command::new(exe());
        command.arg("role:runner").env("SCRIPT", script).env("LOCK", lock.unwrap_or_default());
        command.env("KILL_AT", kill_at.as_nanos().to_string()).env("GRACE", grace.as_nanos().to_string());
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = process.stdin.take().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (stdout, into) = (BufReader::new(process.stdout.take().unwrap()), said.clone());
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).for_each(|line| into.lock().unwrap().push(line))
        });
        Self { process, stdin, said }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).unwrap()
    }

    pub(crate) fn tell(&mut self, order: impl AsRef<str>) {
        writeln!(self.stdin, "{}", order.as_ref()).unwrap();
    }

    /// Waits for a line that begins so, and gives the rest.
    pub(crate) async fn says(&self, begin: &str) -> String {
        let find =
            || self.said.lock().unwrap().iter().find_map(|line| Some(line.strip_prefix(begin)?.to_owned()));
        eventually(format!("the runner to say {begin:?}"), LIMIT, async || find()).await
    }

    /// The child's and the guard's process ids.
    pub(crate) async fn started(&self) -> (i32, i32) {
        let text = self.says("started ").await;
        let (child, guard) = text.split_once(' ').unwrap();
        (child.parse().unwrap(), guard.parse().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// SIGKILL; the instant before it.
    pub(crate) fn kill9(&mut self) -> Boottime {
        let now = Boottime::now();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        now
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// The runner's own part.
pub(crate) fn play() {
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let mut spec = shell(&std::env::var("SCRIPT").unwrap()).grace(Duration::from_nanos(number("GRACE")));
    let lock = std::env::var("LOCK").unwrap();
    if !lock.is_empty() {
        let file = std::fs::File::options().read(true).append(true).create(true).open(lock).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        spec = spec.keep(OwnedFd::from(file));
    }
    let kill_at = Boottime::from_nanos(number("KILL_AT"));
    let (tell, mut orders) = mpsc::channel::<String>(64);
    std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).for_each(|line| tell.blocking_send(line).unwrap());
    });
    run(async move {
        let child = match spec.spawn(kill_at).await {
            Ok(child) => child,
            Err(error) => return say(&format!("failed {error}")),
        };
        say(&format!("started {} {}", child.pid(), child.guard_pid()));
        let mut ended = false;
        loop {
            let order = tokio::select! {
                exit = child.wait(), if !ended => {
                    say(&format!("ended {:?} {:?} {}", exit.status, exit.why, exit.strays));
                    ended = true;
                    continue;
                }
                order = orders.recv() => order,
            };
            // Until the test lets it go: what it has left open or running can be looked at.
            let Some(order) = order else { return };
            let (word, value) = order.split_once(' ').unwrap_or((&order, "0"));
            let done = match word {
                "rearm" => child.rearm(Boottime::from_nanos(value.parse().unwrap())),
                "stop" => child.stop(),
                "kill" => child.kill(),
                _ => panic!("no such order: {order}"),
            };
            say(&format!("did {order}: {done:?}"));
        }
    });
    // The thread on stdin is not waited for.
    std::process::exit(0);
}

/// Starts and stops 200 children, then tells what is left of them in this process.
pub(crate) fn cycles() {
    run(async {
        let cycle = async |number: u32| {
            let spec = shell("setsid sleep 120 & exec sleep 120").stdin(supervise::Io::Pipe).output(3);
            let child = spec.spawn(far()).await.unwrap();
            if number.is_multiple_of(2) {
                child.stop().unwrap()
            } else {
                child.kill().unwrap()
            }
            child.wait().await;
        };
        cycle(0).await;
        let before = descriptors();
        for number in 0..200 {
            cycle(number).await;
        }
        say(&format!("descriptors {before} {}", descriptors()));
        say(&format!("children {:?}", children()));
    });
}

/// What a program is told that does not call `enter`.
pub(crate) fn print_error_of_start() {
    run(async {
        say(&Spec::new("true").spawn(far()).await.unwrap_err().to_string());
    });
}
