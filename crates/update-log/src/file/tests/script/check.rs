//! What of the log is compared with the model.

use std::collections::BTreeSet;

use super::*;

impl Script {
    /// Something refused may be there; nothing accepted may be missing.
    pub(super) fn check_doubtful(&mut self, disk: &MemDisk) {
        self.disk.stop_in(0);
        let log = FileLog::open_on(Arc::new(disk.clone()), self.options.clone(), None).unwrap();
        let names: BTreeSet<_> = log.nodes().iter().map(|node| node.host().to_owned()).collect();
        for known in self.nodes.iter().filter(|known| names.contains(&known.name)) {
            let found: BTreeSet<_> = sequences(&log, &known.name).into_iter().collect();
            let lost: Vec<_> = known.pending.keys().filter(|sequence| !found.contains(sequence)).collect();
            // A refused discard, unsubscription or rejection may have come true.
            assert!(lost.is_empty() || found.is_empty() || lost.len() <= 1, "{} lost {lost:?}", known.name);
        }
    }

    /// Checks a log that was opened on a damaged image: it may end early, and nothing in it is wrong.
    pub(in crate::file::tests) fn check_prefix(&self, log: &FileLog, what: &str) {
        let tail = log.tail().borrow().0;
        assert!(tail <= self.next, "{what}: from nowhere");
        for known in &self.nodes {
            if log.queue(&node(&known.name)).is_none() {
                continue;
            }
            let found = read(log, &known.name);
            for pending in &found {
                let (id, len) = &self.ids[&pending.update.sequence.0];
                assert_eq!(&*pending.update.id, id.as_str(), "{what}");
                if let UpdateBody::Memory(body) = &pending.update.body {
                    assert_eq!(*body, body_of(id, *len), "{what}");
                }
            }
            let found: BTreeSet<_> = found.iter().map(|pending| pending.update.sequence.0).collect();
            let lost: Vec<_> = known.pending.keys().filter(|s| **s < tail && !found.contains(s)).collect();
            assert!(
                lost.is_empty(),
                "{what}: {} lost {lost:?}, the cursor is ahead of the truth",
                known.name
            );
        }
    }

    /// The sequence that the next append gets.
    pub(in crate::file::tests) fn next(&self) -> u64 {
        self.next
    }

    /// Compares everything that can be seen with the model.
    pub(in crate::file::tests) fn check(&mut self) {
        for known in &self.nodes {
            let found = read(&self.log, &known.name);
            let expected: Vec<_> = known.pending.keys().copied().collect();
            assert_eq!(
                found.iter().map(|p| p.update.sequence.0).collect::<Vec<_>>(),
                expected,
                "{}",
                known.name
            );
            for pending in &found {
                let sequence = pending.update.sequence.0;
                let (id, len) = &self.ids[&sequence];
                assert_eq!((&*pending.update.id, pending.update.body.len()), (id.as_str(), *len as u64));
                match &pending.update.body {
                    UpdateBody::Memory(body) => assert_eq!(*body, body_of(id, *len)),
                    UpdateBody::Spooled(body) => {
                        let name = body.path.strip_prefix("/log").unwrap().to_str().unwrap();
                        assert_eq!(self.disk.files(name)[0].1, body_of(id, *len));
                    }
                }
                let tried = known.pending[&sequence];
                assert_eq!(pending.progress.attempts, tried.attempts, "{sequence} on {}", known.name);
            }
            let queue = self.log.queue(&node(&known.name)).unwrap();
            let low = queue.cursor.low().0;
            assert!(expected.first().is_none_or(|first| low <= *first), "the cursor is ahead of the truth");
            assert!(queue.pending >= expected.len() as u64);
            let dead: BTreeSet<_> =
                self.before().into_iter().filter(|(name, _)| *name == known.name).collect();
            for sequence in &known.dead {
                assert!(dead.contains(&(known.name.clone(), *sequence)), "dead letter {sequence} is gone");
            }
        }
        assert_eq!(self.log.nodes().len(), self.nodes.len());
        assert_eq!(self.log.tail().borrow().0, self.next);
    }
}
