//! What the proxy keeps on disk: the data directory and the update log.

use std::sync::Arc;

use daemon::Failure;
use daemon::state_dir::{StateDir, StateDirError};
use update_log::{FileLog, FileLogOptions, UpdateLog};

use crate::config::Config;
use crate::nodes::store::{self, Stored};

/// The format of what is in the data directory beside the log.
const FORMAT: u32 = 1;

/// Recent updates held in memory, by their size on disk: what flows is read from there, a backlog from disk.
/// In memory each takes a few times as much.
const RECENT: u64 = 16 << 20;

/// The data directory, locked against a second instance.
///
/// # Errors
/// In one sentence: in use, read-only, full, or written by a newer version.
pub(crate) fn open_data_dir(config: &Config) -> anyhow::Result<Arc<StateDir>> {
    let open = || {
        let state = StateDir::open(&config.data_dir)?;
        state.check_format("spawn-proxy", FORMAT)?;
        Ok(state)
    };
    let failed = |error: StateDirError| Failure::code(error.exit_code(), error.to_string());
    Ok(Arc::new(open().map_err(failed)?))
}

/// The update log.
///
/// # Errors
/// As [`open_data_dir`]; also when what was durable does not read back.
pub(crate) fn open_log(config: &Config) -> anyhow::Result<Arc<dyn UpdateLog>> {
    let options = FileLogOptions {
        max_pending_bytes: config.log.max_pending_bytes,
        retain: config.log.retain,
        retain_bytes: config.log.retain_bytes,
        remember: config.log.remember,
        max_keys: config.log.max_keys,
        cache_bytes: RECENT,
        ..FileLogOptions::new(&config.log_dir)
    };
    let log = FileLog::open(options).map_err(|error| Failure::code(error.exit_code(), error.to_string()))?;
    Ok(log)
}

/// The nodes as they were last.
///
/// # Errors
/// When their file cannot be read or understood.
pub(crate) fn stored_nodes(state: &StateDir) -> anyhow::Result<Stored> {
    let Some(content) = state.read(store::FILE)? else { return Ok(Stored::default()) };
    Stored::from_json(&content).map_err(|error| {
        let what = format!(
            "{} in the data directory cannot be understood: {error}; remove it to go by the configuration",
            store::FILE
        );
        Failure::running(what).into()
    })
}
