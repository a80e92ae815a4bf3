//! Faults, and the ends that a log can come to.

use super::*;

impl Script {
    pub(super) fn toggle_faults(&mut self) {
        self.faulty = !self.faulty;
        if !self.faulty {
            self.disk.no_faults();
            return;
        }
        let (mut dice, often) = (self.dice.clone(), 2 + self.dice.below(6));
        self.disk.faults(move |op, _| {
            let code = if dice.one_in(2) { EIO } else { ENOSPC };
            let hit = dice.one_in(often);
            let fault =
                if op == Op::Write && dice.one_in(2) { Fault::Short(code) } else { Fault::Error(code) };
            hit.then_some(fault)
        });
        self.forgetful = true;
        self.count("faults");
    }

    /// Ends in order, unless something is under way, and opens again.
    pub(super) fn close(&mut self) {
        let under_way =
            self.nodes.iter().flat_map(|node| node.pending.values()).any(|tried| tried.unreported);
        if under_way || self.faulty {
            return;
        }
        let buried = self.before();
        wait(self.log.close()).unwrap();
        self.durable(&buried);
        let disk = self.disk.killed();
        self.open(disk, true);
        self.count("close");
    }

    /// Ends anyhow, and opens what is left.
    pub(super) fn reopen(&mut self, crash: bool) {
        if self.doubtful && !self.nodes.is_empty() && !self.dice.one_in(12) {
            self.disk.no_faults();
            self.faulty = false;
            self.append();
        }
        let disk = if crash { self.disk.crashed(&mut self.dice) } else { self.disk.killed() };
        self.forgetful |= crash;
        self.faulty = false;
        self.count(if crash { "crash" } else { "kill" });
        if self.doubtful {
            self.count("doubtful");
            self.done = true;
            self.check_doubtful(&disk);
            return;
        }
        self.open(disk, false);
    }

    fn open(&mut self, disk: MemDisk, clean: bool) {
        self.disk.stop_in(0);
        self.log = FileLog::open_on(Arc::new(disk.clone()), self.options.clone(), None).unwrap();
        self.disk = disk;
        let more = u32::from(!clean);
        for at in 0..self.nodes.len() {
            let found = read(&self.log, &self.nodes[at].name);
            let node = &mut self.nodes[at];
            let (mut weak, dying) = (std::mem::take(&mut node.weak), std::mem::take(&mut node.dying));
            let before = std::mem::take(&mut node.pending);
            for pending in &found {
                let (sequence, progress) = (pending.update.sequence.0, pending.progress);
                let known = before.get(&sequence).copied().or_else(|| weak.remove(&sequence));
                let known =
                    known.unwrap_or_else(|| panic!("{sequence} came back on {} from nowhere", node.name));
                assert!(
                    progress.attempts >= known.sent,
                    "{sequence} on {}: {progress:?} {known:?}",
                    node.name
                );
                assert_eq!((progress.attempts, progress.failures), (known.attempts + more, known.failures));
                let Try { sent, .. } = known;
                let tried =
                    Try { attempts: progress.attempts, failures: progress.failures, sent, unreported: false };
                node.pending.insert(sequence, tried);
            }
            let lost: Vec<_> =
                before.keys().filter(|sequence| !node.pending.contains_key(sequence)).collect();
            assert!(lost.is_empty(), "{} lost {lost:?}", node.name);
            node.dead.extend(dying.into_iter().filter(|sequence| !node.pending.contains_key(sequence)));
        }
        for key in self.keys.values_mut().filter(|_| !clean) {
            key.open |= self.nodes.iter().any(|node| node.pending.contains_key(&key.sequence));
        }
        self.check();
    }
}
