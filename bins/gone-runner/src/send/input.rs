//! What is to be sent: a word of the call, or standard input.

use std::io::{BufRead, Read};

use anyhow::Context;
use bytes::Bytes;
use daemon::Failure;
use tokio::sync::mpsc;

/// Lines that were read and not taken.
const WAITING: usize = 64;

/// Lines of standard input, in order.
pub(super) type Lines = mpsc::Receiver<anyhow::Result<Bytes>>;

/// What the call says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    Message(Bytes),
    AllOfStdin,
    EachLine,
}

/// # Errors
/// A wrong call.
pub(super) fn source(data: Option<&str>, each_line: bool) -> Result<Source, Failure> {
    match (data, each_line) {
        (None | Some("-"), true) => Ok(Source::EachLine),
        (Some("-"), false) => Ok(Source::AllOfStdin),
        (Some(text), false) => Ok(Source::Message(Bytes::copy_from_slice(text.as_bytes()))),
        (Some(_), true) => Err(Failure::usage("--each-line sends standard input: leave the message out")),
        (None, false) => Err(Failure::usage(
            "there is no message: give it as a word, or `-` or --each-line for standard input",
        )),
    }
}

/// All of standard input, less one final newline.
///
/// # Errors
/// More than `max` bytes, or a failure to read.
pub(super) fn all_of_stdin(max: usize) -> anyhow::Result<Bytes> {
    let mut text = Vec::new();
    let most = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(2);
    std::io::stdin().lock().take(most).read_to_end(&mut text).context("reading standard input")?;
    whole(text, max)
}

/// Each line of standard input, read on a thread of its own as they are taken.
pub(super) fn lines(max: usize) -> Lines {
    let (give, lines) = mpsc::channel(WAITING);
    std::thread::spawn(move || read_lines(&mut std::io::stdin().lock(), max, &give));
    lines
}

fn read_lines(from: &mut impl BufRead, max: usize, give: &mpsc::Sender<anyhow::Result<Bytes>>) {
    let most = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(2);
    loop {
        let mut text = Vec::new();
        let line = match from.take(most).read_until(b'\n', &mut text) {
            Ok(0) => return,
            Ok(_) => whole(text, max),
            Err(error) => Err(anyhow::Error::from(error).context("reading standard input")),
        };
        let last = line.is_err();
        if give.blocking_send(line).is_err() || last {
            return;
        }
    }
}

fn whole(mut text: Vec<u8>, max: usize) -> anyhow::Result<Bytes> {
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    anyhow::ensure!(text.len() <= max, "the message has more than the {max} bytes of --max-message");
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_says_what_is_sent() {
        assert_eq!(source(Some("x"), false), Ok(Source::Message("x".into())));
        assert_eq!(source(Some(""), false), Ok(Source::Message("".into())));
        assert_eq!(source(Some("-"), false), Ok(Source::AllOfStdin));
        assert_eq!(source(None, true), Ok(Source::EachLine));
        for (data, each_line) in [(None, false), (Some("x"), true)] {
            assert_eq!(source(data, each_line).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn lines_lose_one_newline_and_long_ones_end_it() {
        let (give, mut lines) = mpsc::channel(8);
        read_lines(&mut &b"one\n\ntwo\n12345\n123456\nthree"[..], 5, &give);
        let mut next = || lines.try_recv().unwrap();
        for text in ["one", "", "two", "12345"] {
            assert_eq!(next().unwrap(), text);
        }
        assert!(next().is_err());
        assert!(lines.try_recv().is_err(), "nothing comes after it");
    }
}
