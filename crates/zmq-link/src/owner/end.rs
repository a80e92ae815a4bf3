//! How a socket ends, and how it changes its key.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::counters::{many, one};
use crate::error::{LinkError, SendError};
use crate::event::EventKind;
use crate::key::KeyPair;
use crate::message::PeerId;
use crate::owner::driver::{Driver, Next};
use crate::owner::open;

/// libzmq gives a socket up when its linger time is over; a little later it must be gone.
const GRACE: Duration = Duration::from_millis(500);
/// The old listener closes in libzmq's own thread, a moment after it was told to.
const REBIND_WITHIN: Duration = Duration::from_secs(2);
const REBIND_AGAIN: Duration = Duration::from_millis(2);

/// What came of the messages of a socket that was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseReport {
    /// Messages that never left the queue.
    pub unsent: usize,
    /// Their bytes.
    pub unsent_bytes: usize,
    /// Messages that came in and had not been read.
    pub unread: usize,
    /// Whether all that libzmq had taken was written to its connections in time. Not whether it was received.
    pub flushed: bool,
}

/// A socket on its way out.
pub(super) struct Closing {
    deadline: Instant,
    report: CloseReport,
    pub(super) reply: Vec<oneshot::Sender<CloseReport>>,
    done: bool,
}

/// A socket that changes its key.
pub(super) struct Rebinding {
    deadline: Instant,
    reply: oneshot::Sender<Result<(), LinkError>>,
}

impl Driver {
    /// Stops taking messages and sends what is there within `linger`.
    pub(super) fn close(&mut self, linger: Duration, reply: Option<oneshot::Sender<CloseReport>>) {
        let deadline = Instant::now() + linger;
        self.shared.outbox.close();
        let report = CloseReport { unsent: 0, unsent_bytes: 0, unread: 0, flushed: false };
        let closing =
            self.closing.get_or_insert(Closing { deadline, report, reply: Vec::new(), done: false });
        closing.deadline = closing.deadline.min(deadline);
        closing.reply.extend(reply);
    }

    /// Whether the socket is gone and its end was told.
    pub(super) fn is_done(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.done)
    }

    /// Takes the end, or the change of key, a step further.
    pub(super) fn tend_end(&mut self, now: Instant, stopped: bool) -> Next {
        let rebinding = self.try_rebind(now);
        let Some(closing) = &self.closing else { return rebinding };
        let deadline = closing.deadline;
        if self.socket.is_some() {
            if !self.waiting.is_empty() && now < deadline {
                return Next { again: false, by: Some(deadline) };
            }
            self.drop_socket(deadline.saturating_duration_since(now));
            return Next { again: true, by: Some(deadline + GRACE) };
        }
        if !stopped && now < deadline + GRACE {
            return Next { again: false, by: Some(deadline + GRACE) };
        }
        // libzmq ends a socket early only when nothing is left to write.
        self.finish(stopped && now < deadline);
        Next::default()
    }

    fn drop_socket(&mut self, linger: Duration) {
        let (unsent, unsent_bytes) = self.give_up();
        let unread = self.shared.inbox.unread();
        self.shared.inbox.close();
        many(&self.shared.counters().unread_at_close, unread);
        let Some(socket) = self.socket.take() else { return };
        // At least a moment, so that a socket with nothing left to write can be told from one that was cut off.
        let linger = i32::try_from(linger.as_millis()).unwrap_or(i32::MAX);
        if let Err(error) = socket.set_linger(linger) {
            tracing::debug!(socket = &*self.shared.name, %error, "the linger time could not be set");
        }
        if let Some(closing) = &mut self.closing {
            closing.report = CloseReport { unsent, unsent_bytes, unread, flushed: false };
        }
    }

    fn finish(&mut self, flushed: bool) {
        let Some(closing) = &mut self.closing else { return };
        closing.done = true;
        closing.report.flushed = flushed;
        let report = closing.report;
        for reply in closing.reply.drain(..) {
            // Nobody waits any more: fine.
            let _ = reply.send(report);
        }
        let CloseReport { unsent, unsent_bytes, unread, flushed } = report;
        let socket = &*self.shared.name;
        if !flushed {
            // Of a socket that is closed without waiting nothing else is known, and often nothing was missed.
            tracing::debug!(socket, unread, "closed before libzmq said that all was written");
        }
        if unsent > 0 {
            tracing::warn!(socket, unsent, unsent_bytes, unread, flushed, "closed with messages unsent");
        }
        if report.unsent > 0 {
            let (to, messages, reason) = (PeerId::default(), report.unsent, SendError::Closed);
            self.shared.tell(None, EventKind::Undelivered { to, messages, reason });
        }
    }

    /// Listens with another pair: the listener goes, and one with the new pair takes its place.
    pub(super) fn rebind(&mut self, key: &KeyPair, reply: oneshot::Sender<Result<(), LinkError>>) {
        let outcome = match &self.socket {
            None => Err(LinkError::Closed),
            Some(_) if self.closing.is_some() || self.rebinding.is_some() => Err(LinkError::Closed),
            Some(socket) => open::change_key(socket, &self.options, key).and_then(|()| {
                match socket.unbind(&self.endpoint) {
                    // Not bound: the rebind before this one failed.
                    Ok(()) | Err(zmq::Error::ENOENT) => Ok(()),
                    Err(error) => Err(LinkError::Endpoint {
                        socket: self.options.name.clone(),
                        doing: "stop listening on",
                        endpoint: self.endpoint.clone(),
                        source: error.into(),
                    }),
                }
            }),
        };
        match outcome {
            Ok(()) => {
                self.monitor.own_key(key.public().id());
                self.monitor.all_ended();
                self.rebinding = Some(Rebinding { deadline: Instant::now() + REBIND_WITHIN, reply });
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn try_rebind(&mut self, now: Instant) -> Next {
        let Some(Rebinding { deadline, reply }) = self.rebinding.take() else { return Next::default() };
        let Some(socket) = &mut self.socket else {
            drop(reply.send(Err(LinkError::Closed)));
            return Next::default();
        };
        match open::bind(socket, &self.options.name, &self.endpoint) {
            Err(_) if now < deadline => {
                self.rebinding = Some(Rebinding { deadline, reply });
                return Next { again: false, by: Some(now + REBIND_AGAIN) };
            }
            Err(failure) => {
                one(&self.shared.counters().bind_failed);
                let (socket, error) = (&*self.shared.name, failure.to_string());
                tracing::error!(socket, error, "nobody can connect any more until the key is changed again");
                self.shared.tell(None, EventKind::BindFailed { error });
                drop(reply.send(Err(failure)));
            }
            Ok(_) => drop(reply.send(Ok(()))),
        }
        Next::default()
    }
}
