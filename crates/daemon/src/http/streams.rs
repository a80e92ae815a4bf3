//! What HTTP/2 needs around a service that HTTP/1 does itself: requests that are counted, answers in
//! pieces, no body after HEAD.
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;
use pin_project_lite::pin_project;

use super::clock::{Clock, OpenStream};

/// Bytes of an answer that are handed over at a time: the largest frame that every client takes. The
/// rest of a large piece stays here until there is room, instead of in a queue without a bound.
const PIECE: usize = 16 * 1024;

/// The service of an HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Streams<S> {
    service: S,
    clock: Arc<Clock>,
}

impl<S> Streams<S> {
    pub(super) const fn new(service: S, clock: Arc<Clock>) -> Self {
        Self { service, clock }
    }
}

impl<S, B> Service<Request<Incoming>> for Streams<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    B: Body,
{
    type Response = Response<Answer<B>>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (stream, head) = (Some(self.clock.open_stream()), request.method() == Method::HEAD);
        Answering { future: self.service.call(request), stream, head }
    }
}

pin_project! {
    /// An answer that is being made.
    pub(super) struct Answering<F> {
        #[pin]
        future: F,
        // Until the answer has it.
        stream: Option<OpenStream>,
        head: bool,
    }
}

impl<F, B, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<Answer<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.future.poll(context))?;
        if *this.head {
            tell_length(&mut response);
        }
        let (stream, head) = (this.stream.take(), *this.head);
        Poll::Ready(Ok(response.map(|body| Answer { body, rest: Bytes::new(), stream, head })))
    }
}

/// The length that the body would have had, unless the service said it or there is none.
fn tell_length<B: Body>(response: &mut Response<B>) {
    let none = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if let Some(length) = response.body().size_hint().exact().filter(|length| *length > 0 && !none) {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
}

pin_project! {
    /// The body of an answer.
    pub(super) struct Answer<B> {
        #[pin]
        body: B,
        rest: Bytes,
        stream: Option<OpenStream>,
        head: bool,
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if *this.head {
            return Poll::Ready(None);
        }
        // hyper asks for more when the piece before has found room.
        if let Some(stream) = this.stream {
            stream.passed();
        }
        if this.rest.is_empty() {
            let Some(frame) = ready!(this.body.poll_frame(context)?) else { return Poll::Ready(None) };
            match frame.map_data(|mut data| data.copy_to_bytes(data.remaining())).into_data() {
                Ok(data) => *this.rest = data,
                Err(other) => return Poll::Ready(Some(Ok(other))),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        if let Some(stream) = this.stream.as_mut().filter(|_| !piece.is_empty()) {
            stream.hand_over();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.head || (self.rest.is_empty() && self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, inner) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
