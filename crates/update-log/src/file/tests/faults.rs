//! A disk that is full or fails.

use std::sync::atomic::{AtomicBool, Ordering};

use super::basic::{failure, two_nodes};
use super::mem::{EIO, ENOSPC, Fault, Op};
use super::*;
use crate::{AppendError, LogError};

#[test]
fn a_full_disk_refuses_appends_and_recovers_by_itself() {
    let (disk, log) = two_nodes();
    append(&log, update("one", 100));
    disk.capacity(Some(disk.used() + 500));
    let mut taken = vec![1];
    let error = loop {
        match wait(log.append(update("more", 200))) {
            Ok(Appended::New { sequence, .. }) => taken.push(sequence.0),
            Ok(_) => panic!("not new"),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("/log/log/"), "{error}");
    // Everything else goes on.
    log.settle(&node("a"), &get(&log, "a", 1), delivered(1));
    assert_eq!(sequences(&log, "b"), taken);
    assert!(wait(log.append(update("more", 2000))).is_err());
    let full = disk.killed();
    full.capacity(None);
    disk.capacity(None);
    let next = append(&log, update("again", 2000));
    assert_eq!(next, taken.len() as u64 + 1, "no sequence is left out");
    taken.push(next);
    assert_eq!(sequences(&log, "b"), taken);
    until("the mark is written", || log.shared.core().marks.is_empty().then_some(()));
    let log = open(&disk.crashed(&mut Dice(5))).unwrap();
    assert_eq!(sequences(&log, "b"), taken);
    assert_eq!(sequences(&log, "a"), taken[1..]);
    assert_eq!(sequences(&open(&full).unwrap(), "b"), taken[..taken.len() - 1]);
}

#[test]
fn what_was_not_synced_is_never_seen_and_the_file_never_trusted_again() {
    let (disk, log) = two_nodes();
    append(&log, update("one", 100));
    log.settle(&node("a"), &get(&log, "a", 1), delivered(1));
    until("the mark is written", || log.shared.core().marks.is_empty().then_some(()));
    let failed = Arc::new(AtomicBool::new(false));
    let once = failed.clone();
    disk.faults(move |op, name| {
        let now = op == Op::Sync && name.starts_with("log/") && !once.swap(true, Ordering::Relaxed);
        now.then_some(Fault::Error(EIO))
    });
    assert!(matches!(wait(log.append(update("two", 100))), Err(AppendError::Log(LogError::Disk { .. }))));
    assert!(failed.load(Ordering::Relaxed));
    assert_eq!((log.tail().borrow().0, sequences(&log, "b")), (2, vec![1]));
    assert_eq!(append(&log, update("three", 100)), 2);
    for seed in 0..50 {
        let log = open(&disk.crashed(&mut Dice(seed))).unwrap();
        assert_eq!(&*get(&log, "b", 2).id, "three");
        assert_eq!(sequences(&log, "a"), [2], "the mark went with the file and was written again");
    }
}

#[test]
fn a_failure_that_was_not_written_may_be_told_again() {
    let (disk, log) = two_nodes();
    append(&log, update("one", 100));
    disk.faults(|op, _| (op == Op::Write).then_some(Fault::Short(ENOSPC)));
    assert!(wait(log.failed(&node("a"), Sequence(1), failure(1))).is_err());
    assert_eq!(read(&log, "a")[0].progress.attempts, 0);
    assert!(wait(log.close()).is_err());
    disk.no_faults();
    wait(log.failed(&node("a"), Sequence(1), failure(1))).unwrap();
    assert_eq!(read(&log, "a")[0].progress.attempts, 1);
    assert_eq!(wait(log.status(Sequence(1))).unwrap().unwrap().nodes[0].2.as_deref(), Some("it said 503"));
}
