use std::collections::VecDeque;
use std::fs;
use std::sync::mpsc;

use proptest::prelude::*;
use testkit::{TempDir, eventually};

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

fn content(number: u8) -> Seen {
    Seen::Content([number; 32])
}

fn known(seen: Seen) -> Known {
    Known::default().then(seen)
}

fn settled(number: u8) -> Option<Told> {
    Some(Told { seen: content(number), settled: true })
}

/// Plays looks half a second apart: digits are contents under stamps of their own, `x` is unreadable.
/// What is told is put in force at once, where it is settled or `taken`. Says what was told at which look,
/// with `?` when it was not settled.
fn play(known: Known, looks: &str, taken: bool) -> Vec<(usize, String)> {
    let (mut watcher, mut known, start) = (Watcher::default(), known, Instant::now());
    let mut told = Vec::new();
    for (index, what) in looks.chars().enumerate() {
        let look = match what.to_digit(10) {
            Some(digit) => Look::Content(Stamp::numbered(digit.into()), [digit as u8; 32]),
            None => Look::Unreadable,
        };
        let now = start + EVERY * index as u32;
        if let Some(Told { seen, settled }) = watcher.look(look, known, now) {
            assert_eq!(seen == Seen::Unreadable, what == 'x');
            if settled || taken {
                known = known.then(seen);
            }
            told.push((index, if settled { what.to_string() } else { format!("{what}?") }));
        }
    }
    told
}

#[test]
fn a_change_counts_when_it_is_seen_twice() {
    let table: &[(&str, &[(usize, &str)])] = &[
        ("1111", &[]),
        ("1122", &[(3, "2")]),
        ("11222222", &[(3, "2")]),
        ("121", &[]),
        ("12121", &[]),
        ("1233", &[(3, "3")]),
        ("123133", &[(5, "3")]),
        ("1x1", &[]),
        ("1xx", &[(2, "x")]),
        ("1xxxxx", &[(2, "x")]),
        ("1xxxx11", &[(2, "x"), (6, "1")]),
        ("1xx2x22", &[(2, "x"), (6, "2")]),
        ("12233x3344", &[(2, "2"), (4, "3"), (9, "4")]),
    ];
    for (looks, expected) in table {
        let expected: Vec<_> = expected.iter().map(|(index, what)| (*index, (*what).to_owned())).collect();
        assert_eq!(play(known(content(1)), looks, true), expected, "{looks}");
    }
    assert_eq!(play(Known::default(), "11", true), [(1, "1".to_owned())], "what nobody has read is a change");
    assert_eq!(play(known(Seen::Unreadable), "xxxx", true), [], "known to be missing already");
}

#[test]
fn what_never_rests_is_told_at_the_third_look() {
    let table = [
        ("1234", true, "3:4?"),
        ("123456789", true, "3:4? 6:7?"),
        ("12343434", true, "3:4?"),
        ("1234353", true, "3:4? 6:3?"),
        ("1231456", true, "6:6?"),
        ("123444", true, "3:4?"),
        ("12x34", true, "3:3?"),
        ("12x2xx", true, "3:2? 5:x"),
        // What was not taken, because it is half a file, is told again: changed at once, the same once more.
        ("1234567", false, "3:4? 4:5? 5:6? 6:7?"),
        ("12344444", false, "3:4? 4:4"),
        ("1234155", false, "3:4? 6:5"),
    ];
    for (looks, taken, expected) in table {
        let told = play(known(content(1)), looks, taken);
        let told: Vec<String> = told.iter().map(|(look, what)| format!("{look}:{what}")).collect();
        assert_eq!(told.join(" "), expected, "{looks}, taken: {taken}");
    }
}

#[test]
fn what_is_written_again_and_again_does_not_rest_though_it_is_the_same() {
    let (mut watcher, known, start) = (Watcher::default(), known(content(1)), Instant::now());
    let mut look = |stamp: u64, index: u32| {
        watcher.look(Look::Content(Stamp::numbered(stamp), [2; 32]), known, start + EVERY * index)
    };
    let unsettled = Some(Told { seen: content(2), settled: false });
    assert_eq!([look(1, 0), look(2, 1), look(3, 2), look(4, 3)], [None, None, unsettled, unsettled]);
    assert_eq!(look(4, 4), settled(2));
}

#[test]
fn what_was_told_is_not_told_again_while_it_is_being_taken() {
    let (mut watcher, known, now) = (Watcher::default(), known(content(1)), Instant::now());
    let mut look = |number: u8, known| {
        watcher.look(Look::Content(Stamp::numbered(number.into()), [number; 32]), known, now)
    };
    assert_eq!([look(2, known), look(2, known)], [None, settled(2)]);
    assert_eq!([look(2, known), look(2, known)], [None, None], "somebody is at it");
    let again = known.then(content(1));
    assert_eq!([look(2, again), look(2, again)], [None, settled(2)], "what was read was something else");
}

