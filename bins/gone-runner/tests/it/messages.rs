//! Messages from `send` to the child.

use std::time::Duration;

use testkit::{TempDir, eventually};

use crate::harness::{SOON, Setup, done, fails, folder_lock, holds, lines, record};

/// The arguments of `send` to the runner over a lock in this folder.
fn send<'a>(lock: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["send", "--id", "job", "--lock", lock], rest].concat()
}

async fn written(file: &std::path::Path, expected: &str) {
    eventually(format!("{expected:?} at the child"), SOON, async || {
        (std::fs::read(file).unwrap_or_default() == expected.as_bytes()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_word_and_standard_input_and_its_lines_reach_the_child() {
    let ((dir, file), lock_dir) = (record(), TempDir::new());
    let lock = folder_lock(&lock_dir);
    let setup = Setup::in_folder(&lock_dir).env("OUT", &file).shell("exec cat > \"$OUT\"");
    let mut runner = setup.start("runner");
    holds(&mut runner).await;
    done(&send(&lock, &["one word"]), "").await;
    done(&send(&lock, &["-"]), "all of it\n").await;
    done(&send(&lock, &["--each-line"]), "first\n\nthird").await;
    done(&send(&lock, &[""]), "").await;
    written(&file, "one word\nall of it\nfirst\n\nthird\n\n").await;
    let said = fails(1, &send(&lock, &["-"]), "two\nlines\n").await;
    assert!(said.contains("it has a newline, and the child reads lines"), "{said}");
    let said = fails(1, &send(&lock, &["--max-message", "3B", "four"]), "").await;
    assert!(said.contains("more than the 3 that are allowed"), "{said}");
    let said = fails(1, &send(&lock, &["--max-message", "3B", "--each-line"]), "ab\nabcd\n").await;
    assert!(said.contains("line 2 was not delivered: the message has more than the 3 bytes"), "{said}");
    assert!(said.contains("in all 1 delivered, not delivered 2, nothing sent after line 2"), "{said}");
    drop(dir);
}

#[tokio::test]
async fn frames_and_json_take_any_bytes() {
    let ((dir, file), lock_dir) = (record(), TempDir::new());
    let lock = folder_lock(&lock_dir);
    let setup = Setup::in_folder(&lock_dir).env("OUT", &file).shell("exec cat > \"$OUT\"");
    let mut frames = setup.clone().flags(&["--stdin", "frames"]).start("frames");
    holds(&mut frames).await;
    done(&send(&lock, &["-"]), "two\nlines\n").await;
    written(&file, "\0\0\0\u{9}two\nlines").await;
    frames.stop().await;
    std::fs::remove_file(&file).unwrap();
    let mut json = setup.flags(&["--stdin", "json"]).start("json");
    holds(&mut json).await;
    done(&send(&lock, &["-"]), "two\nlines\n").await;
    let line = eventually("a line", SOON, async || lines(&file).first().cloned()).await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["n"], &line["id"], &line["sequence"]), (&1.into(), &"job".into(), &1.into()));
    assert_eq!((&line["data"], line["sender"].as_str().unwrap().len()), (&"two\nlines".into(), 32));
    drop(dir);
}

#[tokio::test]
async fn nobody_there_is_an_error_and_waiting_rides_it_out() {
    let ((_dir, file), lock_dir) = (record(), TempDir::new());
    let lock = folder_lock(&lock_dir);
    let said = fails(1, &send(&lock, &["early"]), "").await;
    assert!(said.contains("nobody holds job now"), "{said}");
    let said = fails(1, &send(&lock, &["--wait", "--timeout", "300ms", "early"]), "").await;
    assert!(said.contains("did not acknowledge within 300ms"), "{said}");
    let args: Vec<String> =
        send(&lock, &["--wait", "--timeout", "30s", "late"]).iter().map(|arg| (*arg).to_owned()).collect();
    let waiting = tokio::spawn(async move {
        done(&args.iter().map(String::as_str).collect::<Vec<_>>(), "").await;
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let setup = Setup::in_folder(&lock_dir).env("OUT", &file).shell("exec cat > \"$OUT\"");
    let mut runner = setup.start("runner");
    holds(&mut runner).await;
    waiting.await.unwrap();
    written(&file, "late\n").await;
}

#[tokio::test]
async fn a_child_that_acknowledges_itself_is_waited_for() {
    let ((_dir, file), lock_dir) = (record(), TempDir::new());
    let lock = folder_lock(&lock_dir);
    let script = "read -r a; echo \"$a\" > \"$OUT\"; sleep 0.5; echo ack 1 >&3; exec sleep 100";
    let setup = Setup::in_folder(&lock_dir).env("OUT", &file).flags(&["--ack", "child"]).shell(script);
    let mut runner = setup.start("runner");
    holds(&mut runner).await;
    let said = fails(1, &send(&lock, &["--timeout", "200ms", "slow"]), "").await;
    assert!(
        said.contains("it may have been taken all the same") || said.contains("may have been taken"),
        "{said}"
    );
    written(&file, "slow\n").await;
    // The second one is never acknowledged: the child sleeps.
    let said = fails(1, &send(&lock, &["--timeout", "1s", "lost"]), "").await;
    assert!(said.contains("did not acknowledge within 1s"), "{said}");
}

#[tokio::test]
async fn wrong_acknowledgements_are_told_and_count_for_nothing() {
    let lock_dir = TempDir::new();
    let lock = folder_lock(&lock_dir);
    let setup = Setup::in_folder(&lock_dir).flags(&["--ack", "child"]);
    let mut runner = setup.shell("echo ack 7 >&3; echo nonsense >&3; exec sleep 100").start("runner");
    holds(&mut runner).await;
    runner.logs("the child acknowledged its message 7").await;
    runner.logs("only lines `ack N` are understood").await;
    fails(1, &send(&lock, &["--timeout", "300ms", "x"]), "").await;
}

#[tokio::test]
async fn links_are_encrypted_when_a_key_is_given_and_closed_to_others() {
    let ((dir, file), lock_dir) = (record(), TempDir::new());
    let lock = folder_lock(&lock_dir);
    let mut paths = Vec::new();
    for name in ["ours", "theirs"] {
        let path = dir.write(name, done(&["keygen"], "").await);
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, permissions).unwrap();
        paths.push(path.to_str().unwrap().to_owned());
    }
    let setup = Setup::in_folder(&lock_dir).env("OUT", &file).flags(&["--key-file", &paths[0]]);
    let mut runner = setup.shell("exec cat > \"$OUT\"").start("runner");
    holds(&mut runner).await;
    done(&send(&lock, &["--key-file", &paths[0], "secret"]), "").await;
    written(&file, "secret\n").await;
    fails(1, &send(&lock, &["--timeout", "1s", "plain"]), "").await;
    fails(1, &send(&lock, &["--timeout", "1s", "--key-file", &paths[1], "foreign"]), "").await;
    written(&file, "secret\n").await;
}

#[tokio::test]
async fn a_child_that_closes_its_stdin_takes_no_messages() {
    let lock_dir = TempDir::new();
    let lock = folder_lock(&lock_dir);
    let setup = Setup::in_folder(&lock_dir).flags(&["--on-exit", "restart"]).env("OUT", lock_dir.join("out"));
    let script = "[ -e \"$OUT\" ] && exec cat >> \"$OUT\"; exec <&-; touch \"$OUT\"; exec sleep 100";
    let mut runner = setup.shell(script).start("runner");
    let child = holds(&mut runner).await;
    let out = lock_dir.join("out");
    eventually("its stdin to be closed", SOON, async || out.exists().then_some(())).await;
    let begun = std::time::Instant::now();
    let said = fails(1, &send(&lock, &["--timeout", "600s", "x"]), "").await;
    assert!(said.contains("takes no messages: the child has closed its stdin"), "{said}");
    assert!(begun.elapsed() < SOON, "it is told at once");
    runner.logs("it closed its stdin").await;
    let said = fails(1, &send(&lock, &["--timeout", "600s", "--each-line"]), "y\n").await;
    assert!(said.contains("line 1 was not delivered: ") && said.contains("closed its stdin"), "{said}");
    let said = fails(1, &send(&lock, &["--wait", "--timeout", "1s", "z"]), "").await;
    assert!(said.contains("did not acknowledge within 1s") && said.contains("closed its stdin"), "{said}");
    // It is this child that takes none: the next one does.
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    done(&send(&lock, &["--wait", "--timeout", "60s", "next"]), "").await;
    written(&out, "next\n").await;
}

#[tokio::test]
async fn of_refused_lines_it_is_told_which_ones_were_delivered() {
    let ((_dir, file), lock_dir) = (record(), TempDir::new());
    let lock = folder_lock(&lock_dir);
    let setup = Setup::in_folder(&lock_dir).env("OUT", &file).flags(&["--max-message", "5B"]);
    let mut runner = setup.shell("exec cat > \"$OUT\"").start("runner");
    holds(&mut runner).await;
    let said = fails(1, &send(&lock, &["--each-line"]), "one\ntwo\nmuch too long\nfour\nlong again\n").await;
    let first =
        "gone-runner: line 3 was not delivered: job does not take this message: it is larger than the holder";
    assert!(said.starts_with(first), "{said}");
    // Those behind it were on their way already, or not sent any more.
    let told = [
        ("3, 5, nothing sent after line 5", 3),
        ("3, nothing sent after line 4", 3),
        ("3, nothing sent after line 3", 2),
    ];
    let (_, count) =
        told.into_iter().find(|(text, _)| said.contains(text)).unwrap_or_else(|| panic!("{said}"));
    assert!(said.contains(&format!("in all {count} delivered, not delivered 3")), "{said}");
    let delivered = eventually("all that were acknowledged", SOON, async || {
        Some(lines(&file)).filter(|lines| lines.len() == count)
    })
    .await;
    assert_eq!(delivered[..2], ["one", "two"]);
    assert!(!delivered.iter().any(|line| line.contains("long")), "{delivered:?}");
}

#[tokio::test]
async fn nothing_is_acknowledged_after_sigterm() {
    let ((_dir, file), lock_dir) = (record(), TempDir::new());
    let lock = folder_lock(&lock_dir);
    let script = "trap 'echo ack 1 >&3; sleep 0.5; exit 0' TERM; read -r a; echo \"$a\" > \"$OUT\"
                  while :; do sleep 0.02; done";
    let setup = Setup::in_folder(&lock_dir).env("OUT", &file).flags(&["--ack", "child", "--expiry", "10s"]);
    let mut runner = setup.shell(script).start("runner");
    holds(&mut runner).await;
    let args: Vec<String> =
        send(&lock, &["--timeout", "3s", "late"]).iter().map(|arg| (*arg).to_owned()).collect();
    let sending =
        tokio::spawn(async move { fails(1, &args.iter().map(String::as_str).collect::<Vec<_>>(), "").await });
    written(&file, "late\n").await;
    assert!(runner.stop().await.success());
    let said = sending.await.unwrap();
    assert!(said.contains("may have been taken"), "{said}");
}
