//! Starting, changing and ending: files and flags, reloads, restarts, the drain.

mod drain;
mod reload;
mod state;

use std::path::Path;
use std::process::{Command, Output};

use testkit::http::ask;
use testkit::{Program, RecorderNode, TempDir, eventually};

use crate::harness::{Flags, Proxy, SOON};

/// Calls the program and waits for its end, which a call like this has to come to by itself.
fn call(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spawn-proxy")).args(args).output().expect("the program can be run")
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// Starts with a file and no flags but ports.
async fn start_with(file: &Path, dir: TempDir) -> Proxy {
    let program = Program::new(env!("CARGO_BIN_EXE_spawn-proxy"))
        .args(["--log-format=json", "--port=0", "--api-port=0", "--config", text(file), "--data-dir"])
        .arg(dir.join("data"));
    Proxy::of(program.start(), dir).await
}

#[tokio::test]
async fn the_originals_file_starts_unchanged() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/spawn.conf");
    let checked = call(&["--check-config", "--config", text(&file)]);
    assert_eq!(code(&checked), Some(0), "{}", stderr(&checked));
    assert!(stderr(&checked).contains("spawn.conf:43: unknown key 'testMode'"), "{}", stderr(&checked));
    let printed = stdout(&call(&["--print-config", "--config", text(&file)]));
    for line in [
        "query-mode.round-robin = true",
        "health-check.seconds = \"5s\"",
        "health-check.regexp = \"^(ok|fine)\"",
    ] {
        assert!(printed.contains(line), "{line} in {printed}");
    }
    let mut proxy = start_with(&file, TempDir::new()).await;
    proxy.process.logs("testMode").await;
    let nodes = proxy.results("/nodes").await;
    let seen: Vec<_> = nodes
        .iter()
        .map(|node| {
            (
                node["host"].as_str().unwrap(),
                node["priority"].as_i64(),
                node["active"] == true,
                node["maintenance"] == true,
            )
        })
        .collect();
    let expected = [
        ("127.0.0.1", Some(1), true, false),
        ("node-3.example.invalid", Some(0), false, false),
        ("127.0.0.2", Some(-2), true, true),
    ];
    assert_eq!(seen, expected);
    // The API is open to every address there: it shows, and changes nothing without a token.
    let change = ask("PUT", "/nodes/127.0.0.1/9")
        .header("Content-Type", "application/json")
        .body("{}")
        .of(proxy.api)
        .await;
    assert_eq!(change.status, 403, "{}", change.text());
    assert!(change.text().contains("token"), "{}", change.text());
}

#[test]
fn every_mistake_of_a_file_is_told_at_once_with_its_line() {
    let dir = TempDir::new();
    let lines = [
        "timeuot = \"3s\"",
        "max-body = \"many\"",
        "workers = 0",
        "[health-check]",
        "seconds = 0",
        "regexp = \"(\"",
        "[updates]",
        "orderin = \"global\"",
        "ack = \"some\"",
        "[[nodes]]",
        "host = \"h\"",
        "[[nodes]]",
        "host = \"h\"",
        "port = 99999",
        "weight = 3",
    ];
    let file = dir.write("bad.toml", lines.join("\n"));
    for flag in ["--check-config", "-t", "--test"] {
        let output = call(&[flag, "--config", text(&file)]);
        let told = stderr(&output);
        assert_eq!((code(&output), &*stdout(&output)), (Some(78), ""), "{flag}: {told}");
        for wanted in [
            "bad.toml:1: unknown key 'timeuot': did you mean 'timeout'?",
            "bad.toml:2: ",
            "bad.toml:3: ",
            "bad.toml:5: ",
            "bad.toml:6: ",
            "bad.toml:8: unknown key 'updates.orderin': did you mean 'updates.ordering'?",
            "bad.toml:9: ",
            "bad.toml:10: a node needs a port",
            "bad.toml:14: ",
            "bad.toml:15: unknown key 'weight'",
        ] {
            assert!(told.contains(wanted), "{wanted} in {told}");
        }
    }
    let started =
        call(&["--config", text(&file), "--port=0", "--api-port=0", "--data-dir", text(&dir.join("data"))]);
    assert_eq!(code(&started), Some(78));
    assert!(!dir.join("data").exists(), "nothing is made before the configuration is good");
    let absent = call(&["-t", "--config", text(&dir.join("absent.toml"))]);
    assert!(code(&absent) == Some(78) && stderr(&absent).contains("absent.toml"), "{}", stderr(&absent));
    let json = dir.write("bad.conf", "{\"nodes\": [],\n\"port\": }");
    assert!(stderr(&call(&["-t", "--config", text(&json)])).contains("bad.conf:2: "));
}

#[test]
fn a_good_file_is_checked_printed_and_read_again() {
    let dir = TempDir::new();
    let file = dir.write(
        "good.toml",
        "timeout = \"3s\"\nnodes = [\"h:1,priority=2\"]\n[updates]\nordering = \"global\"\n",
    );
    let checked = call(&["-t", "--config", text(&file)]);
    assert_eq!((code(&checked), &*stderr(&checked)), (Some(0), ""));
    assert!(stdout(&checked).contains("good"), "{}", stdout(&checked));
    let printed = call(&["--print-config", "--config", text(&file), "--max-body=5MiB"]);
    assert_eq!((code(&printed), &*stderr(&printed)), (Some(0), ""));
    for line in [
        "timeout = \"3s\"",
        "updates.ordering = \"global\"",
        "max-body = \"5MiB\"",
        "port = 7117",
        "api.port = 7118",
        "h:1,priority=2",
    ] {
        assert!(stdout(&printed).contains(line), "{line} in {}", stdout(&printed));
    }
    let again = dir.write("again.toml", stdout(&printed));
    let checked = call(&["-t", "--config", text(&again)]);
    assert_eq!(code(&checked), Some(0), "{}", stderr(&checked));
}

