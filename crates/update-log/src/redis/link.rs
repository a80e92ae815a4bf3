//! From an address to a connection on which the log can be used: durable enough, and the log that we know.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisError, Script, Value};

use super::options::{Durability, RedisLogOptions, RedisOpenError};
use super::shared::Inner;

/// The scripts.
pub(super) struct Scripts {
    pub(super) batch: Script,
    pub(super) hello: Script,
    pub(super) view: Script,
    pub(super) load: Script,
    pub(super) status: Script,
    pub(super) letters: Script,
    pub(super) tend: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let with = |own: &str| Script::new(&format!("{}{own}", include_str!("lua/prelude.lua")));
        Self {
            batch: with(include_str!("lua/batch.lua")),
            hello: with(include_str!("lua/hello.lua")),
            view: with(include_str!("lua/view.lua")),
            load: with(include_str!("lua/load.lua")),
            status: with(include_str!("lua/status.lua")),
            letters: with(include_str!("lua/letters.lua")),
            tend: with(include_str!("lua/tend.lua")),
        }
    }
}

/// Something that was pushed to us.
pub(super) enum Push {
    /// What somebody did.
    News(Vec<u8>),
    /// The connection is of no use any more.
    Broken,
}

/// What this process knows of the log, for [`hello`].
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// The log's identity; empty at first.
    pub(super) id: String,
    /// How often the log has begun on another run of a server.
    pub(super) epoch: u64,
    /// The last batch whose results are known.
    pub(super) acknowledged: u64,
    /// The next sequence.
    pub(super) next: u64,
}

/// What the log answered.
#[derive(Debug, Clone)]
pub(super) struct Met {
    pub(super) id: String,
    pub(super) epoch: u64,
    pub(super) next: u64,
    /// The first sequence that was lost, of those that this process knew; as large as its `next` when none was.
    pub(super) lost_from: u64,
    /// Batches of this process that were acknowledged, and lost.
    pub(super) lost_batches: u64,
}

/// How long those that knew the log before its server was replaced have for telling what they have seen.
const GATHER_MS: u64 = 1500;

/// A connection that tells of all news.
pub(super) async fn open(
    inner: &Inner,
    push: impl Fn(Push) + Send + Sync + 'static,
) -> Result<MultiplexedConnection, RedisOpenError> {
    let options = &inner.options;
    let opening = async {
        let told = move |info: PushInfo| match info.kind {
            PushKind::Message => {
                if let Some(Value::BulkString(news)) = info.data.into_iter().nth(1) {
                    push(Push::News(news));
                }
            }
            PushKind::Disconnection => push(Push::Broken),
            _ => {}
        };
        let dialed = redis_link::dial(&options.url, options.patience, told).await;
        let mut connection = dialed.map_err(|error| away(options, error.to_string()))?;
        check(options, &mut connection).await?;
        let subscribed = connection.subscribe(options.key("news")).await;
        subscribed.map_err(|error| away(options, format!("subscribing: {error}")))?;
        Ok(connection)
    };
    let opened = tokio::time::timeout(options.patience, opening).await;
    opened.unwrap_or_else(|_| Err(away(options, format!("no answer within {:?}", options.patience))))
}

/// Whether what the server acknowledges is safe. Where it may not be asked, only `relaxed` goes on.
async fn check(
    options: &RedisLogOptions,
    connection: &mut MultiplexedConnection,
) -> Result<(), RedisOpenError> {
    for (setting, wanted, told) in [
        ("appendonly", "yes", "appendonly yes"),
        ("appendfsync", "always", "appendfsync always"),
        ("maxmemory-policy", "noeviction", "maxmemory-policy noeviction"),
    ] {
        let asked: Result<HashMap<String, String>, RedisError> =
            redis::cmd("CONFIG").arg("GET").arg(setting).query_async(connection).await;
        let found = match asked {
            Ok(settings) => settings.get(setting).cloned().unwrap_or_default(),
            Err(error) if error.is_io_error() || error.is_timeout() => {
                return Err(away(options, format!("asking for {setting}: {error}")));
            }
            Err(error) => format!("unknown, for CONFIG GET was refused: {error}"),
        };
        if found == wanted {
            continue;
        }
        let log = options.address();
        if options.durability == Durability::Strict {
            return Err(RedisOpenError::Unsafe { log, found: format!("{setting} {found}"), wanted: told });
        }
        tracing::warn!(%log, setting, %found, wanted, "Redis may lose updates that it acknowledged");
    }
    Ok(())
}

/// Meets the log: finds it, or begins it, and hears what was lost since.
pub(super) async fn hello(
    inner: &Inner,
    connection: &mut MultiplexedConnection,
    known: &Known,
) -> Result<Met, RedisOpenError> {
    let options = &inner.options;
    let mut call = inner.scripts.hello.prepare_invoke();
    call.key(options.key("meta")).arg(&inner.instance).arg(&known.id).arg(known.epoch);
    call.arg(known.acknowledged).arg(known.next).arg(super::random()).arg(GATHER_MS);
    let answer: Vec<String> = call
        .invoke_async(connection)
        .await
        .map_err(|error| away(options, format!("meeting the log: {error}")))?;
    let field = |index: usize| answer.get(index).cloned().unwrap_or_default();
    let number = |index: usize| field(index).parse().unwrap_or_default();
    let log = options.address();
    match field(0).as_str() {
        "ok" => Ok(Met {
            id: field(1),
            epoch: number(2),
            next: number(3),
            lost_from: number(4),
            lost_batches: number(6),
        }),
        "format" => Err(RedisOpenError::Newer { log, found: field(1) }),
        "vanished" => Err(RedisOpenError::Away {
            log,
            what: "the log is not in this Redis any more (flushed, or an empty server took its place): restore it, \
                   or restart this process to begin an empty log"
                .into(),
        }),
        "another" => Err(RedisOpenError::Away {
            log,
            what: "another log is in its place: restart this process to go on with that one".into(),
        }),
        other => Err(RedisOpenError::Away { log, what: format!("it answered {other:?}") }),
    }
}

pub(super) fn away(options: &RedisLogOptions, what: String) -> RedisOpenError {
    RedisOpenError::Away { log: options.address(), what }
}
