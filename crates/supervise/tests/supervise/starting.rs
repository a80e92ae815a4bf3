//! From the specification to a running child: what it gets, what it does not, and what is told when it fails.

use std::process::Command;
use std::time::Duration;

use supervise::{Error, Exit, Io, Spec, Status, Why};
use testkit::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Test, end, exe, far, run, shell, within};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("exit_codes_and_signals_are_told", || run(exits())),
        ("a_command_that_cannot_run_is_told_with_what_to_do", || run(failures())),
        ("a_deadline_that_is_over_starts_nothing", || run(too_late())),
        ("pipes_lead_both_ways_at_every_number", || run(pipes())),
        ("environment_and_directory_are_the_childs", || run(surroundings())),
        ("the_child_gets_no_descriptor_that_it_was_not_given", || run(descriptors())),
        ("the_child_has_its_own_session_and_no_signal_blocked", || run(fresh())),
        ("a_program_that_does_not_enter_starts_nothing", unentered),
    ]
}

async fn exits() {
    for (script, status) in [
        ("exit 0", Status::Code(0)),
        ("exit 42", Status::Code(42)),
        ("kill -TERM $$", Status::Signal(15)),
        ("kill -KILL $$", Status::Signal(9)),
    ] {
        let child = shell(script).spawn(far()).await.unwrap();
        assert_eq!(end(&child).await, Exit { status, why: Why::Exited, strays: 0 }, "{script}");
        assert!(child.is_stopping());
        assert!(matches!(child.rearm(far()), Err(Error::Gone)));
        assert!(matches!(child.stop(), Err(Error::Gone)));
    }
}

async fn failures() {
    let dir = TempDir::new();
    let text = dir.write("no-program", "hello");
    let text = text.to_str().unwrap();
    let told = async |spec: Spec| spec.spawn(far()).await.unwrap_err();

    let error = told(Spec::new("no-such-command-anywhere")).await;
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(error.to_string().starts_with("no-such-command-anywhere: command not found; check"), "{error}");
    let error = told(Spec::new(text)).await;
    assert!(matches!(error, Error::NotExecutable { .. }) && error.to_string().contains(text), "{error}");
    let error = told(Spec::new("true").directory(dir.join("nowhere"))).await;
    assert!(matches!(error, Error::Directory { .. }) && error.to_string().contains("nowhere"), "{error}");
    let error = told(Spec::new("true").arg("x".repeat(1 << 20))).await;
    assert!(matches!(error, Error::Exec { .. }) && error.to_string().contains("too long"), "{error}");
    let error = told(Spec::new("true").input(70)).await;
    assert!(matches!(error, Error::Spec { .. }), "{error}");
    // The child's PATH counts, not the runner's.
    let error = told(Spec::new("true").env("PATH", "/nonexistent")).await;
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

async fn too_late() {
    let grace = Duration::from_secs(60);
    let error = Spec::new("true").grace(grace).spawn(within(grace / 2)).await.unwrap_err();
    assert!(matches!(error, Error::TooLate { .. }), "{error}");
}

async fn pipes() {
    let spec = shell("read word; read other <&7; echo \"$word $other\"; echo loud >&2; echo ack >&3");
    let spec = spec.stdin(Io::Pipe).stdout(Io::Pipe).stderr(Io::Pipe).output(3).input(7);
    let mut child = spec.spawn(far()).await.unwrap();
    child.stdin().unwrap().write_all(b"one\n").await.unwrap();
    child.input(7).unwrap().write_all(b"two\n").await.unwrap();
    for (number, expected) in [(1, "one two\n"), (2, "loud\n"), (3, "ack\n")] {
        let mut text = String::new();
        child.output(number).unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, expected);
    }
    assert!(child.stdin().is_none() && child.stdout().is_none() && child.output(9).is_none());
    assert_eq!(end(&child).await.status, Status::Code(0));
}

/// What a script prints.
async fn printed(spec: Spec) -> String {
    let mut child = spec.stdout(Io::Pipe).spawn(far()).await.unwrap();
    let mut text = String::new();
    child.stdout().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(end(&child).await.status, Status::Code(0));
    text
}

async fn surroundings() {
    let spec =
        shell("pwd; echo $GIVEN; echo ${HOME-none}; echo ${SUPERVISE_GUARD-none}").directory("/usr/bin");
    let text = printed(spec.env("GIVEN", "a b=c").env_remove("HOME")).await;
    assert_eq!(text, "/usr/bin\na b=c\nnone\nnone\n");
}

async fn descriptors() {
    // Open over exec, as descriptors are that this process itself inherited.
    let file = std::fs::File::open("/dev/null").unwrap();
    let leaky = file.try_clone().unwrap();
    rustix::io::fcntl_setfd(&leaky, rustix::io::FdFlags::empty()).unwrap();
    let list = || Spec::new("ls").arg("/proc/self/fd").stdin(Io::Pipe).keep(file.try_clone().unwrap());
    // 3 and 4 are the directory that ls reads.
    assert_eq!(printed(list()).await, "0\n1\n2\n3\n");
    assert_eq!(printed(list().output(3).input(9)).await, "0\n1\n2\n3\n4\n9\n");
}

async fn fresh() {
    let spec = shell("grep -E '^Sig(Blk|Ign)' /proc/self/status; cut -d' ' -f5,6 /proc/$$/stat; echo $$ $$");
    let text = printed(spec).await;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "SigBlk:\t0000000000000000");
    // SIGPIPE, which Rust ignores, is bit 12.
    assert!(!lines[1].ends_with("1000"), "{}", lines[1]);
    assert_eq!(lines[2], lines[3], "group and session are its own");
}

fn unentered() {
    let output = Command::new(exe()).arg("role:unentered").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("does not begin with supervise::enter()"), "{text}");
}
