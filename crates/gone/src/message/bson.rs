//! The one document of the original: `{data: binary, id: string}`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::message::frame::MAX_ID;

const STRING: u8 = 0x02;
const BINARY: u8 = 0x05;

/// Why bytes are not the original's document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the document of an original node: {0}")]
pub struct BsonError(&'static str);

/// The document as the original writes it.
pub fn encode(id: &str, data: &[u8]) -> Bytes {
    // Lengths fit: messages and ids are bounded far below 2 GiB.
    let length = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
    let total = 4 + (1 + 5 + 4 + 1 + data.len()) + (1 + 3 + 4 + id.len() + 1) + 1;
    let mut document = BytesMut::with_capacity(total);
    document.put_i32_le(length(total));
    document.put_slice(b"\x05data\0");
    document.put_i32_le(length(data.len()));
    document.put_u8(0);
    document.put_slice(data);
    document.put_slice(b"\x02id\0");
    document.put_i32_le(length(id.len() + 1));
    document.put_slice(id.as_bytes());
    document.put_slice(b"\0\0");
    document.freeze()
}

/// The id and the data. The order of the fields does not matter; fields of other names are passed over.
///
/// # Errors
/// [`BsonError`], for whatever is not whole, and for types that are unknown.
pub fn decode(document: &Bytes) -> Result<(String, Bytes), BsonError> {
    let mut at = Cursor { document, at: 0 };
    if at.length()? != document.len() {
        return Err(BsonError("its length is not that of the message"));
    }
    let (mut id, mut data) = (None, None);
    loop {
        let kind = at.take(1)?[0];
        if kind == 0 {
            break;
        }
        let name = at.name()?;
        match (kind, name) {
            (STRING, b"id") => id = Some(at.string()?),
            (BINARY, b"data") => data = Some(at.binary()?),
            (_, b"id" | b"data") => return Err(BsonError("id has to be a string and data binary")),
            _ => at.skip(kind)?,
        }
    }
    if at.at != document.len() {
        return Err(BsonError("bytes after its end"));
    }
    Ok((id.ok_or(BsonError("it has no id"))?, data.ok_or(BsonError("it has no data"))?))
}

struct Cursor<'a> {
    document: &'a Bytes,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], BsonError> {
        let end = self.at.saturating_add(bytes);
        let taken = self.document.get(self.at..end).ok_or(BsonError("it ends too early"))?;
        self.at = end;
        Ok(taken)
    }

    fn length(&mut self) -> Result<usize, BsonError> {
        let bytes = self.take(4)?;
        let length = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        usize::try_from(length).map_err(|_| BsonError("a negative length"))
    }

    fn name(&mut self) -> Result<&'a [u8], BsonError> {
        let rest = &self.document[self.at..];
        let end = rest.iter().position(|byte| *byte == 0).ok_or(BsonError("a name without an end"))?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    fn string(&mut self) -> Result<String, BsonError> {
        let length = self.length()?;
        let text = self.take(length)?.strip_suffix(b"\0").ok_or(BsonError("a string without an end"))?;
        let text = std::str::from_utf8(text).map_err(|_| BsonError("an id that is no text"))?;
        if text.len() > MAX_ID {
            return Err(BsonError("an id of more than 200 bytes"));
        }
        Ok(text.to_owned())
    }

    fn binary(&mut self) -> Result<Bytes, BsonError> {
        let length = self.length()?;
        // The subtype says what the bytes mean, and here they are the message whatever it says; only the old
        // binary (2) has a length of its own before them.
        let subtype = self.take(1)?[0];
        let (start, bytes) = (self.at, self.take(length)?);
        if subtype != 2 {
            return Ok(self.document.slice(start..self.at));
        }
        let inner = bytes.first_chunk::<4>().map(|length| u32::from_le_bytes(*length) as usize);
        if inner.is_none_or(|inner| inner + 4 != length) {
            return Err(BsonError("an old binary with a wrong length"));
        }
        Ok(self.document.slice(start + 4..self.at))
    }

    fn skip(&mut self, kind: u8) -> Result<(), BsonError> {
        let bytes = match kind {
            0x01 | 0x09 | 0x11 | 0x12 => 8,
            0x02 | 0x0d | 0x0e => self.length()?,
            0x03 | 0x04 => self.length()?.checked_sub(4).ok_or(BsonError("a document that is too short"))?,
            0x05 => self.length()?.saturating_add(1),
            0x07 => 12,
            0x08 => 1,
            0x06 | 0x0a | 0x7f | 0xff => 0,
            0x10 => 4,
            0x13 => 16,
            _ => return Err(BsonError("a field of an unknown type")),
        };
        self.take(bytes).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOLDEN: &[u8] = b"\x25\0\0\0\x05data\0\x08\0\0\0\x00message!\x02id\0\x05\0\0\0wire\0\0";

    #[test]
    fn the_bytes_are_the_originals() {
        assert_eq!(GOLDEN.len(), 37);
        assert_eq!(&encode("wire", b"message!")[..], GOLDEN);
        let (id, data) = decode(&GOLDEN.into()).unwrap();
        assert_eq!((id.as_str(), &data[..]), ("wire", &b"message!"[..]));
    }

    #[test]
    fn fields_come_in_any_order_and_others_are_passed_over() {
        let mut fields =
            b"\x10number\0\x01\0\0\0\x08yes\0\x01\x03sub\0\x05\0\0\0\0\x02text\0\x02\0\0\0a\0".to_vec();
        fields.extend(b"\x02id\0\x02\0\0\0x\0\x05data\0\x01\0\0\0\0y\0");
        let mut document = i32::try_from(fields.len() + 4).unwrap().to_le_bytes().to_vec();
        document.extend(fields);
        let (id, data) = decode(&document.into()).unwrap();
        assert_eq!((id.as_str(), &data[..]), ("x", &b"y"[..]));
    }

    #[test]
    fn what_is_cut_short_or_of_other_types_is_refused() {
        for length in 0..GOLDEN.len() {
            assert!(decode(&Bytes::from_static(&GOLDEN[..length])).is_err(), "{length}");
        }
        let other = b"\x11\0\0\0\x02data\0\x02\0\0\0x\0\0";
        assert_eq!(
            decode(&Bytes::from_static(other)),
            Err(BsonError("id has to be a string and data binary"))
        );
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(id in "[a-zé]{0,60}", data in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(decode(&encode(&id, &data)), Ok((id, Bytes::from(data))));
        }

        #[test]
        fn changed_bytes_do_no_harm(at in 0_usize..37, byte in any::<u8>()) {
            let mut document = GOLDEN.to_vec();
            document[at] = byte;
            let _ = decode(&document.into());
        }
    }
}
