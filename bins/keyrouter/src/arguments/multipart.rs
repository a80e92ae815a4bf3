//! Fields of a `multipart/form-data` body that was read whole.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::form::Fields;

/// No form that asks for three fields needs more parts.
const MAX_PARTS: usize = 100;

/// Takes the fields of a body; what stands before the point where it breaks counts.
///
/// # Errors
/// Why the rest could not be read.
pub(super) fn take(boundary: Option<&str>, body: &[u8], fields: &mut Fields<'_>) -> Result<(), String> {
    let boundary = boundary.ok_or("its content type names no boundary")?;
    let stream = Whole(Some(Bytes::copy_from_slice(body)));
    let mut parts = multer::Multipart::new(stream, boundary);
    let read = async {
        for _ in 0..MAX_PARTS {
            let Some(part) = parts.next_field().await? else { return Ok(()) };
            // A file is no value, whatever it is called.
            let Some(name) = part.name().filter(|_| part.file_name().is_none()).map(str::to_owned) else {
                continue;
            };
            fields.offer(name.as_bytes(), Cow::Owned(part.bytes().await?.to_vec()));
        }
        Ok::<_, multer::Error>(())
    };
    // All of the body is there, so that nothing is ever waited for.
    match pin!(read).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done.map_err(|error| error.to_string()),
        Poll::Pending => Err("it breaks off".to_owned()),
    }
}

/// A stream of one part.
struct Whole(Option<Bytes>);

impl futures_util::Stream for Whole {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = Option<(Vec<u8>, i64, i64)>;

    fn parse(boundary: Option<&str>, body: &str) -> (Result<(), String>, Found) {
        let mut fields = Fields::default();
        let read = take(boundary, body.as_bytes(), &mut fields);
        (read, fields.finish().ok().map(|found| (found.key.into_owned(), found.min, found.max)))
    }

    fn part(name: &str, value: &str) -> String {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    }

    #[test]
    fn parts_are_fields_and_files_are_not() {
        let file = "--b\r\nContent-Disposition: form-data; name=\"key\"; filename=\"f\"\r\n\r\nfile\r\n";
        let body = [file, &part("key", "k\n"), &part("min", "1"), &part("max", "2"), "--b--\r\n"].concat();
        assert_eq!(parse(Some("b"), &body), (Ok(()), Some((b"k\n".to_vec(), 1, 2))));
    }

    #[test]
    fn a_broken_body_says_why_and_what_came_before_counts() {
        let body = [part("key", "k"), part("min", "1"), part("max", "2"), part("x", "y")].concat();
        let (read, found) = parse(Some("b"), &body);
        assert!(read.is_err() && found.is_some(), "{read:?} {found:?}");
        assert!(parse(Some("b"), "x").0.is_err());
        assert!(parse(None, &body).0.is_err_and(|reason| reason.contains("boundary")));
        let many = part("x", "").repeat(MAX_PARTS * 1000);
        assert_eq!(parse(Some("b"), &many), (Ok(()), None));
    }
}
