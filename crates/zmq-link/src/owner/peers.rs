//! Who is behind a message: decided for each message under CURVE, remembered for speed.

use std::collections::HashMap;
use std::sync::Arc;

use zmq::Message;

use crate::auth::{Authenticator, parse_user_id};
use crate::message::{Peer, PeerId};

/// So many senders are remembered; then all are forgotten and looked at anew.
const REMEMBERED: usize = 4096;

/// The senders of one socket.
pub(super) struct Peers {
    known: HashMap<PeerId, Known>,
    /// On a listening CURVE socket.
    allowed: Option<Authenticator>,
    /// Without CURVE, addresses are looked up once in each batch.
    batch: u64,
    /// Without CURVE, the sender of the message before, in the same batch.
    last: Option<Arc<Peer>>,
}

struct Known {
    peer: Arc<Peer>,
    user_id: String,
    /// Under CURVE the authenticator's generation, else the batch.
    checked: u64,
    allowed: bool,
}

impl Peers {
    pub(super) fn new(allowed: Option<Authenticator>) -> Self {
        Self { known: HashMap::new(), allowed, batch: 0, last: None }
    }

    pub(super) fn next_batch(&mut self) {
        self.batch += 1;
        self.last = None;
    }

    /// The sender of the message whose first frame this is; `Err` when its key may not connect any more.
    ///
    /// A routing id can pass from one connection to another at any time. So under CURVE the name comes from what
    /// libzmq attached to this very message at its connection's handshake, never from the routing id.
    pub(super) fn sender(&mut self, id: &[u8], frame: &mut Message) -> Result<Arc<Peer>, PeerId> {
        let Some(allowed) = &self.allowed else {
            if let Some(last) = self.last.as_ref().filter(|last| last.id.as_bytes() == id) {
                return Ok(Arc::clone(last));
            }
            let peer = self.plain(PeerId::new(id), frame);
            self.last = Some(Arc::clone(&peer));
            return Ok(peer);
        };
        let id = PeerId::new(id);
        let generation = allowed.generation();
        let user_id = frame.gets("User-Id").unwrap_or_default();
        if let Some(known) = self.known.get(&id)
            && known.user_id == user_id
            && known.checked == generation
        {
            return if known.allowed { Ok(Arc::clone(&known.peer)) } else { Err(id) };
        }
        let user_id = user_id.to_owned();
        let claimed = parse_user_id(&user_id);
        let is_allowed =
            claimed.is_some_and(|(key, name)| allowed.name_of(&key).is_some_and(|known| &*known == name));
        let peer = Arc::new(Peer {
            id: id.clone(),
            name: claimed.map(|(_, name)| name.into()),
            key: claimed.map(|(key, _)| key),
            address: address(frame),
        });
        let known = Known { peer: Arc::clone(&peer), user_id, checked: generation, allowed: is_allowed };
        self.remember(id.clone(), known);
        if is_allowed { Ok(peer) } else { Err(id) }
    }

    fn plain(&mut self, id: PeerId, frame: &mut Message) -> Arc<Peer> {
        let batch = self.batch;
        if let Some(known) = self.known.get_mut(&id) {
            if known.checked != batch {
                known.checked = batch;
                let now = frame.gets("Peer-Address").filter(|text| !text.is_empty());
                if now != known.peer.address.as_deref() {
                    known.peer = Arc::new(Peer { address: now.map(Into::into), ..(*known.peer).clone() });
                }
            }
            return Arc::clone(&known.peer);
        }
        let peer = Arc::new(Peer { id: id.clone(), name: None, key: None, address: address(frame) });
        let known = Known { peer: Arc::clone(&peer), user_id: String::new(), checked: batch, allowed: true };
        self.remember(id, known);
        peer
    }

    fn remember(&mut self, id: PeerId, known: Known) {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(id, known);
    }
}

fn address(frame: &mut Message) -> Option<Arc<str>> {
    frame.gets("Peer-Address").filter(|text| !text.is_empty()).map(Into::into)
}
