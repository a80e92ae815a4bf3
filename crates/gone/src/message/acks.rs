//! What the child writes on descriptor 3: lines `ack N`.

/// The longest line that is read.
const LONGEST: usize = 64;

/// Reads lines `ack N` out of what comes in pieces of any size. N counts the child's messages from 1 and stands
/// for all up to it.
#[derive(Debug, Default)]
pub struct AckLines {
    line: Vec<u8>,
    /// The rest of a line that is too long is passed over.
    skipping: bool,
    highest: u64,
}

/// A line that is no acknowledgement. It is passed over; what follows it is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// Not `ack N`.
    #[error("the child wrote {0:?} on descriptor 3, where only lines `ack N` are understood")]
    NotAnAck(String),
    /// More than 64 bytes.
    #[error("the child wrote a line of more than {LONGEST} bytes on descriptor 3, beginning with {0:?}")]
    TooLong(String),
}

impl AckLines {
    /// Takes the next piece. The highest number so far if this piece raised it, and what was no
    /// acknowledgement, at most the first eight of it.
    pub fn feed(&mut self, piece: &[u8]) -> (Option<u64>, Vec<AckError>) {
        let (before, mut errors) = (self.highest, Vec::new());
        let mut tell = |error| {
            if errors.len() < 8 {
                errors.push(error);
            }
        };
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            if !self.skipping {
                let room = LONGEST + 1 - self.line.len();
                self.line.extend_from_slice(&text[..text.len().min(room)]);
                if self.line.len() > LONGEST {
                    tell(AckError::TooLong(String::from_utf8_lossy(&self.line[..20]).into_owned()));
                    self.skipping = true;
                }
            }
            if ended {
                match number(&self.line) {
                    _ if self.skipping => {}
                    Some(number) => self.highest = self.highest.max(number),
                    None => tell(AckError::NotAnAck(String::from_utf8_lossy(&self.line).into_owned())),
                }
                self.line.clear();
                self.skipping = false;
            }
        }
        ((self.highest > before).then_some(self.highest), errors)
    }

    /// The child was not given what it acknowledged last: only up to `given` does it count from here on.
    pub fn refuse_beyond(&mut self, given: u64) {
        self.highest = self.highest.min(given);
    }
}

fn number(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line).ok()?;
    let digits = line.strip_suffix('\r').unwrap_or(line).strip_prefix("ack ")?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_matter_how_the_bytes_are_cut() {
        let text = b"ack 1\nack 12\r\nack 7\nack 13\n";
        for size in 1..text.len() {
            let mut lines = AckLines::default();
            let told: Vec<_> = text
                .chunks(size)
                .filter_map(|piece| {
                    let (number, errors) = lines.feed(piece);
                    assert_eq!(errors, []);
                    number
                })
                .collect();
            assert_eq!(told.last(), Some(&13));
            assert!(told.is_sorted());
        }
    }

    #[test]
    fn a_number_that_was_refused_does_not_hide_those_that_follow() {
        let mut lines = AckLines::default();
        assert_eq!(lines.feed(b"ack 1\nack 50\n").0, Some(50));
        lines.refuse_beyond(1);
        assert_eq!(lines.feed(b"ack 2\n").0, Some(2));
    }

    #[test]
    fn what_is_no_acknowledgement_is_told_and_passed_over() {
        let mut lines = AckLines::default();
        let (number, errors) = lines.feed(b"ack\nack -1\nack 99999999999999999999\nack 1 \n\nack 2\n");
        assert_eq!((number, errors.len()), (Some(2), 5));
        assert_eq!(errors[0], AckError::NotAnAck("ack".into()));
        let (number, errors) = lines.feed(&[b'x'; 10_000]);
        assert_eq!((number, errors), (None, vec![AckError::TooLong("x".repeat(20))]));
        assert_eq!(lines.feed(b"still that line\nack 3\n"), (Some(3), vec![]));
        let (_, errors) = lines.feed(&b"bad\n".repeat(1000));
        assert_eq!(errors.len(), 8, "what is told is bounded");
    }
}
