//! Sending to an original node: one request, one empty reply that says no more than that it arrived.

use std::time::Duration;

use bytes::Bytes;
use zmq_link::{DealerOptions, Limits, Link, RequestError, Requester, ServerSecurity};

use crate::message::bson;
use crate::message::error::LinkUpError;

/// Why an original node did not get a message.
#[derive(Debug, thiserror::Error)]
pub enum CompatError {
    /// There is no way there.
    #[error(transparent)]
    Link(#[from] LinkUpError),
    /// No reply.
    #[error("the node at {address} did not take the message within {within:?}: {source}")]
    Request {
        /// Its address.
        address: String,
        /// The time that was given.
        within: Duration,
        /// What came of it.
        source: RequestError,
    },
}

/// A connection to the holder at an address out of an original lock. One request is under way at a time, which
/// keeps the order as far as the original does.
#[derive(Debug)]
pub struct OriginalHolder {
    requester: Requester,
    address: String,
    _link: Link,
}

impl OriginalHolder {
    /// Connects in the background. `max_message` bounds messages, in bytes.
    ///
    /// # Errors
    /// [`LinkUpError`] when the address is none.
    pub async fn connect(address: &str, max_message: usize) -> Result<Self, LinkUpError> {
        let link = Link::start("compat")?;
        let mut options = DealerOptions::new("to an original node", address, ServerSecurity::PlainText);
        options.socket.max_message = max_message + (1 << 10);
        options.socket.outbound = Limits { messages: 100, bytes: options.socket.max_message * 2 + (1 << 20) };
        let requester = Requester::new(link.dealer(options).await?);
        Ok(Self { requester, address: address.to_owned(), _link: link })
    }

    /// Sends a message and waits for the reply. An original node replies before it handles the message; one of
    /// ours after its child took it.
    ///
    /// # Errors
    /// [`CompatError::Request`]; the message may have been taken all the same.
    pub async fn send(&mut self, id: &str, data: &[u8], within: Duration) -> Result<(), CompatError> {
        let asked: Result<Vec<Bytes>, _> = self.requester.ask([bson::encode(id, data)], within).await;
        asked.map(drop).map_err(|source| CompatError::Request {
            address: self.address.clone(),
            within,
            source,
        })
    }
}
