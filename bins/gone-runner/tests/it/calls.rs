//! The command line: what is refused, and what is printed.

use testkit::TempDir;

use crate::harness::{Setup, call, done, fails, folder_lock, holds};

#[tokio::test]
async fn wrong_calls_are_refused_in_a_sentence() {
    for (args, part) in [
        (&["run"][..], "--id: is needed"),
        (&["run", "--id", "x"], "command: is needed: write what to run behind `--`"),
        (&["send", "--id", "x"], "there is no message"),
        (&["send", "--id", "x", "--each-line", "word"], "--each-line sends standard input"),
        (&["status"], "--id: is needed"),
        (&["run", "--id", "x", "--lock", "redis://u:secret@h", "--", "y"], "has a password in it"),
        (&["run", "--id", "x", "--lock", "frob://h", "--", "y"], "no lock of the kind"),
        (&["run", "--id", "x", "--check-url", "https://h/", "--", "y"], "not an http:// URL"),
        (&["run", "--id", "x", "--listen", "127.0.0.1:1", "--", "y"], "write tcp://HOST:PORT"),
        (&["run", "--id", "x", "--stdin", "xml", "--", "y"], "none of lines, frames, json"),
        (&[], "one of the subcommands run, send, status, keygen is needed"),
    ] {
        let said = fails(2, args, "").await;
        assert!(said.contains(part), "{args:?}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

#[tokio::test]
async fn what_cannot_be_safe_is_bad_configuration() {
    for (flags, part) in [
        (&["--grace", "30s"][..], "grace 30s leaves nothing"),
        (&["--extend-every", "25s"], "extend-every 25s is too long"),
        (&["--expiry", "100ms"], "expiry 100ms is not between"),
        (&["--listen", "tcp://0.0.0.0:6381"], "--advertise tcp://HOST:PORT"),
        (&["--listen", "tcp://*:6381"], "--advertise tcp://HOST:PORT"),
        (&["--check-cmd", "true", "--check-url", "http://h/"], "not both"),
        (&["--compat", "go-one", "--lock", "file:/tmp/x"], "--lock has to be redis://"),
    ] {
        for last in [&["--check-config", "--", "true"][..], &["--", "true"]] {
            let args = [&["run", "--id", "x"], flags, last].concat();
            let said = fails(78, &args, "").await;
            assert!(said.contains(part), "{args:?}: {said}");
        }
    }
}

#[tokio::test]
async fn check_config_prints_the_arithmetic() {
    let table = done(&["run", "--id", "x", "--check-config", "--", "true"], "").await;
    for line in [
        "renewal                      10.000s",
        "deadline                     29.650s",
        "configuration: good",
    ] {
        assert!(table.contains(line), "{line:?} is missing in\n{table}");
    }
    let dir = TempDir::new();
    let file = dir.write("r.toml", "id = 'x'\nexpiry = '10s'\ngrace = '1s'\ncommand = ['true']\n");
    let table = done(&["run", "--config", file.to_str().unwrap(), "--check-config"], "").await;
    assert!(table.contains("SIGTERM after                 8.850s"), "{table}");
    let printed =
        done(&["run", "--id", "x", "--expiry", "12s", "--print-config", "--", "echo", "a b"], "").await;
    assert!(printed.contains("expiry = \"12s\""), "{printed}");
    assert!(printed.contains("\"echo\"") && printed.contains("\"a b\""), "{printed}");
    for flag in ["-t", "--check-config", "--test"] {
        let said = fails(78, &["run", "--id", "x", flag], "").await;
        assert!(said.contains("command: is needed: write what to run behind `--`"), "{said}");
    }
}

#[tokio::test]
async fn the_file_can_hold_the_command() {
    let dir = TempDir::new();
    let text = "id = 'x'\non-exit = 'exit'\ncommand = ['sh', '-c', 'exit 9']\n";
    let file = dir.write("r.toml", text);
    let lock = folder_lock(&dir.join("lock"));
    fails(9, &["run", "--config", file.to_str().unwrap(), "--lock", &lock], "").await;
}

#[tokio::test]
async fn status_shows_the_holder() {
    let dir = TempDir::new();
    let lock = folder_lock(&dir);
    let mut runner = Setup::in_folder(&dir).shell("exec sleep 100").start("runner");
    holds(&mut runner).await;
    let args = ["status", "--id", "job", "--lock", &lock, "--json"];
    let held: serde_json::Value = serde_json::from_str(&done(&args, "").await).unwrap();
    let own = crate::harness::status(&mut runner).await;
    assert_eq!((&held["id"], &held["state"]), (&"job".into(), &"held".into()));
    assert_eq!((&held["holder"], &held["token"]), (&own["address"], &own["token"]));
    assert!(held["expires_in_ms"].as_u64().unwrap() <= 1000);
    runner.stop().await;
    let free: serde_json::Value = serde_json::from_str(&done(&args, "").await).unwrap();
    assert_eq!((&free["state"], &free["holder"]), (&"free".into(), &serde_json::Value::Null));
    let text = done(&args[..5], "").await;
    assert!(text.starts_with("job: free"), "{text}");
}

#[tokio::test]
async fn a_lock_that_cannot_be_reached_is_told() {
    let args = ["status", "--id", "x", "--lock", "redis://127.0.0.1:1", "--timeout", "1s"];
    let said = fails(1, &args, "").await;
    assert!(said.contains("the lock cannot be asked: redis://127.0.0.1:1"), "{said}");
}

#[tokio::test]
async fn key_files_are_made_and_guarded() {
    let dir = TempDir::new();
    let text = done(&["keygen"], "").await;
    let path = dir.write("gone.key", &text);
    let check = ["run", "--id", "x", "--key-file", path.to_str().unwrap()];
    let end = ["--check-config", "--", "true"];
    let with_compat = [&check[..], &["--compat", "go-one"], &end].concat();
    let check = [&check[..], &end].concat();
    let set_mode = |mode| {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&path, permissions).unwrap();
    };
    set_mode(0o644);
    fails(78, &check, "").await;
    set_mode(0o600);
    done(&check, "").await;
    let said = fails(78, &with_compat, "").await;
    assert!(said.contains("cannot encrypt"), "{said}");
}

#[tokio::test]
async fn the_api_can_ask_for_a_token_and_healthcheck_finds_it() {
    let dir = TempDir::new();
    let token = dir.write("token", "0123456789abcdef");
    let port = testkit::free_port();
    let api = format!("127.0.0.1:{port}");
    let flags = ["--api", api.as_str(), "--api-token-file", token.to_str().unwrap()];
    let mut runner =
        Setup::in_folder(&dir.join("lock")).flags(&flags).shell("exec sleep 100").start("runner");
    let addr = runner.listening("api").await;
    assert_eq!(testkit::http::get(addr, "/status").await.status, 401);
    assert_eq!(testkit::http::get(addr, "/livez").await.status, 200);
    let asked = testkit::http::ask("GET", "/status").header("Authorization", "Bearer 0123456789abcdef");
    assert_eq!(asked.of(addr).await.status, 200);
    done(&["healthcheck", "--api", &api], "").await;
    runner.stop().await;
    let down = call(&["healthcheck", "--api", &api], "").await;
    assert_eq!(down.status.code(), Some(1));
}

#[tokio::test]
async fn the_unit_runs_the_runner_and_gives_it_time_to_end() {
    let dir = TempDir::new();
    let root = dir.to_str().unwrap();
    let file = dir.write("r.toml", "id = 'x'\nexpiry = '10m'\ngrace = '5m'\ncommand = ['true']\n");
    let config = file.to_str().unwrap();
    let unit =
        |dir: &TempDir| std::fs::read_to_string(dir.join("etc/systemd/system/gone-runner.service")).unwrap();
    let install = ["service", "install", "--root", root, "--config", config, "--user", "www"];
    done(&install, "").await;
    let text = unit(&dir);
    // The grace of the file, ten seconds of drain, and the margin.
    let start = format!("ExecStart={} run --config {config}", env!("CARGO_BIN_EXE_gone-runner"));
    for line in [start.as_str(), "KillMode=mixed", "User=www", "TimeoutStopSec=340s"] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    done(&[&install[..], &["--grace", "8m", "--drain-timeout", "1m"]].concat(), "").await;
    let text = unit(&dir);
    assert!(text.contains(" --grace=8m") && text.contains("\nTimeoutStopSec=570s\n"), "{text}");
    done(&["service", "install", "--root", root, "--id", "x"], "").await;
    assert!(unit(&dir).contains("\nTimeoutStopSec=90s\n"), "{}", unit(&dir));
}

#[tokio::test]
async fn the_api_speaks_tls_asks_for_certificates_and_rereads_its_own() {
    let dir = TempDir::new();
    let pki = testkit::Pki::new(&dir);
    let [certificate, key, authority] =
        [&pki.certificate, &pki.key, &pki.authority].map(|path| path.to_str().unwrap());
    let flags = ["--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", authority];
    let setup = Setup::in_folder(&dir.join("lock")).flags(&flags).shell("exec sleep 100");
    let mut runner = setup.start("runner");
    let addr = runner.listening("api").await;
    let ask = |path| testkit::http::ask("GET", path);
    let (live, first) = pki.ask(addr, ask("/livez"), false).await.unwrap();
    assert_eq!(live.status, 200, "the admin routes stay open");
    assert_eq!(pki.ask(addr, ask("/status"), false).await.unwrap().0.status, 403);
    let (status, _) = pki.ask(addr, ask("/status"), true).await.unwrap();
    assert_eq!((status.status, &status.json()["id"]), (200, &"job".into()));
    assert!(ask("/livez").try_of(addr).await.is_err(), "plain text to a port with TLS");
    pki.renew();
    runner.hup();
    runner.logs("reloaded").await;
    let (_, second) = pki.ask(addr, ask("/livez"), false).await.unwrap();
    assert_ne!(first, second, "another certificate is shown");
}
