//! The commands that runners run in these tests: this very program, told by its environment what to be.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Write};
use std::time::Duration;

/// The words that start it.
pub(crate) fn words() -> Vec<String> {
    let exe = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    [exe.as_str(), "--exact", "role::child", "--nocapture"].map(str::to_owned).to_vec()
}

/// In a plain run there is nothing to do.
#[test]
fn child() {
    match std::env::var("ROLE").as_deref() {
        Ok("beat") => testkit::beats::beat(&variable("GONE_FENCING_TOKEN")),
        Ok("record") => record(),
        _ => {}
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn append(path: &str) -> File {
    OpenOptions::new().append(true).create(true).open(path).unwrap()
}

/// Each line of stdin goes to `RECORD` with the token and its number; then it is acknowledged where `ACK` says
/// so. `DELAY_US` makes it slow.
fn record() {
    let (token, delay) = (variable("GONE_FENCING_TOKEN"), variable("DELAY_US").parse().unwrap_or(0));
    let mut file = append(&variable("RECORD"));
    let mut acks = (variable("ACK") == "child").then(|| append("/proc/self/fd/3"));
    for (number, line) in (1..).zip(std::io::stdin().lock().lines()) {
        file.write_all(format!("{token} {number} {}\n", line.unwrap()).as_bytes()).unwrap();
        if let Some(acks) = &mut acks {
            acks.write_all(format!("ack {number}\n").as_bytes()).unwrap();
        }
        if delay > 0 {
            std::thread::sleep(Duration::from_micros(delay));
        }
    }
}
