//! CURVE keys: made, derived, shown as Z85, and never logged.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::error::KeyError;
use crate::{ffi, z85};

/// Refuses when the linked libzmq cannot encrypt. Every daemon that uses ZeroMQ asks this at its start.
///
/// # Errors
///
/// [`KeyError::NoCurve`], whose text says what to install.
pub fn require_curve() -> Result<(), KeyError> {
    if zmq::has("curve") == Some(true) {
        return Ok(());
    }
    let (major, minor, patch) = zmq::version();
    Err(KeyError::NoCurve { version: format!("{major}.{minor}.{patch}") })
}

/// A public key: 32 bytes, written as 40 characters of Z85.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key of these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A short name for logs: the first 8 hexadecimal digits of the key's SHA-256. Tells keys apart, proves nothing.
    pub fn id(&self) -> KeyId {
        let hash = Sha256::digest(self.0);
        KeyId([hash[0], hash[1], hash[2], hash[3]])
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&z85::encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        z85::decode(text).map(Self).ok_or(KeyError::NotZ85 { what: "public key" })
    }
}

/// The short name of a public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A secret key with its public one. Clones share the secret; it is wiped when the last one goes.
///
/// libzmq keeps copies of its own in each socket, which it does not wipe.
#[derive(Clone)]
pub struct KeyPair {
    public: PublicKey,
    secret: Arc<Zeroizing<[u8; 32]>>,
}

impl KeyPair {
    /// A fresh pair from the system's random source.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoCurve`] when libzmq cannot.
    pub fn generate() -> Result<Self, KeyError> {
        require_curve()?;
        let mut pair = zmq::CurveKeyPair::new().map_err(|error| KeyError::Libzmq(error.into()))?;
        let made =
            Self { public: PublicKey(pair.public_key), secret: Arc::new(Zeroizing::new(pair.secret_key)) };
        pair.secret_key.zeroize();
        Ok(made)
    }

    /// The pair of 32 secret bytes, for instance those of a key derivation. Any bytes do: they are clamped as
    /// Curve25519 asks, so that the same bytes make the same pair everywhere.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoCurve`] when libzmq cannot.
    pub fn from_secret_bytes(secret: [u8; 32]) -> Result<Self, KeyError> {
        require_curve()?;
        let mut secret = Zeroizing::new(secret);
        secret[0] &= 0xf8;
        secret[31] = (secret[31] & 0x7f) | 0x40;
        let text = Zeroizing::new(z85::encode(&secret));
        let public = ffi::curve_public(&text).map_err(KeyError::Libzmq)?.parse()?;
        Ok(Self { public, secret: Arc::new(secret) })
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The secret half.
    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The pair whose halves these are, as 40 characters of Z85 each.
    pub(crate) fn from_z85(public: &str, secret: &str) -> Result<Self, KeyError> {
        let public: PublicKey = public.parse()?;
        let secret = z85::decode(secret).ok_or(KeyError::NotZ85 { what: "secret key" })?;
        let pair = Self { public, secret: Arc::new(Zeroizing::new(secret)) };
        let text = Zeroizing::new(z85::encode(&pair.secret));
        let belongs: PublicKey = ffi::curve_public(&text).map_err(KeyError::Libzmq)?.parse()?;
        if belongs == public { Ok(pair) } else { Err(KeyError::NotAPair) }
    }

    /// The Z85 text of the secret half, wiped on drop.
    pub(crate) fn secret_z85(&self) -> Zeroizing<String> {
        Zeroizing::new(z85::encode(&self.secret))
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({}, secret hidden)", self.public.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_gives_its_public_key() {
        let pair = KeyPair::generate().unwrap();
        let again = KeyPair::from_secret_bytes(*pair.secret()).unwrap();
        assert_eq!(again.public(), pair.public());
    }

    #[test]
    fn any_bytes_make_a_pair_and_always_the_same() {
        // The public key of RFC 7748, section 6.1, whose secret is given there unclamped.
        let secret = [
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45,
            0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
        ];
        let pair = KeyPair::from_secret_bytes(secret).unwrap();
        assert_eq!(pair.public().as_bytes()[..4], [0x85, 0x20, 0xf0, 0x09]);
        assert_eq!(KeyPair::from_secret_bytes([0xff; 32]).unwrap().public(), {
            let mut other = [0xff; 32];
            other[0] = 0xf8;
            KeyPair::from_secret_bytes(other).unwrap().public()
        });
    }

    #[test]
    fn nothing_shows_the_secret() {
        let pair = KeyPair::generate().unwrap();
        let shown = format!("{pair:?} {:?} {}", pair.public(), pair.public());
        assert!(!shown.contains(pair.secret_z85().as_str()), "{shown}");
        assert!(shown.contains(&pair.public().id().to_string()), "{shown}");
    }

    #[test]
    fn libzmq_has_curve() {
        require_curve().unwrap();
    }
}