#[test]
fn wrong_calls_end_with_2_and_say_why() {
    for (args, said) in [
        (&["--bogus"][..], "--bogus"),
        (&["--port=x"], "--port"),
        (&["--port=70000"], "--port"),
        (&["--check-sec=0"], "--check-sec"),
        (&["--check-sec=-1"], "--check-sec"),
        (&["--check-sec=soon"], "--check-sec"),
        (&["--check-regexp=("], "--check-regexp"),
        (&["--check-url=no-slash"], "--check-url"),
        (&["--node=h"], "--node"),
        (&["--node=h:1,prio=2"], "prio=2"),
        (&["--node=h:1", "--node=h:1"], "h:1"),
        (&["--ack=some"], "--ack"),
        (&["--max-body=lots"], "--max-body"),
        (&["--host=127.0.0.1", "--port=7117", "--api-port=7117"], "7117"),
        (&["serve"], "serve"),
        (&["completions", "ed"], "ed"),
    ] {
        let output = call(args);
        let told = stderr(&output);
        assert_eq!((code(&output), &*stdout(&output)), (Some(2), ""), "{args:?}: {told}");
        assert!(told.contains(said) && !told.contains("panicked"), "{args:?}: {told}");
    }
}

/// A10 of the original: `--check-sec=10` was an error, and `1s` taken for 31 years.
#[tokio::test]
async fn check_seconds_are_seconds_with_or_without_the_unit() {
    for (given, shown) in [("10", "10s"), ("1s", "1s"), ("1m30s", "1m30s")] {
        let printed = stdout(&call(&[&format!("--check-sec={given}"), "--print-config"]));
        assert!(printed.contains(&format!("health-check.seconds = \"{shown}\"")), "{given}: {printed}");
    }
    for given in ["1", "1s"] {
        let node = RecorderNode::start("n");
        let _proxy = Flags::new().node(node.addr()).and(&["--check-sec", given]).start().await;
        eventually("three checks", SOON, async || (node.reads() >= 3).then_some(())).await;
    }
}

#[test]
fn helpers_of_the_shell_and_of_the_service_manager() {
    let help = stdout(&call(&["--help"]));
    for word in
        ["--node", "--check-sec", "[default: 7117]", "[default: 7118]", "SPAWN_PROXY_PORT", "Examples:"]
    {
        assert!(help.contains(word), "{word} in {help}");
    }
    assert!(stdout(&call(&["--version"])).starts_with("spawn-proxy "));
    for (args, wanted) in [
        (&["completions", "bash"][..], "--round-robin"),
        (&["completions", "zsh"], "round-robin"),
        (&["completions", "fish"], "round-robin"),
        (&["man"], ".TH"),
    ] {
        let output = call(args);
        assert!(
            code(&output) == Some(0) && stdout(&output).contains(wanted),
            "{args:?}: {}",
            stderr(&output)
        );
    }
    // With the bare words of the original's control program too.
    for words in [&["service"][..], &[]] {
        let dir = TempDir::new();
        let with = |verb| call(&[words, &[verb, "--root", text(&dir)]].concat());
        let installed = with("install");
        assert_eq!(code(&installed), Some(0), "{}", stderr(&installed));
        let unit = std::fs::read_to_string(dir.join("etc/systemd/system/spawn-proxy.service")).unwrap();
        for line in ["[Service]", "Type=notify", "ExecStart=", "NoNewPrivileges=", "LimitNOFILE="] {
            assert!(unit.contains(line), "{line} in {unit}");
        }
        assert_eq!(code(&with("status")), Some(0));
        assert_eq!(code(&with("remove")), Some(0));
        assert_eq!(code(&with("remove")), Some(1));
    }
}

#[tokio::test]
async fn healthcheck_finds_the_proxy_and_says_how_it_is() {
    let node = RecorderNode::start("n");
    let mut proxy = Flags::new().node(node.addr()).start().await;
    let port = proxy.api.port().to_string();
    let good = call(&["healthcheck", "--api-port", &port]);
    assert_eq!((code(&good), &*stdout(&good)), (Some(0), "ready\n"), "{}", stderr(&good));
    let file = proxy.dir.write("api.toml", format!("api.port = {port}\n"));
    assert_eq!(code(&call(&["healthcheck", "--config", text(&file)])), Some(0));
    let wrong = call(&["healthcheck", "--api-port", &proxy.addr.port().to_string()]);
    assert_eq!(code(&wrong), Some(1), "{}", stdout(&wrong));
    proxy.process.stop().await;
    let gone = call(&["healthcheck", "--api-port", &port]);
    assert!(code(&gone) == Some(1) && stderr(&gone).contains(&port), "{}", stderr(&gone));
}

#[tokio::test]
async fn the_log_goes_to_stderr_and_nothing_to_stdout() {
    let node = RecorderNode::start("n");
    for format in ["json", "text"] {
        let mut proxy = Flags::new()
            .node(node.addr())
            .and(&["--log-format", format, "--log-level", "debug"])
            .start()
            .await;
        assert_eq!((proxy.get("/x").await.status, proxy.put("/x", "1").await.status), (200, 200));
        assert!(proxy.process.stop().await.success());
        assert_eq!(proxy.process.stdout(), [] as [String; 0]);
        let log = proxy.process.log();
        let json = log.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
        assert!(log.len() > 3 && json == (format == "json"), "{log:?}");
    }
}
