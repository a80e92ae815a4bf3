//! Connections: to the server, or by way of Sentinels to the master that they name.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, ProtocolVersion,
    PushInfo, RedisError, TlsCertificates,
};

use http_fetch::url::UrlError;

use crate::RedisUrl;

/// Why there is no connection. It can be tried again.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct DialError {
    /// What was being done and what came of it.
    pub what: String,
}

/// Finds at start what would fail at every dial: certificates that cannot be used.
///
/// # Errors
/// The sentence about them.
pub fn check(url: &RedisUrl) -> Result<(), UrlError> {
    if url.tls {
        // Whoever was first has chosen; a second choice is refused and of no harm.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
    let (host, port) = url.hosts.first().cloned().unwrap_or_default();
    client(url, &host, port, true)
        .map(drop)
        .map_err(|error| UrlError { url: url.to_string(), what: error.to_string() })
}

/// A connection to the server, or to the master that a Sentinel names. `patience` bounds the dial and then each
/// answer. `told` gets what the server says unasked (subscriptions, changed keys) and that the connection ended;
/// it is called from the runtime and must not block.
///
/// # Errors
/// [`DialError`], with the server's address in it.
pub async fn dial(
    url: &RedisUrl,
    patience: Duration,
    told: impl Fn(PushInfo) + Send + Sync + 'static,
) -> Result<MultiplexedConnection, DialError> {
    let (host, port) = match &url.sentinel {
        Some(name) => master(url, name, patience).await?,
        None => url.hosts.first().cloned().unwrap_or_default(),
    };
    let failed = |error: RedisError| DialError { what: format!("connecting to {host}:{port}: {error}") };
    let client = client(url, &host, port, true).map_err(failed)?;
    let told = move |info: PushInfo| {
        told(info);
        Ok::<(), ()>(())
    };
    let config = settings(patience).set_push_sender(told);
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)
}

fn settings(patience: Duration) -> AsyncConnectionConfig {
    // Without them a connection that died in silence would be waited for without end.
    AsyncConnectionConfig::new().set_connection_timeout(Some(patience)).set_response_timeout(Some(patience))
}

/// Asks one Sentinel after the other.
async fn master(url: &RedisUrl, name: &str, patience: Duration) -> Result<(String, u16), DialError> {
    let mut reasons = Vec::new();
    let share = patience / u32::try_from(url.hosts.len() + 1).unwrap_or(u32::MAX);
    for (host, port) in &url.hosts {
        let asking = async {
            let client = client(url, host, *port, false)?;
            let mut connection =
                client.get_multiplexed_async_connection_with_config(&settings(share)).await?;
            redis::cmd("SENTINEL")
                .arg(&["get-master-addr-by-name", name])
                .query_async::<Option<(String, u16)>>(&mut connection)
                .await
        };
        match tokio::time::timeout(share, asking).await {
            Ok(Ok(Some(master))) => return Ok(master),
            Ok(Ok(None)) => reasons.push(format!("{host}:{port} knows no master {name:?}")),
            Ok(Err(error)) => reasons.push(format!("{host}:{port}: {error}")),
            Err(_) => reasons.push(format!("{host}:{port} does not answer")),
        }
    }
    Err(DialError { what: format!("asking the Sentinels: {}", reasons.join("; ")) })
}

/// A client of the server, or (without `server`) of a Sentinel, which has no databases and no users of ours.
fn client(url: &RedisUrl, host: &str, port: u16, server: bool) -> Result<Client, RedisError> {
    let addr = if url.tls {
        ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host.to_owned(), port)
    };
    let info = addr.into_connection_info()?.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let mut redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    if server {
        redis = redis.set_db(url.db);
        if let Some(user) = &url.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &url.password {
            redis = redis.set_password(password);
        }
    }
    let info = info.set_redis_settings(redis);
    if !url.tls {
        return Client::open(info);
    }
    let client_tls =
        url.client.clone().map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    Client::build_with_tls(info, TlsCertificates { client_tls, root_cert: url.ca.clone() })
}
