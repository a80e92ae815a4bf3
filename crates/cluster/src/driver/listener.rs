//! The connections that peers make: one socket for all of them.

use crate::driver::dialer::LAST_WORDS;
use tokio::sync::{broadcast, mpsc, oneshot};
use zmq_link::{Event, EventKind, Incoming, KeyPair, LinkError, PeerId, Router};

/// What the listening end tells.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Frames came.
    Frames(Vec<Incoming>),
    /// Some connection ended; it is not known whose.
    SomeoneLeft,
    /// This one cannot be sent to any more.
    Gone(PeerId),
    /// A connection was refused.
    Refused(Event),
}

/// Another key pair, and where to tell how that went.
pub(crate) type Rebind = (KeyPair, oneshot::Sender<Result<(), LinkError>>);

/// Runs until the driver goes.
pub(crate) async fn run(
    mut router: Router,
    mut events: broadcast::Receiver<Event>,
    heard: mpsc::Sender<Heard>,
    mut rebinds: mpsc::Receiver<Rebind>,
) {
    loop {
        let mut frames = Vec::new();
        let news = tokio::select! {
            biased;
            event = events.recv() => match event {
                Ok(event) => judge(event),
                Err(broadcast::error::RecvError::Lagged(_)) => Some(Heard::SomeoneLeft),
                Err(broadcast::error::RecvError::Closed) => break,
            },
            rebind = rebinds.recv() => {
                let Some((key, reply)) = rebind else { break };
                // Nobody waits any more: fine.
                let _ = reply.send(router.rebind(key).await);
                Some(Heard::SomeoneLeft)
            }
            count = router.recv_many(&mut frames) => {
                if count == 0 {
                    break;
                }
                Some(Heard::Frames(frames))
            }
        };
        if let Some(news) = news
            && heard.send(news).await.is_err()
        {
            break;
        }
    }
    router.close(LAST_WORDS).await;
}

fn judge(event: Event) -> Option<Heard> {
    match event.kind {
        EventKind::Disconnected => Some(Heard::SomeoneLeft),
        EventKind::Undelivered { to, .. } => Some(Heard::Gone(to)),
        EventKind::HandshakeFailed(_) | EventKind::AcceptFailed { .. } => Some(Heard::Refused(event)),
        _ => None,
    }
}
