//! `[[render]]` with real files, processes and commands. This program plays every part: the tests, the guards of
//! commands, and the reader that counts its signals.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemon::drain::Drain;
use libtest_mimic::{Arguments, Trial};
use prometheus_client::registry::Registry;
use reception::Service;
use reception_agent::held;
use reception_agent::render::decide::Rule;
use reception_agent::render::tell::OnChange;
use reception_agent::render::template::Template;
use reception_agent::render::{Counters, Format, RenderSpec, run};
use reception_agent::view::{View, Views, Wanted};
use testkit::{Process, Program, TempDir, eventually};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Long enough for anything that is not stuck.
const SOON: Duration = Duration::from_secs(60);

fn main() {
    supervise::enter();
    let tests: [(&str, fn()); 6] = [
        ("a_file_follows_its_services", || block_on(a_file_follows_its_services())),
        ("a_reader_is_signalled_once_for_each_change", || block_on(a_reader_is_signalled())),
        ("a_command_that_fails_is_tried_again", || block_on(a_command_that_fails_is_tried_again())),
        ("a_command_that_hangs_is_ended", || block_on(a_command_that_hangs_is_ended())),
        ("readers_are_told_after_a_restart", || block_on(readers_are_told_after_a_restart())),
        ("a_template_that_cannot_be_rendered", || block_on(a_template_that_cannot_be_rendered())),
    ];
    let trials = tests.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

struct Agent {
    views: watch::Sender<Arc<Views>>,
    stop: Drain,
    task: JoinHandle<()>,
    counters: Counters,
}

impl Agent {
    fn start(spec: RenderSpec) -> Self {
        let (views, seen) = watch::channel(Arc::new(Views::default()));
        let (counters, stop) = (Counters::default(), Drain::new());
        let task = tokio::spawn(run(spec, seen, counters.clone(), stop.clone()));
        Self { views, stop, task, counters }
    }

    fn sees(&self, ports: &[u16]) {
        let instances = ports.iter().map(|port| {
            let service = Service::new("web", "10.0.0.1", *port).expect("an instance");
            service.with_id(&port.to_string()).expect("an id")
        });
        let services = [("web".to_owned(), Arc::new(View::confirmed(instances.collect())))].into();
        self.views.send_replace(Arc::new(Views { services, ..Views::default() }));
    }

    async fn end(self) {
        self.stop.begin();
        self.task.await.expect("it ends in order");
    }

    fn metric(&self, name: &str) -> f64 {
        let mut registry = Registry::default();
        self.counters.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    async fn counts(&self, name: &str, least: f64) {
        eventually(format!("{name} to be {least}"), SOON, async || {
            (self.metric(name) >= least).then_some(())
        })
        .await;
    }
}

fn spec(path: &Path, on_change: OnChange) -> RenderSpec {
    let rule = Rule {
        wanted: Wanted::Named(vec!["web".to_owned()]),
        held: held::Rule { min_instances: 0, empty_grace: Duration::from_secs(2) },
        debounce: Duration::from_millis(20),
        debounce_max: Duration::from_millis(200),
    };
    RenderSpec { path: path.to_owned(), rule, format: Format::Keyrouter, on_change }
}

async fn holds(path: &Path, text: &str) {
    eventually(format!("{} to hold {text:?}", path.display()), SOON, async || {
        std::fs::read_to_string(path).ok().filter(|found| found.contains(text)).map(|_| ())
    })
    .await;
}

async fn a_file_follows_its_services() {
    let dir = TempDir::new();
    let path = dir.join("services.toml");
    let agent = Agent::start(spec(&path, OnChange::None));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!path.exists(), "nothing is certain yet");
    agent.sees(&[1]);
    holds(&path, "\"10.0.0.1:1\"").await;
    agent.sees(&[1, 2]);
    holds(&path, "\"10.0.0.1:2\"").await;
    // The same list in another order is the same file.
    agent.counts("render_written_total", 2.0).await;
    agent.sees(&[2, 1]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(agent.metric("render_written_total"), 2.0);
    agent.views.send_replace(Arc::new(Views::default()));
    tokio::time::sleep(Duration::from_secs(3)).await;
    holds(&path, "\"10.0.0.1:2\"").await;
    let begin = tokio::time::Instant::now();
    agent.sees(&[]);
    holds(&path, "Nodes = []").await;
    assert!(begin.elapsed() >= Duration::from_secs(2), "after the grace");
    // Somebody takes it away, and somebody writes into it.
    std::fs::remove_file(&path).expect("removed");
    holds(&path, "Nodes = []").await;
    std::fs::write(&path, "mine").expect("written");
    holds(&path, "Nodes = []").await;
    agent.end().await;
}

/// A shell that writes a line for each SIGHUP that it gets.
fn reader(dir: &TempDir, heard: &Path) -> Process {
    let script = format!("trap 'echo >>{}' HUP; echo ready; while :; do sleep 0.05; done", heard.display());
    let process = Program::new("/bin/sh").args(["-c", &script]).start();
    std::fs::write(dir.join("pid"), format!("{}\n", process.pid())).expect("written");
    process
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

async fn has_lines(path: &Path, count: usize) {
    eventually(format!("{count} lines in {}", path.display()), SOON, async || {
        (lines(path) >= count).then_some(())
    })
    .await;
}

fn signal(dir: &TempDir) -> OnChange {
    OnChange::Signal { pid_file: dir.join("pid"), signal: "HUP" }
}

async fn a_reader_is_signalled() {
    let dir = TempDir::new();
    let (path, heard) = (dir.join("services.toml"), dir.join("heard"));
    let agent = Agent::start(spec(&path, signal(&dir)));
    agent.sees(&[1]);
    // Nobody is there yet: it is tried again until somebody is.
    agent.counts("render_action_failures_total", 1.0).await;
    let mut first = reader(&dir, &heard);
    has_lines(&heard, 1).await;
    for port in 2..5 {
        agent.sees(&[port]);
        has_lines(&heard, usize::from(port)).await;
    }
    // It dies; the next one is told when it is there.
    first.kill9();
    agent.sees(&[9]);
    let failures = agent.metric("render_action_failures_total");
    agent.counts("render_action_failures_total", failures + 1.0).await;
    let _second = reader(&dir, &heard);
    has_lines(&heard, 5).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(lines(&heard), 5, "once for each change");
    agent.end().await;
}

fn command(script: &str, timeout: Duration) -> OnChange {
    OnChange::Command { words: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()], timeout }
}

async fn a_command_that_fails_is_tried_again() {
    let dir = TempDir::new();
    let (path, ran, good) = (dir.join("f"), dir.join("ran"), dir.join("good"));
    let script = format!("echo $RENDER_PATH >>{}; echo oh; test -e {}", ran.display(), good.display());
    let agent = Agent::start(spec(&path, command(&script, SOON)));
    agent.sees(&[1]);
    agent.counts("render_action_failures_total", 2.0).await;
    std::fs::write(&good, "").expect("written");
    agent.counts("render_actions_total", 1.0).await;
    let count = lines(&ran);
    assert!(std::fs::read_to_string(&ran).expect("it ran").starts_with(path.to_str().expect("text")));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((lines(&ran), agent.metric("render_actions_total")), (count, 1.0));
    agent.end().await;
}

async fn a_command_that_hangs_is_ended() {
    let dir = TempDir::new();
    let (path, pid) = (dir.join("f"), dir.join("command"));
    let script = format!("echo $$ >{}; sleep 1000 & sleep 1000", pid.display());
    let agent = Agent::start(spec(&path, command(&script, Duration::from_millis(300))));
    agent.sees(&[1]);
    agent.counts("render_action_failures_total", 1.0).await;
    let pid = std::fs::read_to_string(pid).expect("it ran");
    let stat = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
    eventually("the command to be gone", SOON, async || (!stat.exists()).then_some(())).await;
    agent.end().await;
}

async fn readers_are_told_after_a_restart() {
    let dir = TempDir::new();
    let (path, heard) = (dir.join("services.toml"), dir.join("heard"));
    let agent = Agent::start(spec(&path, signal(&dir)));
    agent.sees(&[1]);
    agent.counts("render_action_failures_total", 1.0).await;
    agent.end().await;
    // Nothing has changed since, but nobody was told.
    let _reader = reader(&dir, &heard);
    let agent = Agent::start(spec(&path, signal(&dir)));
    agent.sees(&[1]);
    has_lines(&heard, 1).await;
    agent.end().await;
    let agent = Agent::start(spec(&path, signal(&dir)));
    agent.sees(&[1]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((lines(&heard), agent.metric("render_written_total")), (1, 0.0), "now they know");
    agent.end().await;
}

async fn a_template_that_cannot_be_rendered() {
    let dir = TempDir::new();
    let path = dir.join("f");
    let source = "{% for i in services.web %}\n{{ i.port }} {{ 'x' if i.port < 3 else i.attributes.zone }}\n{% endfor %}\n";
    let template = Template::read(&dir.write("t", source)).expect("a template");
    let agent =
        Agent::start(RenderSpec { format: Format::Template(template), ..spec(&path, OnChange::None) });
    agent.sees(&[1, 2]);
    holds(&path, "1 x\n2 x\n").await;
    agent.sees(&[3]);
    agent.counts("render_failures_total", 1.0).await;
    holds(&path, "1 x\n2 x\n").await;
    agent.sees(&[2]);
    eventually("the next good one", SOON, async || {
        (std::fs::read_to_string(&path).ok()? == "2 x\n").then_some(())
    })
    .await;
    agent.end().await;
}
