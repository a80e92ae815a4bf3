//! What becomes of a child that ends, and what reaches it.

use rustix::process::Signal;
use testkit::{TempDir, eventually};

use crate::harness::{SOON, Setup, fails, folder_lock, holds, lines, record, status};

#[tokio::test]
async fn the_child_gets_its_environment_and_its_output_passes_through() {
    let dir = TempDir::new();
    let script = "echo $GONE_ID $GONE_EXPIRY_MS $GONE_FENCING_TOKEN; grep THP_enabled /proc/$$/status
                  echo problem >&2; exec sleep 100";
    let mut runner = Setup::in_folder(&dir).shell(script).start("runner");
    holds(&mut runner).await;
    let token = status(&mut runner).await["token"].to_string();
    // The runner switches huge pages off for itself, not for the child.
    let expected = [format!("job 1000 {token}"), "THP_enabled:\t1".to_owned()];
    eventually("the child's output", SOON, async || (runner.stdout() == expected).then_some(())).await;
    runner.logs("problem").await;
}

#[tokio::test]
async fn a_child_that_ends_frees_the_lease_for_another() {
    let (_dir, file) = record();
    let dir = TempDir::new();
    let setup = Setup::in_folder(&dir).env("FILE", &file).shell("echo $PPID >> \"$FILE\"; sleep 0.1");
    let (_first, _second) = (setup.start("first"), setup.start("second"));
    let runs =
        eventually("four runs", SOON, async || Some(lines(&file)).filter(|runs| runs.len() >= 4)).await;
    // Each run has a guard of its own; that of the first two are different runners', as the first one rests.
    assert_ne!(runs[0], runs[1]);
}

#[tokio::test]
async fn a_restart_keeps_the_lease_and_its_token() {
    let (_dir, file) = record();
    let dir = TempDir::new();
    let setup = Setup::in_folder(&dir).flags(&["--on-exit", "restart"]).env("FILE", &file);
    let setup = setup.shell("echo $GONE_FENCING_TOKEN >> \"$FILE\"; sleep 0.1");
    let mut first = setup.start("first");
    let second = setup.start("second");
    let runs =
        eventually("three runs", SOON, async || Some(lines(&file)).filter(|runs| runs.len() >= 3)).await;
    assert!(runs.iter().all(|token| *token == runs[0]), "{runs:?}");
    let holders = [&mut first].map(|runner| runner.log().join("\n").matches("the child runs").count());
    let standby = second.log().join("\n").matches("the child runs").count();
    assert!(holders[0] == 0 || standby == 0, "one runner ran them all: {holders:?} {standby}");
}

#[tokio::test]
async fn the_childs_code_can_be_the_runners() {
    let dir = TempDir::new();
    let lock = folder_lock(&dir);
    for (script, code) in [("exit 7", 7), ("kill -9 $$", 137)] {
        let call = ["run", "--id", "job", "--lock", &lock, "--on-exit", "exit", "--", "sh", "-c", script];
        let said = fails(code, &call, "").await;
        assert!(said.contains(&format!("the child ended with {code}")), "{said}");
    }
    let missing = ["run", "--id", "job", "--lock", &lock, "--on-exit", "exit", "--", "/nonexistent/job"];
    let said = fails(127, &missing, "").await;
    assert!(said.contains("command not found"), "{said}");
    let good = ["run", "--id", "job", "--lock", &lock, "--on-exit", "exit", "--", "true"];
    crate::harness::done(&good, "").await;
}

#[tokio::test]
async fn a_host_without_the_command_leaves_the_lease_to_one_that_has_it() {
    let dir = TempDir::new();
    let setup = Setup::in_folder(&dir).flags(&["--on-exit", "restart"]);
    let mut broken = setup.clone().shell("").program("broken").arg("x").start();
    broken.stop().await;
    let call =
        ["run", "--id", "job", "--lock", &folder_lock(&dir), "--expiry", "1s", "--", "/nonexistent/job"];
    let mut broken = testkit::Program::new(env!("CARGO_BIN_EXE_gone-runner")).args(call).start();
    broken.logs("command not found").await;
    let mut good = setup.shell("exec sleep 100").start("good");
    holds(&mut good).await;
}

#[tokio::test]
async fn signals_are_passed_on_and_hup_reloads() {
    let dir = TempDir::new();
    let file = dir.write("runner.toml", "on-exit = 'release'\n");
    let script = "for s in USR1 USR2 WINCH QUIT HUP; do trap \"echo got $s\" $s; done; echo ready
                  while :; do sleep 0.02; done";
    let setup = Setup::in_folder(&dir.join("lock")).flags(&["--config", file.to_str().unwrap()]);
    let mut runner = setup.shell(script).start("runner");
    eventually("the traps", SOON, async || runner.stdout().contains(&"ready".to_owned()).then_some(())).await;
    for (signal, name) in
        [(Signal::USR1, "USR1"), (Signal::USR2, "USR2"), (Signal::WINCH, "WINCH"), (Signal::QUIT, "QUIT")]
    {
        runner.signal(signal);
        let line = format!("got {name}");
        eventually(&line, SOON, async || runner.stdout().contains(&line).then_some(())).await;
    }
    dir.write("runner.toml", "on-exit = 'exit'\n");
    runner.hup();
    runner.logs("reloaded").await;
    // The new rule counts for the child that runs.
    let child = holds(&mut runner).await;
    rustix::process::kill_process(rustix::process::Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
    assert_eq!(runner.ended(SOON).await.code(), Some(137));
    assert!(!runner.stdout().contains(&"got HUP".to_owned()));
}

#[tokio::test]
async fn a_second_signal_ends_all_at_once() {
    let dir = TempDir::new();
    let setup = Setup::in_folder(&dir).flags(&["--expiry", "60s", "--grace", "30s"]);
    let mut runner = setup.shell("trap '' TERM; while :; do sleep 0.1; done").start("runner");
    let child = holds(&mut runner).await;
    runner.signal(Signal::TERM);
    runner.logs("draining").await;
    runner.signal(Signal::TERM);
    assert_eq!(runner.ended(SOON).await.code(), Some(1));
    eventually("the child to be gone", SOON, async || {
        (!std::path::Path::new(&format!("/proc/{child}")).exists()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn drained_is_said_once_the_child_is_dead_and_the_lease_free() {
    let dir = TempDir::new();
    // Longer than the drain itself.
    let flags = ["--expiry", "60s", "--grace", "10s", "--drain-timeout", "100ms"];
    let script = "trap 'sleep 1; exit 0' TERM; echo ready; while :; do sleep 0.02; done";
    let mut runner = Setup::in_folder(&dir).flags(&flags).shell(script).start("runner");
    eventually("the trap", SOON, async || runner.stdout().contains(&"ready".to_owned()).then_some(())).await;
    assert!(runner.stop().await.success());
    let log = runner.log();
    let at = |text: &str| log.iter().position(|line| line.contains(text));
    let (draining, ended, drained) = (at("\"draining\""), at("the child has ended"), at("\"drained\""));
    assert!(draining.is_some() && draining < ended && ended < drained, "{log:?}");
    assert_eq!(at("drain timed out"), None, "{log:?}");
}
