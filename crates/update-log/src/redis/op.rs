//! What is asked of the batch script: operations, each with whoever waits for it. Pure but for the channels.

use common::node::NodeId;
use tokio::sync::oneshot;

use crate::{AppendError, Appended, LogError, NewUpdate};

/// One operation.
pub(super) struct Op {
    pub(super) kind: &'static str,
    pub(super) args: Vec<Vec<u8>>,
    pub(super) then: Then,
}

/// What to do with the result.
pub(super) enum Then {
    /// An append: puts it into memory and answers.
    Append(Box<Append>),
    /// Answers with the fields of the result.
    Tell(oneshot::Sender<Result<Vec<String>, LogError>>),
    /// Nobody waits.
    Mark { node: NodeId, token: u64, sequence: u64 },
}

/// An append on its way.
pub(super) struct Append {
    pub(super) update: NewUpdate,
    pub(super) size: u64,
    /// Gone when its caller was told that it is in doubt.
    pub(super) reply: Option<oneshot::Sender<Result<Appended, AppendError>>>,
}

/// Makes an argument.
pub(super) fn number(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

impl Op {
    /// An operation that somebody waits for.
    pub(super) fn asked(
        kind: &'static str,
        args: Vec<Vec<u8>>,
    ) -> (Self, oneshot::Receiver<Result<Vec<String>, LogError>>) {
        let (tell, told) = oneshot::channel();
        (Self { kind, args, then: Then::Tell(tell) }, told)
    }

    /// Its size on the wire, about.
    pub(super) fn bytes(&self) -> usize {
        self.args.iter().map(|arg| arg.len() + 16).sum()
    }

    /// Whether it changes which nodes the following appends are for.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self.kind, "subscribe" | "unsubscribe" | "rename")
    }

    /// It did not happen, and will not.
    pub(super) fn refuse(self, error: &LogError) {
        match self.then {
            Then::Append(append) => {
                if let Some(reply) = append.reply {
                    let _ = reply.send(Err(AppendError::Log(error.clone())));
                }
            }
            Then::Tell(tell) => drop(tell.send(Err(error.clone()))),
            Then::Mark { .. } => {}
        }
    }
}

/// Operations that are sent together, and sent again until it is known what came of them.
pub(super) struct Batch {
    /// Its number: one higher than that of the one before.
    pub(super) number: u64,
    /// Each with its id, by which the result is told.
    pub(super) ops: Vec<(u64, Op)>,
}

impl Batch {
    /// Whether somebody still waits for an append or an answer of it.
    pub(super) fn is_awaited(&self) -> bool {
        self.ops.iter().any(|(_, op)| match &op.then {
            Then::Append(append) => append.reply.is_some(),
            Then::Tell(tell) => !tell.is_closed(),
            Then::Mark { .. } => false,
        })
    }

    /// Tells those who wait that it is not known what came of it. The appends among them will not be made any more unless they
    /// were already; marks are sent again until they are recorded.
    pub(super) fn doubt(&mut self, log: &str, what: &str) {
        let ops = std::mem::take(&mut self.ops);
        for (id, mut op) in ops {
            match &mut op.then {
                Then::Append(append) => {
                    if let Some(reply) = append.reply.take() {
                        let _ = reply.send(Err(AppendError::InDoubt { what: what.to_owned() }));
                    }
                    self.ops.push((id, op));
                }
                Then::Tell(_) => {
                    let error = LogError::Unanswered { log: log.to_owned(), what: what.to_owned() };
                    op.refuse(&error);
                }
                Then::Mark { .. } => self.ops.push((id, op)),
            }
        }
    }

    /// What is to be sent: without the appends that were given up.
    pub(super) fn to_send(&self) -> impl Iterator<Item = &(u64, Op)> {
        self.ops.iter().filter(|(_, op)| match &op.then {
            Then::Append(append) => append.reply.is_some(),
            _ => true,
        })
    }
}
