//! What is wrong between this node and a peer: one attempt with each secret.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use zmq_link::{KeyId, Link, Multipart};

use crate::core::Conn;
use crate::driver::dialer::{self, KeyTrouble, Told};
use crate::driver::sentence;
use crate::error::ClusterError;
use crate::identity::{Attempt, Identity};
use crate::node::Node;
use crate::settings::Settings;
use crate::wire::Frame;

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which secret, counted from 1; 1 with a key of its own.
    pub secret: usize,
    /// The key with which this node showed itself.
    pub own_key: KeyId,
    /// The key that was expected of the peer.
    pub peer_key: KeyId,
    /// What is so.
    pub verdict: Verdict,
}

/// What is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The keys fit, and a node answers.
    Ok,
    /// The peer has this secret, and does not know this node under its name.
    NotConfiguredThere,
    /// The peer has another secret or key, or another node listens there.
    OtherKeyThere,
    /// What listens there is no node.
    NoNode,
    /// Nothing could be reached.
    Unreachable(String),
    /// A connection was made, and nothing came over it in time.
    Silent,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok: the keys fit, and a node answers"),
            Self::NotConfiguredThere => f.write_str(sentence(KeyTrouble::OursRefused)),
            Self::OtherKeyThere => f.write_str(sentence(KeyTrouble::TheirsDiffers)),
            Self::NoNode => f.write_str(sentence(KeyTrouble::NoCurve)),
            Self::Unreachable(why) => f.write_str(why),
            Self::Silent => {
                f.write_str("nothing came in time: it hangs, or something on the way swallows messages")
            }
        }
    }
}

/// Dials the peer once with each secret, as the node `own`, each time for at most `within`. A node of this name that
/// is running is not disturbed.
///
/// # Errors
///
/// When the peer cannot be configured so, or libzmq cannot be used.
pub async fn probe(
    own: &str,
    identity: &Identity,
    node: &Node,
    within: Duration,
) -> Result<Vec<Finding>, ClusterError> {
    node.check()?;
    let attempts = identity.attempts(own, node)?;
    let link = Arc::new(Link::start("doctor")?);
    let mut findings = Vec::new();
    for (secret, attempt) in (1..).zip(attempts) {
        let verdict = tokio::time::timeout(within, dial(&link, node, &attempt, within)).await;
        let verdict = verdict.unwrap_or(Verdict::Silent);
        let (own_key, peer_key) = (attempt.own.public().id(), attempt.server.id());
        findings.push(Finding { secret, own_key, peer_key, verdict });
    }
    Ok(findings)
}

async fn dial(link: &Arc<Link>, node: &Node, attempt: &Attempt, within: Duration) -> Verdict {
    let settings = Settings { connect_timeout: within, ..Settings::default() };
    let options = dialer::options(&node.addr, attempt, &node.name, &settings);
    let (told, mut news) = mpsc::channel(8);
    let (_stop, stopped) = oneshot::channel();
    tokio::spawn(dialer::run(Arc::clone(link), options, Conn(0), told, stopped));
    let mut sender = None;
    while let Some((_, told)) = news.recv().await {
        match told {
            Told::Opened(opened) => sender = Some(opened),
            Told::Connected => {
                // Not a greeting, which would take the place of the link that may stand: a node answers this too.
                let ping = Multipart::single(Frame::Ping(0, 0).encode());
                if let Some(sender) = &sender
                    && let Err(refused) = sender.try_send(ping)
                {
                    return Verdict::Unreachable(refused.error.to_string());
                }
            }
            Told::Frames(_) => return Verdict::Ok,
            Told::Unreachable(why) => return Verdict::Unreachable(why),
            Told::Keys(KeyTrouble::OursRefused) => return Verdict::NotConfiguredThere,
            Told::Keys(KeyTrouble::TheirsDiffers) => return Verdict::OtherKeyThere,
            Told::Keys(KeyTrouble::NoCurve) => return Verdict::NoNode,
            Told::Ended => return Verdict::Unreachable("the connection ended".to_owned()),
        }
    }
    Verdict::Silent
}