#[test]
fn a_file_is_read_until_its_stamp_can_be_trusted() {
    let (mut watcher, start) = (Watcher::default(), Instant::now());
    let (stamp, known) = (Stamp::numbered(1), known(content(1)));
    for (half_seconds, must) in [(0, true), (1, true), (3, true), (4, true), (5, false), (100, false)] {
        assert_eq!(watcher.must_read(&stamp, known), must, "{half_seconds}");
        if must {
            let now = start + EVERY * half_seconds;
            assert_eq!(watcher.look(Look::Content(stamp, [1; 32]), known, now), None);
        }
    }
    assert!(watcher.must_read(&Stamp::numbered(2), known));
    assert!(watcher.must_read(&stamp, known.then(content(2))), "something else is in force");
}

#[derive(Debug, Clone)]
enum Event {
    Write(u8),
    Remove,
    /// A reload by other means.
    Signal,
    /// The first change that was told is put in force, unless it is stale.
    Take,
    Wait,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0u8..3).prop_map(Event::Write),
        1 => Just(Event::Remove),
        1 => Just(Event::Signal),
        2 => Just(Event::Take),
        6 => Just(Event::Wait),
    ]
}

proptest! {
    /// Ticks are 100 ms; the file system's clock ticks every `coarse` of them.
    #[test]
    fn whatever_happens_the_last_content_is_told(
        events in prop::collection::vec(event(), 0..200), coarse in prop::sample::select(vec![1u64, 10, 20]),
    ) {
        let (mut watcher, start) = (Watcher::default(), Instant::now());
        let (mut current, mut stamp) = (Seen::Unreadable, 0);
        let mut known = known(current);
        // When what is in force was read.
        let mut known_at = 0;
        let mut queue = VecDeque::new();
        // The last three looks, whether they read or not.
        let mut before = [None; 3];
        let quiet = std::iter::repeat_n(Event::Take, 40);
        for (tick, event) in events.into_iter().chain(quiet).enumerate() {
            match event {
                Event::Write(number) => (current, stamp) = (content(number), 1 + tick as u64 / coarse),
                Event::Remove => current = Seen::Unreadable,
                Event::Signal => (known, known_at) = (known.then(current), tick),
                Event::Take => {
                    if let Some((seen, after, at)) = queue.pop_front() && after == known.number {
                        prop_assert!(at >= known_at, "an older one in the place of a newer");
                        (known, known_at) = (known.then(seen), at);
                    }
                }
                Event::Wait => {}
            }
            if tick % 5 != 0 {
                continue;
            }
            let now = start + Duration::from_millis(100) * tick as u32;
            let numbered = Stamp::numbered(stamp);
            let look = match current {
                Seen::Unreadable => Look::Unreadable,
                Seen::Content(_) if !watcher.must_read(&numbered, known) => Look::SameStamp,
                Seen::Content(hash) => Look::Content(numbered, hash),
            };
            let version = if current == Seen::Unreadable { 0 } else { stamp };
            before = [before[1], before[2], Some((current, version))];
            if let Some(Told { seen, settled }) = watcher.look(look, known, now) {
                prop_assert_eq!(current, seen);
                prop_assert_ne!(known.seen, Some(seen));
                prop_assert_eq!(before[1] == before[2], settled);
                prop_assert!(settled || (seen != Seen::Unreadable && before[0].is_some()));
                queue.push_back((seen, known.number, tick));
            }
        }
        prop_assert_eq!(known.seen, Some(current));
        prop_assert!(queue.is_empty());
    }
}

#[tokio::test]
async fn real_changes_are_handed_over_once_each() {
    let dir = TempDir::new();
    let path = dir.write("f", "one");
    let last_read = LastRead::default();
    last_read.set(Seen::of(&file::read(&path, 100)));
    let (sender, receiver) = mpsc::channel();
    let mut seen = Vec::new();
    let shared = last_read.clone();
    let watching = watch(
        path.clone(),
        last_read,
        || 100,
        Duration::from_millis(20),
        move |change| {
            assert_eq!(change.after, shared.get().number);
            shared.set(Seen::of(&change.read));
            let text = change.read.map(|content| String::from_utf8(content.bytes).unwrap());
            sender.send(text.unwrap_or_else(|error| error.to_string())).unwrap();
        },
    );
    let watching = tokio::spawn(watching);
    let edits: &[(&dyn Fn(), &str)] = &[
        (&|| fs::write(&path, "two").unwrap(), "two"),
        (&|| fs::rename(dir.write("next", "three"), &path).unwrap(), "three"),
        (&|| fs::remove_file(&path).unwrap(), "cannot be read: No such file or directory (os error 2)"),
        (&|| fs::write(&path, "three").unwrap(), "three"),
        (
            &|| fs::write(&path, "x".repeat(101)).unwrap(),
            "has 101 bytes, more than --max-services-size allows (100)",
        ),
        (&|| fs::write(&path, "three").unwrap(), "three"),
        (
            &|| {
                // As an editor does that keeps the time and the size.
                let time = fs::metadata(&path).unwrap().modified().unwrap();
                fs::write(&path, "there").unwrap();
                fs::File::open(&path).unwrap().set_modified(time).unwrap();
            },
            "there",
        ),
    ];
    for (edit, expected) in edits {
        edit();
        seen.push(eventually(*expected, LIMIT, async || receiver.try_recv().ok()).await);
        assert_eq!(seen.last().map(String::as_str), Some(*expected));
    }
    watching.abort();
}
