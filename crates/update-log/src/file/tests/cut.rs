//! Files that are cut, bent, or caught in the middle of a write.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::script::Script;
use super::*;

/// A log after some random operations that all succeeded, and what is on its disk.
fn built(seed: u64) -> (Script, MemDisk) {
    let mut script = Script::new(seed, options());
    for _ in 0..110 {
        script.step(false);
    }
    until("marks are written", || script.log.shared.core().marks.is_empty().then_some(()));
    let disk = script.disk.killed();
    (script, disk)
}

fn try_open(disk: &MemDisk, what: &str) -> Option<Arc<FileLog>> {
    match open(disk) {
        Ok(log) => Some(log),
        Err(OpenError::Damaged { .. } | OpenError::Newer { .. }) => None,
        Err(error) => panic!("{what}: {error}"),
    }
}

/// Where the first frame of a file ends: it is there before the file has its name.
fn first_frame(bytes: &[u8]) -> usize {
    64 + u32::from_le_bytes(bytes[36..40].try_into().unwrap()) as usize
}

#[test]
fn a_last_segment_cut_anywhere_opens_with_what_was_before_the_cut() {
    let mut cuts = 0;
    for seed in seeds(2) {
        let (script, disk) = built(seed);
        let (name, bytes) = disk.files("log/").pop().unwrap();
        let mut tails = Vec::new();
        for cut in 0..bytes.len() {
            let image = disk.killed();
            image.put(&name, &bytes[..cut]);
            let what = format!("seed {seed}: {name} cut at {cut}");
            let log = try_open(&image, &what);
            assert_eq!(log.is_some(), cut >= first_frame(&bytes), "{what}");
            let Some(log) = log else { continue };
            script.check_prefix(&log, &what);
            tails.push(log.tail().borrow().0);
            cuts += 1;
        }
        assert!(tails.is_sorted(), "seed {seed}: more was there before a later cut");
        assert!(tails.last().is_none_or(|tail| tail + 2 >= script.next()));
    }
    println!("{cuts} cuts");
}

#[test]
fn an_earlier_segment_cut_or_missing_is_refused() {
    for seed in seeds(2) {
        let (_, disk) = built(seed);
        let mut files = disk.files("log/");
        files.pop();
        assert!(!files.is_empty());
        for (name, bytes) in files {
            for cut in (0..bytes.len()).step_by(7) {
                let image = disk.killed();
                image.put(&name, &bytes[..cut]);
                assert!(try_open(&image, &name).is_none(), "seed {seed}: {name} cut at {cut} was taken");
            }
            let image = disk.killed();
            crate::file::disk::Disk::remove(&image, &name).unwrap();
            assert!(try_open(&image, &name).is_none(), "seed {seed}: {name} is missing");
        }
    }
}

#[test]
fn any_flipped_bit_is_refused_or_costs_only_the_end() {
    let (mut opened, mut refused) = (0, 0);
    for seed in seeds(2) {
        let (script, disk) = built(seed);
        let mut dice = Dice(seed);
        for folder in ["log/", "answers/", "dead/"] {
            for (name, bytes) in disk.files(folder) {
                for at in 0..bytes.len() {
                    if !dice.one_in(3) {
                        continue;
                    }
                    let image = disk.killed();
                    let mut bent = bytes.clone();
                    bent[at] ^= 1 << dice.below(8);
                    image.put(&name, &bent);
                    let what = format!("seed {seed}: {name} bent at {at}");
                    match try_open(&image, &what) {
                        Some(log) => {
                            script.check_prefix(&log, &what);
                            opened += 1;
                        }
                        None => refused += 1,
                    }
                }
            }
        }
    }
    assert!(refused > 0 && opened > 0, "{refused} {opened}");
    println!("{refused} refused, {opened} opened with the end missing");
}

#[test]
fn a_crash_in_the_middle_of_many_appends_loses_nothing_that_was_acknowledged() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let mut acknowledged = 0;
    for seed in seeds(100) {
        let mut dice = Dice(seed);
        let disk = MemDisk::default();
        let log = open(&disk).unwrap();
        wait(log.subscribe(&node("a"))).unwrap();
        disk.stop_in(dice.below(120) as u64);
        let known = Arc::new(Mutex::new(BTreeMap::new()));
        let tasks: Vec<_> = (0..6)
            .map(|task| {
                let (log, known) = (log.clone(), known.clone());
                runtime.spawn(async move {
                    for number in 0.. {
                        let id = format!("t{task}-{number}");
                        let Ok(Appended::New { sequence, .. }) = log.append(update(&id, 50)).await else {
                            return;
                        };
                        known.lock().unwrap().insert(sequence.0, id);
                    }
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());
        let image = if dice.one_in(2) { disk.crashed(&mut dice) } else { disk.killed() };
        let log = open(&image).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let found = read(&log, "a");
        for (index, pending) in found.iter().enumerate() {
            assert_eq!(pending.update.sequence.0, index as u64 + 1, "seed {seed}: a sequence is left out");
            let UpdateBody::Memory(body) = &pending.update.body else { panic!("not in memory") };
            assert_eq!(*body, body_of(&pending.update.id, 50));
        }
        for (sequence, id) in known.lock().unwrap().iter() {
            let there = found.get(*sequence as usize - 1).map(|pending| &*pending.update.id);
            assert_eq!(there, Some(id.as_str()), "seed {seed}: {sequence} was acknowledged");
            acknowledged += 1;
        }
    }
    println!("{acknowledged} acknowledged");
}
