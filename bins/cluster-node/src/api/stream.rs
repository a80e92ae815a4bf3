//! Events for a caller, as they come.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use daemon::drain::Drain;
use http::Response;
use prometheus_client::metrics::counter::Counter;
use serde_json::json;
use tokio::sync::mpsc;

use super::answer::{Content, Events, events};
use crate::event::{data, kind, time};
use crate::ring::{Piece, Reader, Ring};

/// Events in one piece.
const PORTION: usize = 64;
/// Between two comments in a silent stream.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Answers with what the reader reads, until the caller goes or the end begins.
pub fn stream(
    mut reader: Reader,
    ring: Ring,
    left_out: Counter,
    drain: Drain,
    held: impl Send + 'static,
) -> Response<Content> {
    let (to, pieces) = mpsc::channel(1);
    tokio::spawn(async move {
        let _held = held;
        // The head goes out at once, also when nothing happens for long.
        let mut piece = Bytes::from_static(b"retry: 1000\n\n");
        loop {
            tokio::select! {
                sent = to.send(piece) => if sent.is_err() { return },
                () = drain.draining() => return,
            }
            piece = tokio::select! {
                any = reader.news() => {
                    if !any {
                        return;
                    }
                    render(&reader.read(PORTION), &ring, &left_out)
                }
                () = tokio::time::sleep(HEARTBEAT) => Bytes::from_static(b":\n\n"),
                () = to.closed() => return,
                () = drain.draining() => return,
            };
        }
    });
    events(Events(pieces))
}

fn render(pieces: &[Piece], ring: &Ring, left_out: &Counter) -> Bytes {
    let mut text = BytesMut::new();
    for piece in pieces {
        let one = match piece {
            Piece::Gap(count) => {
                left_out.inc_by(*count);
                let now = time(std::time::SystemTime::now());
                format!("event: gap\ndata: {}\n\n", json!({ "count": count, "time": now }))
            }
            Piece::Entry(entry) => format!(
                "id: {}\nevent: {}\ndata: {}\n\n",
                ring.id(entry.number),
                kind(&entry.event),
                data(&entry.event, entry.at)
            ),
        };
        text.put_slice(one.as_bytes());
    }
    text.freeze()
}
