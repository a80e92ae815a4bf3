//! What the guard is to start, as bytes: the runner writes them, the guard of the same program reads them.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use crate::boottime::Boottime;

/// The largest plan that a guard reads: above what the kernel takes as arguments and environment.
pub(crate) const LARGEST: usize = 16 << 20;

/// A child to be started, but for its descriptors, which travel beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    /// The whole environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) directory: Option<OsString>,
    /// The numbers that the child's descriptors get in it, in the order in which they travel. Those that
    /// travel after them are the ones that the guard keeps.
    pub(crate) targets: Vec<i32>,
    /// How many of those that the guard keeps, the last ones, are locks that it frees when the deadline ended
    /// the child.
    pub(crate) unlocked: u64,
    pub(crate) kill_at: Boottime,
    pub(crate) grace: Duration,
}

impl Plan {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = Vec::new();
        number(&mut to, self.kill_at.as_nanos());
        number(&mut to, u64::try_from(self.grace.as_nanos()).unwrap_or(u64::MAX));
        text(&mut to, &self.program);
        number(&mut to, self.args.len() as u64);
        self.args.iter().for_each(|arg| text(&mut to, arg));
        number(&mut to, self.env.len() as u64);
        for (key, value) in &self.env {
            text(&mut to, key);
            text(&mut to, value);
        }
        number(&mut to, u64::from(self.directory.is_some()));
        if let Some(directory) = &self.directory {
            text(&mut to, directory);
        }
        number(&mut to, self.targets.len() as u64);
        self.targets.iter().for_each(|target| number(&mut to, u64::from(target.unsigned_abs())));
        number(&mut to, self.unlocked);
        to
    }

    /// `None` when these are not the bytes of one plan.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = bytes;
        let kill_at = Boottime::from_nanos(take_number(&mut from)?);
        let grace = Duration::from_nanos(take_number(&mut from)?);
        let program = take_text(&mut from)?;
        let args = take_list(&mut from, take_text)?;
        let env = take_list(&mut from, |from| Some((take_text(from)?, take_text(from)?)))?;
        let directory = if take_number(&mut from)? == 0 { None } else { Some(take_text(&mut from)?) };
        let targets = take_list(&mut from, |from| i32::try_from(take_number(from)?).ok())?;
        let unlocked = take_number(&mut from)?;
        let plan = Self { program, args, env, directory, targets, unlocked, kill_at, grace };
        from.is_empty().then_some(plan)
    }
}

fn number(to: &mut Vec<u8>, value: u64) {
    to.extend_from_slice(&value.to_le_bytes());
}

fn text(to: &mut Vec<u8>, value: &OsString) {
    number(to, value.len() as u64);
    to.extend_from_slice(value.as_bytes());
}

fn take_number(from: &mut &[u8]) -> Option<u64> {
    let (bytes, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(u64::from_le_bytes(*bytes))
}

fn take_text(from: &mut &[u8]) -> Option<OsString> {
    let length = usize::try_from(take_number(from)?).ok()?;
    let (bytes, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(OsString::from_vec(bytes.to_vec()))
}

fn take_list<T>(from: &mut &[u8], take: impl Fn(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    let length = take_number(from)?;
    // Grows as items come, so that a wrong length cannot ask for all memory.
    (0..length).map(|_| take(from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            program: "sh".into(),
            args: vec!["-c".into(), OsString::from_vec(vec![0xff, b'\n', b' ']), "".into()],
            env: vec![("A".into(), "".into()), ("B".into(), "x=y".into())],
            directory: Some("/tmp".into()),
            targets: vec![0, 1, 2, 9],
            unlocked: 1,
            kill_at: Boottime::NEVER,
            grace: Duration::from_millis(1500),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let bare = Plan { directory: None, args: vec![], env: vec![], targets: vec![], ..plan() };
        for plan in [plan(), bare] {
            assert_eq!(Plan::decode(&plan.encode()), Some(plan));
        }
    }

    #[test]
    fn bytes_cut_short_or_with_more_behind_are_no_plan() {
        let whole = plan().encode();
        for length in 0..whole.len() {
            assert_eq!(Plan::decode(&whole[..length]), None, "{length}");
        }
        assert_eq!(Plan::decode(&[whole, vec![0]].concat()), None);
        assert_eq!(Plan::decode(&[0xff; 64]), None);
    }
}
