//! The example daemon as a process: exit codes, signals, drain, notifications.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_daemon-example");
/// Longer than anything takes; waits end when their condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

fn call(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).env("NO_COLOR", "1").output().unwrap()
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    fn start(arguments: &[&str], environment: &[(&str, &Path)]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).args(["--log-format", "json"]).envs(environment.iter().copied());
        Self::spawn(&mut command)
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (mut stderr, sink) = (BufReader::new(child.stderr.take().unwrap()), log.clone());
        std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|length| length > 0) {
                sink.lock().unwrap().push_str(&std::mem::take(&mut line));
            }
        });
        Self { child, log }
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn logged(&self, text: &str) {
        eventually(text, || self.log().contains(text).then_some(()));
    }

    /// The address in the `listening` line of this role.
    fn addr(&self, role: &str) -> SocketAddr {
        eventually("a listening line", || {
            let log = self.log();
            let of_role =
                |line: &&str| line.contains("\"listening\"") && line.contains(&format!("\"{role}\""));
            let line = log.lines().find(of_role)?;
            line.split("\"addr\":\"").nth(1)?.split('"').next()?.parse().ok()
        })
    }

    fn get(&self, role: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(self.addr(role)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn ready(&self) {
        eventually("ready", || self.get("api", "/readyz").starts_with("HTTP/1.0 200").then_some(()));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn ended(&mut self) -> i32 {
        let status = eventually("the end", || self.child.try_wait().unwrap());
        status.code().unwrap_or(-1)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn exit_codes_and_one_sentence_per_error() {
    let (code, _, error) = told(&call(&["--greting", "x"]));
    let sentence = "daemon-example: unexpected argument '--greting' found; a similar argument exists: '--greeting' (see daemon-example --help)\n";
    assert_eq!((code, error.as_str()), (2, sentence));
    let (code, _, error) = told(&call(&["--max-body", "x"]));
    assert_eq!(code, 2);
    assert!(error.starts_with("--max-body: 'x' is not a size"), "{error}");
    let (code, _, error) = told(&call(&["--config", "/nonexistent/x.toml"]));
    assert_eq!(
        (code, error.as_str()),
        (78, "/nonexistent/x.toml: cannot be read: No such file or directory\n")
    );
    let (code, _, error) = told(&call(&["--upstream", "redis://:pw@h"]));
    assert_eq!(code, 2);
    assert!(!error.contains("pw"), "{error}");
    let (code, _, error) = told(&call(&["--listen", "192.0.2.1:1"]));
    let wanted = "daemon-example: cannot listen on 192.0.2.1:1: this host does not have the address\n";
    assert_eq!((code, error.as_str()), (1, wanted));
    let (code, _, error) = told(&call(&["--tls-cert", "/nonexistent/c", "--tls-key", "/nonexistent/k"]));
    assert_eq!(
        (code, error.as_str()),
        (78, "daemon-example: /nonexistent/c: cannot be read: No such file or directory\n")
    );
}

#[test]
fn subcommands_have_flags_and_words_of_their_own() {
    let (code, out, error) = told(&call(&["greet", "--times", "2", "--greeting", "hi", "you"]));
    assert_eq!((code, out.as_str(), error.as_str()), (0, "hi, you\nhi, you\n", ""));
    let (code, out, _) = told(&call(&["--greeting", "hi", "greet", "you"]));
    assert_eq!((code, out.as_str()), (0, "hi, you\n"));
    assert_eq!(told(&call(&["greet"])).0, 2);
    let (code, _, error) = told(&call(&["greet", "nobody"]));
    assert_eq!((code, error.as_str()), (1, "daemon-example: nobody cannot be greeted\n"));
}

#[test]
fn help_names_defaults_variables_and_examples() {
    let (code, help, _) = told(&call(&["--help"]));
    assert_eq!(code, 0);
    for part in [
        "Listeners:",
        "[default: 10s]",
        "[env: DAEMON_EXAMPLE_CHECK_SEC]",
        "Examples:\n  daemon-example --listen :8080",
    ] {
        assert!(
            help.split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .contains(&part.split_whitespace().collect::<Vec<_>>().join(" ")),
            "{part} in {help}"
        );
    }
    assert_eq!(told(&call(&["--version"])).1, format!("daemon-example {}\n", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish"] {
        let words = told(&call(&["completions", shell])).1;
        assert!(words.contains("greeting") && words.contains("critical"), "{shell}");
    }
    let (code, page, _) = told(&call(&["man"]));
    assert!(code == 0 && page.contains(".TH daemon"), "{page}");
}

#[test]
fn check_and_print_start_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    let path_text = path.display().to_string();
    std::fs::write(&path, "greeting = \"hi\"\n").unwrap();
    for flag in ["--check-config", "-t", "--test"] {
        let (code, out, _) = told(&call(&["--config", &path_text, flag]));
        assert_eq!((code, out), (0, format!("{path_text}: good\n")));
    }
    let (code, out, _) = told(&call(&["--config", &path_text, "--print-config"]));
    assert!(code == 0 && out.contains(&format!("greeting = \"hi\"  # {path_text}:1\n")), "{out}");
    std::fs::write(&path, "greting = \"hi\"\napi = 1\n").unwrap();
    let (code, _, error) = told(&call(&["--config", &path_text, "-t", "--max-body", "x"]));
    assert_eq!((code, error.lines().count()), (78, 3), "{error}");
}

#[test]
fn the_unit_is_written_under_a_root() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display().to_string();
    for words in [&["service", "install"][..], &["install"]] {
        let (code, out, _) = told(&call(&[words, &["--root", &root]].concat()));
        assert_eq!(code, 0);
        assert!(out.ends_with("/etc/systemd/system/daemon-example.service written\n"), "{out}");
        assert_eq!(told(&call(&["remove", "--root", &root])).0, 0);
    }
}

#[test]
fn healthcheck_finds_the_daemon_by_its_settings() {
    let daemon = Daemon::start(&[], &[]);
    daemon.ready();
    let api = daemon.addr("api").to_string();
    let (code, out, _) = told(&call(&["healthcheck", "--api", &api]));
    assert_eq!((code, out.as_str()), (0, "ready\n"));
    // A file that is being edited says nothing about the daemon that runs.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    std::fs::write(&path, format!("api = \"{api}\"\ngreting = 1\n")).unwrap();
    let (code, out, _) = told(&call(&["healthcheck", "--config", path.to_str().unwrap()]));
    assert_eq!((code, out.as_str()), (0, "ready\n"));
    let (code, _, error) = told(&call(&["healthcheck", "--api", "127.0.0.1:1"]));
    assert!(code == 1 && error.contains("127.0.0.1:1 does not answer"), "{error}");
}

#[test]
fn sighup_applies_a_good_file_and_survives_a_bad_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    std::fs::write(&path, "greeting = \"one\"\n").unwrap();
    let daemon = Daemon::start(&["--config", path.to_str().unwrap()], &[]);
    daemon.ready();
    assert!(daemon.get("app", "/").ends_with("one"));
    std::fs::write(&path, "greeting = \"two\"\nlog-level = \"debug\"\n").unwrap();
    daemon.signal(Signal::HUP);
    eventually("the new greeting", || daemon.get("app", "/").ends_with("two").then_some(()));
    std::fs::write(&path, "\ngreting = \"three\"\n").unwrap();
    daemon.signal(Signal::HUP);
    daemon.logged("x.toml:2: unknown key 'greting': did you mean 'greeting'?");
    assert!(daemon.get("app", "/").ends_with("two"));
    let ready = daemon.get("api", "/readyz");
    assert!(ready.starts_with("HTTP/1.0 200") && ready.contains("x.toml:2: unknown key"), "{ready}");
    let metrics = daemon.get("api", "/metrics");
    for line in ["config_last_reload_ok 0", "config_reloads_total 2", "config_reload_failures_total 1"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    std::fs::write(&path, "greeting = \"four\"\n").unwrap();
    daemon.signal(Signal::HUP);
    eventually("the next good one", || daemon.get("app", "/").ends_with("four").then_some(()));
    assert!(daemon.get("api", "/metrics").contains("config_last_reload_ok 1"));
    std::fs::write(&path, "greeting = \"four\"\nlisten = \":1\"\n").unwrap();
    daemon.signal(Signal::HUP);
    daemon.logged("'listen' was changed: that takes effect at the next start");
}

#[test]
fn a_request_in_flight_is_finished_before_the_end() {
    let mut daemon = Daemon::start(&["--drain-delay", "300ms"], &[]);
    daemon.ready();
    let mut stream = TcpStream::connect(daemon.addr("app")).unwrap();
    // The first answer shows that the connection is being served.
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    read_answer(&mut reader);
    write!(stream, "GET /slow/600 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    daemon.signal(Signal::TERM);
    daemon.logged("draining");
    // Readiness fails first, while the listeners are still open.
    let ready = daemon.get("api", "/readyz");
    assert!(ready.starts_with("HTTP/1.0 503") && ready.contains("not-draining"), "{ready}");
    daemon.signal(Signal::HUP);
    daemon.logged("SIGHUP ignored");
    let answer = read_answer(&mut reader);
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(daemon.ended(), 0);
}

fn read_answer(reader: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    reader.read_exact(&mut [0; 5]).unwrap();
    head.to_lowercase()
}

#[test]
fn what_outlasts_the_drain_is_dropped() {
    let mut daemon = Daemon::start(&["--drain-timeout", "50ms"], &[]);
    daemon.ready();
    let mut stream = TcpStream::connect(daemon.addr("app")).unwrap();
    write!(stream, "GET /slow/60000 HTTP/1.1\r\nHost: x\r\n\r\nGET").unwrap();
    // A second connection in the same queue that was answered: the first is being served.
    daemon.get("app", "/");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended(), 0);
    daemon.logged("drain timed out");
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut daemon = Daemon::start(&["--drain-timeout", "1h"], &[]);
    daemon.ready();
    let mut stream = TcpStream::connect(daemon.addr("app")).unwrap();
    write!(stream, "GET /slow/60000 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    daemon.get("app", "/");
    daemon.signal(Signal::TERM);
    daemon.logged("draining");
    daemon.signal(Signal::INT);
    assert_eq!(daemon.ended(), 1);
    daemon.logged("second signal: ending at once");
}

fn received(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn systemd_is_told_of_every_turn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || received(&socket);
    let watchdog = Path::new("20000");
    let mut daemon = Daemon::start(&[], &[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", watchdog)]);
    assert_eq!(next(), "READY=1");
    assert_eq!(next(), "WATCHDOG=1");
    daemon.signal(Signal::HUP);
    let other = || std::iter::repeat_with(next).find(|state| state != "WATCHDOG=1").unwrap();
    let reloading = other();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(other(), "READY=1");
    daemon.signal(Signal::TERM);
    assert_eq!(other(), "STOPPING=1");
    assert_eq!(daemon.ended(), 0);
}

#[test]
fn the_end_comes_before_reloads_that_wait_and_the_watchdog_is_fed_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || received(&socket);
    let environment = [("NOTIFY_SOCKET", path.as_path()), ("WATCHDOG_USEC", Path::new("200000"))];
    let mut daemon = Daemon::start(&["--reload-pause", "1s"], &environment);
    let reloading = || while !next().starts_with("RELOADING=1") {};
    let signal_often = || {
        for _ in 0..50 {
            daemon.signal(Signal::HUP);
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    daemon.ready();
    daemon.signal(Signal::HUP);
    reloading();
    signal_often();
    let fed = std::iter::repeat_with(next).take_while(|state| state != "READY=1").count();
    assert!(fed >= 3, "{fed}");
    reloading();
    signal_often();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended(), 0);
    assert_eq!(daemon.log().matches("\"reloaded\"").count(), 2, "100 signals were two reloads");
}

#[test]
fn healthcheck_goes_through_tls_to_the_configured_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let made = || rcgen::generate_simple_self_signed(["example.org".to_owned()]).unwrap();
    let (ours, other) = (made(), made());
    let (cert, key) = (write("cert", ours.cert.pem()), write("key", ours.signing_key.serialize_pem()));
    let daemon = Daemon::start(&["--tls-cert", &cert, "--tls-key", &key], &[]);
    let api = daemon.addr("api").to_string();
    eventually("ready", || {
        (told(&call(&["healthcheck", "--api", &api, "--tls-cert", &cert])).0 == 0).then_some(())
    });
    let wrong = write("wrong", other.cert.pem());
    let (code, _, error) = told(&call(&["healthcheck", "--api", &api, "--tls-cert", &wrong]));
    assert!(code == 1 && error.contains("another certificate"), "{error}");
}

#[test]
fn running_out_of_files_is_survived() {
    // 24 descriptors: enough to start, not enough for twenty clients.
    let script = format!("ulimit -n 24; exec {PROGRAM} --log-format json");
    let mut command = Command::new("sh");
    let mut daemon = Daemon::spawn(command.args(["-c", &script]));
    daemon.ready();
    let clients: Vec<_> = (0..20).map(|_| TcpStream::connect(daemon.addr("app")).unwrap()).collect();
    daemon.logged("cannot accept connections");
    drop(clients);
    eventually("an answer", || daemon.get("app", "/").ends_with("hello").then_some(()));
    let errors = daemon.log().matches("cannot accept connections").count();
    assert!(errors < 20, "{errors} times");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended(), 0);
}
