//! First answers as they are kept for repeated requests. Pure.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use super::codec::{Corrupt, Decoded, Input, put_bytes, put_number};
use super::encode::put_headers;
use super::record::headers;
use crate::{Answer, AnswerBody, Digest};

/// Answers with longer bodies are not kept.
pub(crate) const MAX_ANSWER_BODY: usize = 64 * 1024;
/// Nor are those whose headers take more than this.
const MAX_ANSWER_HEADERS: usize = 64 * 1024;

/// A key written down apart from its update, so that it outlives it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Of method, target and key.
    pub(crate) scope: Digest,
    /// Of the body.
    pub(crate) body: Digest,
    /// The update.
    pub(crate) sequence: u64,
    /// The log's time of its append.
    pub(crate) at_ms: u64,
    /// Whether the answer is the one to give.
    pub(crate) last: bool,
    /// The answer, if it is kept.
    pub(crate) answer: Option<Arc<Answer>>,
}

/// Whether an answer can be kept.
pub(crate) fn keepable(answer: &Answer) -> bool {
    let headers: usize = answer.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let AnswerBody::Whole(body) = &answer.body else { return false };
    body.len() <= MAX_ANSWER_BODY && headers <= MAX_ANSWER_HEADERS
}

/// Appends an entry: length, checksum, data.
pub(crate) fn encode(out: &mut Vec<u8>, entry: &Entry) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&entry.scope);
    out.extend_from_slice(&entry.body);
    put_number(out, entry.sequence);
    put_number(out, entry.at_ms);
    out.push(entry.last.into());
    match entry.answer.as_deref().map(|answer| (answer, &answer.body)) {
        Some((answer, AnswerBody::Whole(body))) => {
            put_number(out, answer.status.as_u16().into());
            put_headers(out, &answer.headers);
            put_bytes(out, body);
        }
        _ => put_number(out, 0),
    }
    let data = start + 8;
    let (len, crc) = ((out.len() - data) as u32, crc32c::crc32c(&out[data..]));
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..data].copy_from_slice(&crc.to_le_bytes());
}

/// Reads the next entry.
pub(crate) fn decode(input: &mut Input<'_>) -> Decoded<Entry> {
    let len = u32::from_le_bytes(input.array()?);
    let crc = u32::from_le_bytes(input.array()?);
    let data = input.take(len as usize)?;
    if crc != crc32c::crc32c(data) {
        return Err(Corrupt("an answer's checksum does not match"));
    }
    let mut data = Input(data);
    let (scope, body) = (data.array()?, data.array()?);
    let (sequence, at_ms, last) = (data.number()?, data.number()?, data.byte()? != 0);
    let answer = match data.small::<u16>()? {
        0 => None,
        status => {
            let status = StatusCode::from_u16(status).map_err(|_| Corrupt("a status is not one"))?;
            let headers = headers(&mut data)?;
            let body = AnswerBody::Whole(Bytes::copy_from_slice(data.bytes()?));
            Some(Arc::new(Answer { status, headers, body }))
        }
    };
    Ok(Entry { scope, body, sequence, at_ms, last, answer })
}
