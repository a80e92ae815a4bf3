//! Connections that tell of every change of one record.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind};

use crate::error::LockError;
use crate::lock::{Id, Listener, News, RedisUrl};

use super::{channel, record_key, unreachable};

/// A connection that tells the listener of every change of the record, and of its own end.
pub(super) async fn open(
    url: &RedisUrl,
    id: &Id,
    patience: Duration,
    listener: Listener,
) -> Result<MultiplexedConnection, LockError> {
    let told = move |info: PushInfo| match info.kind {
        PushKind::Message | PushKind::Invalidate => listener(News::Changed),
        PushKind::Disconnection => listener(News::Broken),
        _ => {}
    };
    let mut connection = redis_link::dial(url, patience, told)
        .await
        .map_err(|error| LockError::Unreachable { lock: url.to_string(), what: error.to_string() })?;
    let subscribed = connection.subscribe(channel(id)).await;
    subscribed.map_err(|error| unreachable(url, "subscribing", &error))?;
    // Tells of renewals too, and of a record that is flushed away. Where it is not allowed, looking has to do.
    let tracking = redis::cmd("CLIENT")
        .arg(&["TRACKING", "ON", "BCAST", "NOLOOP", "PREFIX", &record_key(id)])
        .query_async::<()>(&mut connection)
        .await;
    if let Err(error) = tracking {
        if error.is_io_error() {
            return Err(unreachable(url, "talking to the server", &error));
        }
        tracing::debug!(lock = %url, %error, "Redis does not tell of changed keys; looking instead");
    }
    Ok(connection)
}
