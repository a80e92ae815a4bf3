//! The form of a protocol's messages: a version byte first, and bounds.

use bytes::{BufMut, Bytes, BytesMut};

use crate::message::Multipart;

/// The form of one protocol's messages. The first frame is the version byte and a header, the others are bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    /// The version that is written and read.
    pub version: u8,
    /// The most frames of a message, the header's included.
    pub max_frames: usize,
    /// The most bytes of all frames together.
    pub max_bytes: usize,
}

/// A message taken apart.
#[derive(Debug)]
pub struct Framed {
    /// What stands behind the version byte.
    pub header: Bytes,
    /// The other frames.
    pub bodies: Vec<Bytes>,
}

/// Why a message is not of the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Nothing in it, or nothing in its first frame.
    #[error("a message without a version byte")]
    Empty,
    /// Another protocol or another time.
    #[error("a message of version {found}, where {known} is spoken")]
    Version {
        /// The first byte.
        found: u8,
        /// The one that is read.
        known: u8,
    },
    /// Too many frames.
    #[error("a message of {found} frames, where {max} are allowed")]
    Frames {
        /// How many.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// Too many bytes.
    #[error("a message of {found} bytes, where {max} are allowed")]
    Bytes {
        /// How many.
        found: usize,
        /// The bound.
        max: usize,
    },
}

impl Framing {
    /// Puts a message together.
    ///
    /// # Errors
    ///
    /// When it exceeds the bounds.
    pub fn wrap(
        &self,
        header: &[u8],
        bodies: impl IntoIterator<Item = impl Into<Bytes>>,
    ) -> Result<Multipart, FramingError> {
        let mut first = BytesMut::with_capacity(1 + header.len());
        first.put_u8(self.version);
        first.put_slice(header);
        let mut message = Multipart::single(first.freeze());
        bodies.into_iter().for_each(|body| message.push(body));
        self.check(&message)?;
        Ok(message)
    }

    /// Takes a message apart.
    ///
    /// # Errors
    ///
    /// When it exceeds the bounds or is of another version.
    pub fn unwrap(&self, message: Multipart) -> Result<Framed, FramingError> {
        self.check(&message)?;
        let mut frames = message.into_frames();
        let header = frames.next().unwrap_or_default().slice(1..);
        Ok(Framed { header, bodies: frames.collect() })
    }

    fn check(&self, message: &Multipart) -> Result<(), FramingError> {
        let found = message.first().and_then(|frame| frame.first().copied()).ok_or(FramingError::Empty)?;
        if found != self.version {
            return Err(FramingError::Version { found, known: self.version });
        }
        if message.len() > self.max_frames {
            return Err(FramingError::Frames { found: message.len(), max: self.max_frames });
        }
        let bytes = message.byte_len();
        if bytes > self.max_bytes {
            return Err(FramingError::Bytes { found: bytes, max: self.max_bytes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORM: Framing = Framing { version: 3, max_frames: 4, max_bytes: 100 };

    proptest! {
        #[test]
        fn what_is_wrapped_is_unwrapped(
            header in prop::collection::vec(any::<u8>(), 0..20),
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4),
        ) {
            let framed = FORM.unwrap(FORM.wrap(&header, bodies.clone()).unwrap()).unwrap();
            prop_assert_eq!(&framed.header[..], &header[..]);
            let back: Vec<Vec<u8>> = framed.bodies.iter().map(|frame| frame.to_vec()).collect();
            prop_assert_eq!(back, bodies);
        }

        #[test]
        fn whatever_comes_is_read_or_refused(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..6)) {
            let fits = frames.first().is_some_and(|first| first.first() == Some(&3))
                && frames.len() <= 4
                && frames.iter().map(Vec::len).sum::<usize>() <= 100;
            prop_assert_eq!(FORM.unwrap(frames.into_iter().collect()).is_ok(), fits);
        }
    }

    #[test]
    fn each_bound_is_named() {
        let none: [Vec<u8>; 0] = [];
        assert_eq!(FORM.unwrap(Multipart::default()).unwrap_err(), FramingError::Empty);
        assert_eq!(FORM.unwrap(Multipart::single(vec![])).unwrap_err(), FramingError::Empty);
        let other = FORM.unwrap(Multipart::single(vec![4])).unwrap_err();
        assert_eq!(other, FramingError::Version { found: 4, known: 3 });
        let many = FORM.wrap(b"", vec![vec![]; 4]).unwrap_err();
        assert_eq!(many, FramingError::Frames { found: 5, max: 4 });
        assert!(FORM.wrap(&[0; 99], none.clone()).is_ok());
        let large = FORM.wrap(&[0; 100], none).unwrap_err();
        assert_eq!(large, FramingError::Bytes { found: 101, max: 100 });
    }
}
