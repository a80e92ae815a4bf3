//! What runner and guard say to each other: one datagram each, of a few bytes.

use crate::boottime::Boottime;
use crate::ladder::Cause;

/// The longest message either way.
pub(crate) const LONGEST: usize = 24;

/// From the runner to the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Rearm(Boottime),
    Stop,
    Kill,
    Signal(i32),
}

/// At what the start of the child failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Between fork and exec, or in the guard itself.
    Setup,
    /// The working directory.
    Directory,
    /// The command.
    Exec,
    /// The deadline came first. No error number.
    Deadline,
}

/// How the child itself ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It is dead, and how it died is not known: its guard was killed.
    Unknown,
}

/// From the guard to the runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The command runs (or was killed before it could), in a process of this id.
    Started(i32),
    /// It does not, and nothing is left of it: where it failed, and the error's number.
    Failed(Step, i32),
    /// SIGTERM is out.
    Stopping(Cause),
    /// SIGKILL is out.
    Killing(Cause),
    /// So many descendants do not die, this one among them.
    Stuck(u32, i32),
    /// This deadline is in force: the last one that the runner has sent.
    Armed(Boottime),
    /// All is over: nothing is left alive.
    Ended { status: Status, cause: Cause, strays: u32 },
}

impl Order {
    pub(crate) fn encode(self) -> Vec<u8> {
        match self {
            Self::Rearm(at) => instant(1, at),
            Self::Stop => vec![2],
            Self::Kill => vec![3],
            Self::Signal(number) => words(4, &[number]),
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match kind {
            1 => Some(Self::Rearm(instant_of(rest)?)),
            2 => rest.is_empty().then_some(Self::Stop),
            3 => rest.is_empty().then_some(Self::Kill),
            4 => Some(Self::Signal(read::<1>(rest)?[0])),
            _ => None,
        }
    }
}

impl Report {
    pub(crate) fn encode(self) -> Vec<u8> {
        match self {
            Self::Started(pid) => words(1, &[pid]),
            Self::Failed(step, error) => words(2, &[step as i32, error]),
            Self::Stopping(cause) => words(3, &[cause as i32]),
            Self::Killing(cause) => words(4, &[cause as i32]),
            Self::Stuck(count, pid) => words(5, &[count.cast_signed(), pid]),
            Self::Ended { status, cause, strays } => {
                let (kind, value) = match status {
                    Status::Code(code) => (0, code),
                    Status::Signal(signal) => (1, signal),
                    Status::Unknown => (2, 0),
                };
                words(6, &[kind, value, cause as i32, strays.cast_signed()])
            }
            Self::Armed(at) => instant(7, at),
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        Some(match kind {
            1 => Self::Started(read::<1>(rest)?[0]),
            2 => {
                let [step, error] = read(rest)?;
                Self::Failed(step_of(step)?, error)
            }
            3 => Self::Stopping(cause_of(read::<1>(rest)?[0])?),
            4 => Self::Killing(cause_of(read::<1>(rest)?[0])?),
            5 => {
                let [count, pid] = read(rest)?;
                Self::Stuck(count.cast_unsigned(), pid)
            }
            6 => {
                let [kind, value, cause, strays] = read(rest)?;
                let status = match kind {
                    0 => Status::Code(value),
                    1 => Status::Signal(value),
                    2 => Status::Unknown,
                    _ => return None,
                };
                Self::Ended { status, cause: cause_of(cause)?, strays: strays.cast_unsigned() }
            }
            7 => Self::Armed(instant_of(rest)?),
            _ => return None,
        })
    }
}

fn step_of(number: i32) -> Option<Step> {
    [Step::Setup, Step::Directory, Step::Exec, Step::Deadline].into_iter().find(|step| *step as i32 == number)
}

fn cause_of(number: i32) -> Option<Cause> {
    let all = [Cause::Exited, Cause::Stopped, Cause::Deadline, Cause::RunnerGone];
    all.into_iter().find(|cause| *cause as i32 == number)
}

/// A failed start, as the copy on its way to exec tells the guard.
pub(crate) fn failure(step: Step, error: i32) -> Vec<u8> {
    Report::Failed(step, error).encode()
}

fn instant(kind: u8, at: Boottime) -> Vec<u8> {
    [&[kind][..], &at.as_nanos().to_le_bytes()].concat()
}

fn instant_of(bytes: &[u8]) -> Option<Boottime> {
    Some(Boottime::from_nanos(u64::from_le_bytes(bytes.try_into().ok()?)))
}

fn words(kind: u8, words: &[i32]) -> Vec<u8> {
    let mut bytes = vec![kind];
    words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    bytes
}

fn read<const N: usize>(bytes: &[u8]) -> Option<[i32; N]> {
    let mut words = [0; N];
    let (chunks, []) = bytes.as_chunks::<4>() else { return None };
    if chunks.len() != N {
        return None;
    }
    for (word, chunk) in words.iter_mut().zip(chunks) {
        *word = i32::from_le_bytes(*chunk);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_travel_unchanged() {
        let orders =
            [Order::Rearm(Boottime::NEVER), Order::Rearm(Boottime::from_nanos(7)), Order::Stop, Order::Kill];
        for order in orders.into_iter().chain([Order::Signal(10)]) {
            let bytes = order.encode();
            assert!(bytes.len() <= LONGEST);
            assert_eq!(Order::decode(&bytes), Some(order));
            assert_eq!(Order::decode(&[bytes, vec![0]].concat()), None);
        }
        assert_eq!((Order::decode(&[]), Order::decode(&[9])), (None, None));
    }

    #[test]
    fn reports_travel_unchanged() {
        let ended = |status| Report::Ended { status, cause: Cause::RunnerGone, strays: u32::MAX };
        let reports = [
            Report::Started(i32::MAX),
            Report::Failed(Step::Deadline, 0),
            Report::Failed(Step::Exec, 2),
            Report::Stopping(Cause::Stopped),
            Report::Killing(Cause::Exited),
            Report::Stuck(3, 77),
            Report::Armed(Boottime::NEVER),
            ended(Status::Code(-1)),
            ended(Status::Signal(9)),
            ended(Status::Unknown),
        ];
        for report in reports {
            let bytes = report.encode();
            assert!(bytes.len() <= LONGEST);
            assert_eq!(Report::decode(&bytes), Some(report));
            assert_eq!(Report::decode(&bytes[..bytes.len() - 1]), None);
        }
        assert_eq!((Report::decode(&[]), Report::decode(&[77])), (None, None));
    }
}
