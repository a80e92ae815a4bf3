//! Z85 (ZeroMQ RFC 32) for keys: 32 bytes as 40 printable characters.
//!
//! The binding's decoder takes any character for a digit and leaks its input, which may be a secret.

const DIGITS: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// The text of a key.
pub(crate) fn encode(key: &[u8; 32]) -> String {
    let mut text = String::with_capacity(40);
    for chunk in key.as_chunks::<4>().0 {
        let number = u32::from_be_bytes(*chunk);
        for power in [85_u32.pow(4), 85_u32.pow(3), 85_u32.pow(2), 85, 1] {
            text.push(char::from(DIGITS[(number / power % 85) as usize]));
        }
    }
    text
}

/// The key of a text; `None` when it is no 40 characters of Z85.
pub(crate) fn decode(text: &str) -> Option<[u8; 32]> {
    let text: &[u8; 40] = text.as_bytes().try_into().ok()?;
    let mut key = [0; 32];
    for (bytes, digits) in key.as_chunks_mut::<4>().0.iter_mut().zip(text.as_chunks::<5>().0) {
        let mut number = 0_u64;
        for digit in digits {
            number = number * 85 + DIGITS.iter().position(|one| one == digit)? as u64;
        }
        *bytes = u32::try_from(number).ok()?.to_be_bytes();
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_same_as_libzmq_and_back(key: [u8; 32]) {
            prop_assert_eq!(encode(&key), zmq::z85_encode(&key).unwrap());
            prop_assert_eq!(decode(&encode(&key)), Some(key));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let good = encode(&[7; 32]);
        assert_eq!(decode(&good[1..]), None, "too short");
        assert_eq!(decode(&format!("{good}0")), None, "too long");
        assert_eq!(decode(&good.replacen(|_| true, "\"", 1)), None, "not a digit");
        assert_eq!(decode(&"#".repeat(40)), None, "more than 32 bits in five digits");
    }
}
