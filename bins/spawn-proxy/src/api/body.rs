//! Bodies of requests: bounded in size and in time.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::fault::Fault;

/// Reads a body whole. One that is declared too long is not begun, so that a client that waits for
/// leave to send it is spared the sending.
///
/// # Errors
/// 413, 408, or 400 when the client broke off.
pub(super) async fn read<B>(body: B, limit: usize, patience: Duration) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    match tokio::time::timeout(patience, Limited::new(body, limit).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(error)) => Err(Fault::body(format!("The body broke off: {error}")).closing()),
        Err(_) => {
            let info = format!("Send the body within {} seconds", patience.as_secs_f64());
            Err(Fault::new(StatusCode::REQUEST_TIMEOUT, "The body did not come in time", info).closing())
        }
    }
}

fn too_large(limit: usize) -> Fault {
    let info = format!("Send no more than {limit} bytes, in several requests if need be");
    Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large", info).closing()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    fn chunks(sizes: &[usize]) -> impl Body<Data = Bytes, Error = std::io::Error> + use<> {
        let frames: Vec<_> =
            sizes.iter().map(|&size| Ok(Frame::data(Bytes::from(vec![b'a'; size])))).collect();
        StreamBody::new(futures_util::stream::iter(frames))
    }

    async fn status(
        body: impl Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    ) -> u16 {
        read(body, 10, Duration::from_millis(20)).await.map_or_else(|fault| fault.status().as_u16(), |_| 200)
    }

    #[tokio::test]
    async fn bodies_are_bounded_in_size_and_time() {
        assert_eq!(status(Full::new(Bytes::from_static(b"0123456789"))).await, 200);
        assert_eq!(status(Full::new(Bytes::from_static(b"0123456789a"))).await, 413);
        assert_eq!(status(chunks(&[5, 5])).await, 200);
        assert_eq!(status(chunks(&[5, 6])).await, 413);
        let broken =
            futures_util::stream::iter([Err(std::io::Error::other("gone")) as Result<Frame<Bytes>, _>]);
        assert_eq!(status(StreamBody::new(broken)).await, 400);
        let silent = futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
        assert_eq!(status(StreamBody::new(silent)).await, 408);
    }
}
