//! What goes into the lease's state machine and what comes out of it.

use std::time::Duration;

use super::rules::{Reply, Request, Standing};

/// The number of a request; each is used once.
pub type RequestId = u64;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// A session with the store stands.
    Connected,
    /// There is no session: the dial failed, or what stood broke.
    Disconnected,
    /// The store answered.
    Answered {
        /// The request's number.
        id: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// The store told that the record changed: renewed, released, or gone.
    Changed,
    /// The child is not well, or has ended: free the lease when it is dead, and contend again after so long.
    GiveUp {
        /// How long to stay away.
        pause: Duration,
    },
    /// Free the lease when the child is dead, and end.
    Stop,
    /// The child and all it started are dead, or never ran.
    ChildDead,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Open a session with the store.
    Dial,
    /// Close the session, whatever waits on it.
    Hangup,
    /// Send this to the store. Its answer comes as [`Input::Answered`] with the same number.
    Send {
        /// The number.
        id: RequestId,
        /// What to ask.
        request: Request,
    },
    /// The guard: SIGTERM at the first time, SIGKILL of all at the second, unless armed anew. Times that
    /// have passed mean at once.
    Arm {
        /// SIGTERM.
        stop_at: Duration,
        /// SIGKILL.
        kill_at: Duration,
    },
    /// Start the child. The guard has been armed.
    Start {
        /// The fencing token.
        token: u64,
    },
}

/// Why a lease's machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// As asked.
    Stopped,
    /// Others use the same id with another expiry.
    OtherExpiry {
        /// Theirs.
        recorded: Duration,
    },
}

/// What others may know of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Somebody else holds it, or nobody knows yet.
    Waiting {
        /// What the store said last; none before it said anything, or while it cannot be reached.
        standing: Option<Standing>,
        /// Where the holder takes messages; empty when it is not known.
        holder: String,
    },
    /// After a child that ended: not contending until then.
    Away {
        /// When it contends again.
        until: Duration,
    },
    /// Held: the child may run and its work be acknowledged.
    Held {
        /// The fencing token.
        token: u64,
        /// When the child is told to end if no renewal succeeds; from then on nothing may be acknowledged.
        stop_at: Duration,
        /// When the child must be dead if no renewal succeeds. It moves with each renewal.
        deadline: Duration,
    },
    /// The child is being stopped; nothing may be acknowledged any more.
    Stopping {
        /// The fencing token.
        token: u64,
        /// When it must be dead.
        deadline: Duration,
    },
    /// The child is dead and the store is being told.
    Releasing,
    /// Over.
    Ended(End),
}
