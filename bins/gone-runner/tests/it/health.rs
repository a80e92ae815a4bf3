//! A child that is not well loses the lease.

use testkit::{TempDir, eventually};

use crate::harness::{SOON, Setup, holds, status};

#[tokio::test]
async fn a_check_command_that_fails_in_a_row_gives_the_lease_away() {
    let dir = TempDir::new();
    let sick = dir.join("sick");
    let check = format!("test ! -e {}", sick.display());
    let setup = Setup::in_folder(&dir.join("lock")).shell("exec sleep 100");
    let flags = ["--check-cmd", &check, "--check-interval", "50ms", "--check-failures", "2"];
    let mut checked = setup.clone().flags(&flags).start("checked");
    holds(&mut checked).await;
    let mut other = setup.start("other");
    other.logs("listening").await;
    std::fs::write(&sick, "").unwrap();
    holds(&mut other).await;
    let metrics = testkit::http::get(checked.listening("api").await, "/metrics").await.text();
    assert!(metrics.contains("gone_runner_child_unwell_total 1"), "{metrics}");
}

#[tokio::test]
async fn a_check_command_that_hangs_has_failed_and_leaves_nothing() {
    let dir = TempDir::new();
    let setup = Setup::in_folder(&dir).shell("exec sleep 100");
    let flags = ["--check-cmd", "sleep 987654", "--check-interval", "100ms", "--check-failures", "1"];
    let mut runner = setup.flags(&flags).start("runner");
    runner.logs("did not end within 100ms").await;
    runner.logs("the lease is given up").await;
    runner.stop().await;
    let left = std::process::Command::new("pgrep").args(["-f", "sleep 98765[4]"]).output().unwrap();
    assert_eq!(String::from_utf8(left.stdout).unwrap(), "");
}

#[tokio::test]
async fn a_url_has_to_answer_2xx() {
    let dir = TempDir::new();
    // Another runner's readiness will do as a server: 200 here, 404 there.
    let mut server = Setup::in_folder(&dir.join("server")).shell("exec sleep 100").start("server");
    let addr = server.listening("api").await;
    let setup =
        Setup::in_folder(&dir.join("lock")).flags(&["--check-interval", "50ms", "--check-failures", "2"]);
    let url = format!("http://{addr}/livez");
    let mut well = setup.clone().flags(&["--check-url", &url]).shell("exec sleep 100").start("well");
    let child = holds(&mut well).await;
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    assert_eq!(holds(&mut well).await, child);
    server.kill9();
    well.logs("the lease is given up").await;
    well.stop().await;
    let mut server = Setup::in_folder(&dir.join("server")).shell("exec sleep 100").start("server");
    let url = format!("http://{}/nothing", server.listening("api").await);
    let mut unwell = setup.flags(&["--check-url", &url]).shell("exec sleep 100").start("unwell");
    unwell.logs("answered 404").await;
    eventually("the runner to rest", SOON, async || {
        (status(&mut unwell).await["state"] == "away").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_reload_that_shortens_the_interval_counts_at_once() {
    let dir = TempDir::new();
    let text = |interval| format!("[check]\ncmd = 'false'\ninterval = '{interval}'\nfailures = 1\n");
    let file = dir.write("r.toml", text("1h"));
    let setup = Setup::in_folder(&dir.join("lock")).flags(&["--config", file.to_str().unwrap()]);
    let mut runner = setup.shell("exec sleep 100").start("runner");
    holds(&mut runner).await;
    dir.write("r.toml", text("50ms"));
    runner.hup();
    runner.logs("the child is not well").await;
}
