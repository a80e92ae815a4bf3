//! What the tests of messages share: a lock in a variable, both ends, waiting.
#![allow(dead_code, clippy::allow_attributes, reason = "each test program uses a part of it")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gone::message::stdin::Form;
use gone::message::{
    Delivery, Encryption, HolderLimits, Inbox, InboxOptions, Outbox, OutboxOptions, Patience, Turn,
    Whereabouts,
};

/// For what has to come true in the end.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// Ride through anything.
pub(crate) const WAIT: Patience = Patience { timeout: None, only_absence: false, wait: true };
/// Fail when nobody takes it, or in the end.
pub(crate) const NOW: Patience =
    Patience { timeout: Some(Duration::from_secs(20)), only_absence: false, wait: false };

/// A lock as far as senders need one.
#[derive(Clone, Default)]
pub(crate) struct Store(Arc<Mutex<Option<Whereabouts>>>);

impl Store {
    pub(crate) fn of(address: &str, token: u64) -> Self {
        let store = Self::default();
        store.set(address, token);
        store
    }

    pub(crate) fn set(&self, address: &str, token: u64) {
        *self.0.lock().unwrap() = Some(Whereabouts { address: address.to_owned(), token });
    }

    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap() = None;
    }

    pub(crate) fn outbox(&self, encryption: Encryption) -> Outbox {
        self.outbox_of(OutboxOptions::new(encryption))
    }

    pub(crate) fn plain(&self) -> Outbox {
        self.outbox(Encryption::PlainText)
    }

    pub(crate) fn outbox_of(&self, options: OutboxOptions) -> Outbox {
        let store = self.clone();
        let look_up = move |_: String| {
            let found = store.0.lock().unwrap().clone();
            async move { Ok(found) }
        };
        Outbox::new(options, look_up).unwrap()
    }
}

pub(crate) fn options(encryption: Encryption) -> InboxOptions {
    InboxOptions {
        listen: "tcp://127.0.0.1:*".into(),
        encryption,
        limits: HolderLimits::default(),
        compat: false,
    }
}

pub(crate) async fn inbox() -> Inbox {
    Inbox::listen(options(Encryption::PlainText)).await.unwrap()
}

pub(crate) fn begin(inbox: &Inbox, id: &str, token: u64, form: Form) -> Turn {
    inbox.begin(id, token, form, Arc::new(|| true))
}

/// The next so many messages.
pub(crate) async fn next(turn: &mut Turn, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    let all = async {
        while taken.len() < count {
            assert!(turn.recv(&mut taken).await, "the turn is over after {taken:?}");
        }
    };
    let outcome = tokio::time::timeout(testkit::patience(LIMIT), all).await;
    outcome.unwrap_or_else(|_| panic!("{count} messages do not come"));
    taken
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| std::str::from_utf8(&delivery.data).unwrap()).collect()
}
