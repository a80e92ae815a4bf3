//! An answer that does not end, line by line.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::error::{FetchError, with_causes};

/// The lines of an answer as they come. Dropped, the connection is closed.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    /// What came after the last line that was given.
    rest: BytesMut,
    limit: usize,
}

impl Lines {
    pub(crate) fn new(body: Incoming, limit: usize) -> Self {
        Self { body, rest: BytesMut::new(), limit }
    }

    /// The next line that is not empty, without its end; none when the answer has ended. A future that is
    /// dropped loses nothing.
    ///
    /// # Errors
    /// [`FetchError::Broken`], or [`FetchError::TooLarge`] for a line beyond the limit.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        // Up to there, no end of a line was found.
        let mut searched = 0;
        loop {
            if let Some(at) = self.rest[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(searched + at + 1).freeze();
                searched = 0;
                let line = line.slice(..line.len() - 1);
                if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
                    return Ok(Some(line));
                }
                continue;
            }
            searched = self.rest.len();
            if searched > self.limit {
                return Err(FetchError::TooLarge { limit: self.limit });
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.rest.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(FetchError::Broken { what: with_causes(&error) }),
                None if self.rest.is_empty() => return Ok(None),
                None => return Ok(Some(self.rest.split().freeze())),
            }
        }
    }

    /// The beginning of the first line as text, for an error message.
    pub(crate) async fn first(mut self) -> String {
        let line = self.next().await.ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&line).chars().take(300).collect()
    }
}
