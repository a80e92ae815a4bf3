//! Who may connect: public keys and their names.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::counters::one;
use crate::error::KeyError;
use crate::key::{KeyId, PublicKey};
use crate::shared::Shared;

/// Denials kept until the socket's monitor tells of the failed handshake.
const DENIALS: usize = 256;
/// The Z85 text of a key, with which a user id begins.
const KEY_TEXT: usize = 40;

/// The keys that may connect to a socket, each with a name; everybody else is refused. Clones share the list.
#[derive(Debug, Clone)]
pub struct Authenticator(Arc<Allowed>);

#[derive(Debug)]
struct Allowed {
    names: RwLock<HashMap<PublicKey, Arc<str>>>,
    generation: AtomicU64,
}

impl Authenticator {
    /// Lets these keys in.
    ///
    /// # Errors
    ///
    /// [`KeyError::Name`] for a name of no or more than 200 characters, or with a control character.
    pub fn new<N: Into<String>>(keys: impl IntoIterator<Item = (PublicKey, N)>) -> Result<Self, KeyError> {
        let names = RwLock::new(checked(keys)?);
        Ok(Self(Arc::new(Allowed { names, generation: AtomicU64::new(0) })))
    }

    /// Lets these keys in, and no others, from now on. Connections of keys that are gone stay open, but nothing
    /// that comes from them is taken in any more.
    ///
    /// # Errors
    ///
    /// As [`Authenticator::new`]; then nothing changes.
    pub fn replace<N: Into<String>>(
        &self,
        keys: impl IntoIterator<Item = (PublicKey, N)>,
    ) -> Result<(), KeyError> {
        let names = checked(keys)?;
        *self.0.names.write().unwrap_or_else(PoisonError::into_inner) = names;
        self.0.generation.fetch_add(1, SeqCst);
        Ok(())
    }

    /// The name of a key that may connect.
    pub fn name_of(&self, key: &PublicKey) -> Option<Arc<str>> {
        self.0.names.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Grows with each replacement.
    pub(crate) fn generation(&self) -> u64 {
        self.0.generation.load(SeqCst)
    }
}

fn checked<N: Into<String>>(
    keys: impl IntoIterator<Item = (PublicKey, N)>,
) -> Result<HashMap<PublicKey, Arc<str>>, KeyError> {
    let mut names = HashMap::new();
    for (key, name) in keys {
        let name: String = name.into();
        if name.is_empty() || name.chars().count() > 200 || name.chars().any(char::is_control) {
            return Err(KeyError::Name(name));
        }
        names.insert(key, name.into());
    }
    Ok(names)
}

/// A key that was refused, and the address it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) key: Option<KeyId>,
    pub(crate) address: String,
}

/// A listening CURVE socket, as the ZAP thread knows it.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) allowed: Authenticator,
    pub(crate) shared: Arc<Shared>,
    denials: Mutex<VecDeque<Denial>>,
}

impl Domain {
    pub(crate) fn new(allowed: Authenticator, shared: Arc<Shared>) -> Self {
        Self { allowed, shared, denials: Mutex::default() }
    }

    /// Decides on a handshake: the user id that its messages will carry, or `None`.
    pub(crate) fn decide(&self, mechanism: &[u8], credentials: &[u8], address: &str) -> Option<String> {
        let key = <[u8; 32]>::try_from(credentials).ok().filter(|_| mechanism == b"CURVE");
        let key = key.map(PublicKey::from_bytes);
        if let Some((key, name)) = key.and_then(|key| Some((key, self.allowed.name_of(&key)?))) {
            one(&self.shared.counters().zap_allowed);
            return Some(format!("{key}{name}"));
        }
        one(&self.shared.counters().zap_denied);
        let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        if denials.len() == DENIALS {
            denials.pop_front();
        }
        denials.push_back(Denial { key: key.map(|key| key.id()), address: address.to_owned() });
        None
    }

    /// The oldest denial that was not asked for yet.
    pub(crate) fn next_denial(&self) -> Option<Denial> {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// The key and the name of a user id that [`Domain::decide`] made.
pub(crate) fn parse_user_id(user_id: &str) -> Option<(PublicKey, &str)> {
    let (key, name) = user_id.split_at_checked(KEY_TEXT)?;
    Some((key.parse().ok()?, name))
}
