//! From a secret to the key pair of a name.
//!
//! Argon2id stretches the secret once, slowly, whatever the number of nodes. Its output and the name give the 32
//! secret bytes of the name's pair, by the one-step derivation of NIST SP 800-56C with SHA-256.

use std::fmt;
use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;
use zmq_link::{KeyError, KeyPair};

/// Changes with the derivation: nodes that differ in it do not know each other.
const SALT: &[u8] = b"muster cluster secret v1";
const CONTEXT: &[u8] = b"muster cluster node key v1\0";
/// 19 MiB, two passes, one lane: about 20 ms a guess.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// What a secret became, from which each name's pair is made.
#[derive(Clone)]
pub(super) struct Master(Arc<Zeroizing<[u8; 32]>>);

impl Master {
    /// Takes about 20 ms and 19 MiB.
    pub(super) fn new(secret: &str) -> Result<Self, argon2::Error> {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(32))?;
        let mut key = Zeroizing::new([0; 32]);
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon.hash_password_into(secret.as_bytes(), SALT, key.as_mut())?;
        Ok(Self(Arc::new(key)))
    }

    /// The pair of the node of this name.
    pub(super) fn pair(&self, name: &str) -> Result<KeyPair, KeyError> {
        let mut hash = Sha256::new();
        hash.update(1_u32.to_be_bytes());
        hash.update(**self.0);
        hash.update(CONTEXT);
        hash.update(name.as_bytes());
        let secret = Zeroizing::new(<[u8; 32]>::from(hash.finalize()));
        KeyPair::from_secret_bytes(*secret)
    }
}

impl fmt::Debug for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Master(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_derivation_does_not_change() {
        let pair = Master::new("sixteen bytes or more").unwrap().pair("n1").unwrap();
        assert_eq!(pair.public().to_string(), "EnT:/rUPeL1oVB<D6WQLcKStG{2^ky(qn2&-Sh+>");
    }
}
