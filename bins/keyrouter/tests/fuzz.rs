//! The checks of `fuzz/` over its corpus and over mutations of it: the same for the same SEED.

#![expect(clippy::print_stdout, reason = "a test says its seed")]

use std::path::{Path, PathBuf};

use testkit::Rng;

#[path = "../fuzz/checks.rs"]
mod checks;

const PIECES: [&[u8]; 16] = [
    b"%",
    b"&",
    b"=",
    b";",
    b"+",
    b"\"",
    b"\\u",
    b"\\ud800",
    b"{",
    b"[",
    b",",
    b"\n",
    b"--b",
    b"\xff",
    b"99999999999999999999",
    b"[[Services]]\n",
];

fn corpus(check: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(check);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("a readable file")).collect()
}

fn mutate(data: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let at = rng.within(0..data.len() as u64 + 1) as usize;
    let end = (at + rng.within(0..9) as usize).min(data.len());
    match rng.within(0..5) {
        0 => drop(data.drain(at..end)),
        1 => drop(data.splice(at..at, rng.pick(&PIECES).iter().copied())),
        2 => drop(data.splice(at..end, other.iter().copied().skip(end).take(20))),
        3 => drop(data.splice(at..at, data[at..end].to_vec())),
        _ => {
            if let Some(byte) = data.get_mut(at) {
                *byte ^= 1 << rng.within(0..8);
            }
        }
    }
}

fn run(name: &str, check: fn(&[u8])) {
    let seed = testkit::seed();
    println!("SEED={seed}");
    let mut rng = Rng::new(seed);
    let corpus = corpus(name);
    assert!(corpus.len() >= 4, "the corpus of {name}");
    corpus.iter().for_each(|data| check(data));
    for _ in 0..10_000 {
        let (mut data, other) = (rng.pick(&corpus).clone(), rng.pick(&corpus).clone());
        for _ in 0..=rng.within(0..6) {
            mutate(&mut data, &other, &mut rng);
        }
        std::panic::catch_unwind(|| check(&data))
            .unwrap_or_else(|_| panic!("{name} on {:?}", String::from_utf8_lossy(&data)));
    }
}

#[test]
fn any_arguments() {
    run("arguments", checks::arguments);
}

#[test]
fn any_batch() {
    run("batch", checks::batch);
}

#[test]
fn any_services() {
    run("services", checks::services);
}
