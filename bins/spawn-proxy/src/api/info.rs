//! What this program is and what it runs on.

use std::time::UNIX_EPOCH;

use jiff::Timestamp;
use serde_json::{Value, json};

/// The answer to `/info`, in the shape that clients know.
pub(super) fn info(host_name: &str) -> Value {
    let (memory, threads) = process();
    json!({ "Spawn Sync Service": {
        "Host": host_name,
        "Release": { "Date": release_date(), "Number": env!("CARGO_PKG_VERSION") },
        "Runtime": {
            "CPU": std::thread::available_parallelism().map_or(1, usize::from),
            "Compiler": concat!("rust ", env!("CARGO_PKG_RUST_VERSION"), " or newer"),
            "Memory": memory,
            "Threads": threads,
        },
    }})
}

/// When the program's file was written: what it is built from carries no date, so that builds can be repeated.
fn release_date() -> Option<String> {
    let written = std::env::current_exe().ok()?.metadata().ok()?.modified().ok()?;
    let seconds = written.duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?.to_string())
}

/// Resident memory in the notation that clients know, and the number of threads.
fn process() -> (String, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = |key: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(key))?;
        value.split_whitespace().next()?.parse::<u32>().ok()
    };
    let kilobytes = number("VmRSS:").unwrap_or_default();
    (format!("{:.2}MB", f64::from(kilobytes) / 1024.0), number("Threads:").map_or(1, u64::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_value_of_its_kind() {
        let info = &info("vm")["Spawn Sync Service"];
        assert_eq!(info["Host"], "vm");
        assert!(info["Release"]["Date"].as_str().unwrap().ends_with('Z'));
        assert!(info["Runtime"]["CPU"].as_u64() > Some(0) && info["Runtime"]["Threads"].as_u64() > Some(0));
        let memory = info["Runtime"]["Memory"].as_str().unwrap();
        assert!(memory.strip_suffix("MB").unwrap().parse::<f64>().unwrap() > 0.0, "{memory}");
    }
}
