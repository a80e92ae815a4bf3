//! What a node's answer means: whether it settles an update, may be the client's, asks for patience.

use std::time::{Duration, SystemTime};

use common::node::NodeId;
use http::StatusCode;
use http::header::{self, HeaderMap};
use update_log::{Answer, AnswerBody};

use crate::nodes::table::Table;

/// Whether an answer ends the delivery: all but 5xx and 429 do.
pub fn settles(status: StatusCode) -> bool {
    !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS
}

/// Whether a node's answer may be the client's: the node is not behind, or all that could answer are.
pub fn may_speak(table: &Table, node: &NodeId, max_lag: Duration) -> bool {
    let behind = |entry: &&crate::nodes::table::Entry| entry.live.lag() > max_lag;
    let speaker = table.get(node);
    speaker.is_none_or(|entry| !behind(&entry))
        || table.entries().iter().filter(|entry| entry.serves_reads()).all(|entry| behind(&entry))
}

/// How long a node asks to be left alone (RFC 9110, 10.2.3): seconds, or an HTTP date.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()),
    }
}

/// Tells answers apart: the class of the status, `Location`, `ETag`, and the body of a success.
/// Never 0, which stands for an answer that cannot be compared.
pub fn digest(answer: &Answer) -> u64 {
    let AnswerBody::Whole(body) = &answer.body else { return 0 };
    let mut head = crc32c::crc32c(&[u8::try_from(answer.status.as_u16() / 100).unwrap_or_default()]);
    if !answer.status.is_success() {
        return u64::from(head) << 32 | 1;
    }
    for name in [header::LOCATION, header::ETAG] {
        let value = answer.headers.get(&name).map_or(&b""[..], |value| value.as_bytes());
        head = crc32c::crc32c_append(crc32c::crc32c_append(head, value), b"\0");
    }
    (u64::from(head) << 32 | u64::from(crc32c::crc32c(body))).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn patience_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        let asked = |value: &'static str| {
            let map = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(value))]);
            retry_after(&map, now)
        };
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(asked("Tue, 06 Nov 1990 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn answers_differ_by_class_location_etag_and_body() {
        let answer = |status: u16, etag: &'static str, body: &'static str| Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static(etag))]),
            body: AnswerBody::Whole(bytes::Bytes::from_static(body.as_bytes())),
        };
        let base = digest(&answer(200, "a", "x"));
        assert_eq!(base, digest(&answer(201, "a", "x")));
        assert_ne!(base, digest(&answer(200, "b", "x")));
        assert_ne!(base, digest(&answer(200, "a", "y")));
        assert_ne!(base, digest(&answer(404, "a", "x")));
        assert_eq!(digest(&answer(404, "a", "x")), digest(&answer(409, "b", "y")));
    }
}
