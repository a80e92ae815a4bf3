//! What the writer does one at a time: nodes come, go and change names, and the log is closed.

use common::node::NodeId;

use super::encode;
use super::frame;
use super::inbox::{Command, Reply};
use super::record::{Record, Slot};
use super::retry;
use super::writer::Writer;
use crate::{LogError, UnsubscribeError};

impl Writer {
    /// Does what has to be written alone.
    pub(super) fn alone(&mut self, command: Command) {
        // A caller that is gone needs no answer.
        match command {
            Command::Subscribe { node, reply } => {
                let _ = reply.send(self.subscribe(node));
            }
            Command::Unsubscribe { node, discard, reply } => {
                let _ = reply.send(self.unsubscribe(&node, discard));
            }
            Command::Rename { old, new, reply } => {
                let core = self.shared.core();
                let (from, to) = (core.state.slot(&old), core.state.slot(&new));
                drop(core);
                let done = match (from, to) {
                    (Some(slot), None) => {
                        let record = Record::Rename { slot, name: new.to_string() };
                        self.record(&record).map(|()| self.apply(record))
                    }
                    (None, _) => Err(LogError::Node(old)),
                    (Some(_), Some(_)) => Err(LogError::Node(new)),
                };
                let _ = reply.send(done);
            }
            Command::Discard { node, reply } => {
                let _ = reply.send(self.discard(&node));
            }
            Command::Rewind { node, from, reply } => {
                let _ = reply.send(self.rewind(node, from.map(|from| from.0)));
            }
            Command::Park { node, reply } => {
                let _ = reply.send(self.park(&node));
            }
            Command::Close { reply } => self.close(reply),
            Command::Append { .. } | Command::Failed { .. } | Command::Flush { .. } => {
                self.group(vec![command]);
            }
        }
    }

    fn subscribe(&mut self, node: NodeId) -> Result<(), LogError> {
        let (known, slot, count) = {
            let core = self.shared.core();
            (core.state.slot(&node).is_some(), core.state.next_slot(), core.state.subscribed().len())
        };
        if known {
            return Ok(());
        }
        // As many as the count of those who need an update can tell.
        if count >= usize::from(u16::MAX) {
            return Err(LogError::Node(node));
        }
        let record = Record::Subscribe { slot, name: node.to_string() };
        self.record(&record)?;
        self.apply(record);
        Ok(())
    }

    fn unsubscribe(&mut self, node: &NodeId, discard: bool) -> Result<u64, UnsubscribeError> {
        let slot = self.shared.core().state.slot(node).ok_or_else(|| LogError::Node(node.clone()))?;
        let pending = self.shared.core().state.node(slot).map_or(0, |node| node.pending);
        if pending > 0 && !discard {
            return Err(UnsubscribeError::Pending(pending));
        }
        retry::give_back(&self.shared, node)?;
        let record = Record::Unsubscribe { slot };
        self.record(&record)?;
        Ok(self.drop_pending(slot, record))
    }

    fn discard(&mut self, node: &NodeId) -> Result<u64, LogError> {
        let (slot, until) = {
            let core = self.shared.core();
            (core.state.slot(node).ok_or_else(|| LogError::Node(node.clone()))?, core.state.next())
        };
        retry::give_back(&self.shared, node)?;
        let record = Record::Discard { slot, until };
        self.record(&record)?;
        Ok(self.drop_pending(slot, record))
    }

    pub(super) fn drop_pending(&self, slot: Slot, record: Record) -> u64 {
        let pending = {
            let mut core = self.shared.core();
            core.dying.retain(|(dying, _), _| *dying != slot);
            core.report_discarded(slot);
            core.state.node(slot).map_or(0, |node| node.pending)
        };
        self.apply(record);
        pending
    }

    fn close(&mut self, reply: Reply<Result<(), LogError>>) {
        let close = |writer: &mut Self| {
            writer.bury()?;
            writer.write_diverged();
            writer.write_answers()?;
            writer.answers.sync()?;
            // All before is durable first, so that this record vouches for it.
            let marks = std::mem::take(&mut writer.shared.core().marks);
            let mut frame = frame::begin();
            marks.iter().for_each(|mark| encode::encode(&mut frame, mark));
            writer.write(&mut frame, marks, true)?;
            let mut frame = frame::begin();
            encode::encode(&mut frame, &Record::Closed);
            writer.write(&mut frame, Vec::new(), true)
        };
        let done = close(self).map(drop);
        if done.is_ok() {
            self.shared.inbox.stop();
        }
        let _ = reply.send(done);
    }
}
