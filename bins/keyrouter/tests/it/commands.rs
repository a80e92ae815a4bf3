//! The command line: lookups and differences without a daemon, checks, usage.

use std::path::Path;
use std::process::{Command, Output};

use testkit::TempDir;

use crate::harness::{Router, nodes, service};

fn keyrouter(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keyrouter")).args(arguments).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn lookup_prints_what_the_daemon_answers() {
    let router = Router::start(&service("s", &nodes("n", 50)), &[]).await;
    for key in ["k", "é", "", "a b"] {
        let found = keyrouter(&["lookup", "--services", path(&router.file), "s", key, "--max", "3"]);
        assert!(found.status.success(), "{}", text(&found.stderr));
        let encoded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert_eq!(text(&found.stdout).lines().collect::<Vec<_>>(), router.nodes("s", &encoded, 3).await);
    }
    let file = path(&router.file);
    let all = keyrouter(&["lookup", "--services", file, "s", "k", "--min", "3"]);
    assert_eq!(text(&all.stdout).lines().count(), 3, "max follows min");
    for (arguments, code, named) in [
        (&["lookup", "--services", file, "t", "k"][..], 1, "t"),
        (&["lookup", "--services", file, "s", "k", "--min", "51", "--max", "51"], 1, "50"),
        (&["lookup", "--services", "/none/such", "s", "k"], 78, "/none/such"),
        (&["lookup", "--services", file, "s"], 2, "key"),
        (&["lookup", "--services", file, "s", "k", "--max", "x"], 2, "--max"),
    ] {
        let failed = keyrouter(arguments);
        assert_eq!(failed.status.code(), Some(code), "{arguments:?}");
        assert!(text(&failed.stderr).contains(named), "{arguments:?}: {}", text(&failed.stderr));
    }
}

#[test]
fn diff_tells_what_an_edit_moves() {
    let dir = TempDir::new();
    let old = dir.write("old.toml", [service("s", &nodes("n", 10)), service("gone", &["a:1"])].concat());
    let new = dir.write("new.toml", [service("s", &nodes("n", 11)), service("new", &["a:1"])].concat());
    let printed = keyrouter(&["diff", path(&old), path(&new), "--keys", "20000"]);
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    let table = text(&printed.stdout);
    for named in ["s", "gone", "new", "n-10:80"] {
        assert!(table.contains(named), "{named} in {table}");
    }
    let json = keyrouter(&["diff", path(&old), path(&new), "--keys", "20000", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let services = found["services"].as_array().unwrap();
    let own = services.iter().find(|service| service["name"] == "s").unwrap();
    let moved = own["moved"].as_f64().unwrap();
    assert!((0.07..0.12).contains(&moved), "one of eleven: {moved}");
    let same = keyrouter(&["diff", path(&old), path(&old), "--json"]);
    let same: serde_json::Value = serde_json::from_slice(&same.stdout).unwrap();
    assert!(same["services"].as_array().unwrap().iter().all(|service| service["moved"] == 0.0), "{same}");
    dir.write("new.toml", "broken");
    let failed = keyrouter(&["diff", path(&old), path(&new)]);
    assert_eq!(failed.status.code(), Some(78));
    assert!(text(&failed.stderr).contains("new.toml:1"), "{}", text(&failed.stderr));
}

#[test]
fn the_check_covers_the_file_of_services() {
    let dir = TempDir::new();
    let file = dir.write("services.toml", service("s", &["a:1"]));
    let check = |flag| keyrouter(&["--services", path(&file), flag]);
    for flag in ["--check-config", "-t", "--test"] {
        assert!(check(flag).status.success(), "{flag}");
    }
    let bad = "Algoritm = 'ring'\n[[Services]]\nName = 's'\nNodes = 3\n[[Services]]\nName = 's'\n";
    dir.write("services.toml", bad);
    let failed = check("-t");
    assert_eq!(failed.status.code(), Some(78));
    let told = text(&failed.stderr);
    for line in ["services.toml:1: ", "services.toml:4: ", "services.toml:5: "] {
        assert!(told.contains(line), "{line} in {told}");
    }
    assert!(told.contains("Algorithm"), "a hint in {told}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(check("-t").status.code(), Some(78));
    // All that is wrong is told at once, and what is merely odd as well.
    let both = keyrouter(&["--services", path(&file), "--max-batch", "0", "--max-buffer", "1KiB", "-t"]);
    let told = text(&both.stderr);
    assert!(["max-batch", "max-buffer", "services.toml"].iter().all(|named| told.contains(named)), "{told}");
    dir.write("services.toml", service("s", &["a:1", "a:1"]));
    let odd = check("-t");
    assert!(odd.status.success() && text(&odd.stderr).contains("services.toml:3"), "{}", text(&odd.stderr));
}

#[test]
fn subcommands_need_neither_token_nor_key() {
    let dir = TempDir::new();
    let file = dir.write("services.toml", service("s", &["a:1"]));
    let config = dir.write("keyrouter.toml", "api.token-file = '/none/such'\n");
    let call = ["lookup", "--config", path(&config), "--services", path(&file), "s", "k"];
    assert_eq!(text(&keyrouter(&call).stdout), "a:1\n");
    let start =
        keyrouter(&["--config", path(&config), "--services", path(&file), "--address", "127.0.0.1:0"]);
    assert_eq!(start.status.code(), Some(78));
    assert!(text(&start.stderr).contains("/none/such"), "{}", text(&start.stderr));
}

#[test]
fn wrong_calls_are_usage_errors() {
    for arguments in [&["--max-batch", "0"][..], &["--algorithm", "md5"], &["--nope"], &["lookup"]] {
        let failed = keyrouter(arguments);
        assert_eq!(failed.status.code(), Some(2), "{arguments:?}: {}", text(&failed.stderr));
        assert!(failed.stdout.is_empty());
    }
    let dir = TempDir::new();
    let config = dir.write("keyrouter.toml", "max-batch = 0\nwach = true\n");
    let failed = keyrouter(&["--config", path(&config), "-t"]);
    assert_eq!(failed.status.code(), Some(78));
    let told = text(&failed.stderr);
    assert!(told.contains("keyrouter.toml:1") && told.contains("watch"), "{told}");
}
