//! Every flag, variable and key of spawn-proxy, in one table.

use std::time::Duration;

use daemon::http::LISTENER_SETTINGS;
use daemon::settings::{Api, BareUnit, Kind, Program, Setting, Unit};

/// spawn-proxy as its users meet it.
pub static PROGRAM: Program = Program {
    examples: "spawn-proxy --node 10.0.0.1:8080 --node 10.0.0.2:8080 --node 10.0.0.3:8080 --round-robin\n\
               spawn-proxy --config /etc/spawn.toml --check-config\n\
               spawn-proxy --config /etc/spawn.toml --print-config",
    settings: SETTINGS,
    shared: &[LISTENER_SETTINGS],
    api: Api::HostPort { host: "api.host", port: "api.port", certificates: &[] },
    bare_service_words: true,
    unit: Unit { state_flag: Some("data-dir"), low_ports: true, ..Unit::DEFAULT },
    ..Program::new(
        "spawn-proxy",
        "Sends reads to one healthy node and writes to every node in one order; a node that was away catches up",
        env!("CARGO_PKG_VERSION"),
    )
};

const LISTENING: &str = "Listening";
const READS: &str = "Reads";
const HEALTH: &str = "Health checks";
const UPDATES: &str = "Updates";
const LIMITS: &str = "Limits";

const SECONDS: Kind = Kind::Duration { min: Duration::from_secs(1), max: Duration::from_secs(86_400) };
const PORTS: Kind = Kind::PORT;

static SETTINGS: &[Setting] = &[
    Setting::new("host", Kind::Host, "Address on which clients come in")
        .flag("host")
        .group(LISTENING)
        .default("0.0.0.0")
        .at_start(),
    Setting::new("port", PORTS, "Port on which clients come in")
        .flag("port")
        .group(LISTENING)
        .default("7117")
        .at_start(),
    Setting::new("api.host", Kind::Host, "Address of the API")
        .flag("api-host")
        .group(LISTENING)
        .default("127.0.0.1")
        .at_start(),
    Setting::new("api.port", PORTS, "Port of the API")
        .flag("api-port")
        .group(LISTENING)
        .default("7118")
        .at_start(),
    Setting::new(
        "api.token-file",
        Kind::Path,
        "File with the bearer token that changing routes of the API ask for",
    )
    .flag("api-token-file")
    .group(LISTENING)
    .at_start(),
    Setting::new(
        "api.insecure",
        Kind::Switch,
        "Let everybody who reaches the API change things, without a token",
    )
    .flag("insecure-api")
    .group(LISTENING)
    .at_start(),
    Setting::new("api.cors-origin", Kind::Text, "Origin whose pages may call the API from a browser, or *")
        .flag("cors-origin")
        .group(LISTENING)
        .value_name("ORIGIN")
        .at_start(),
    Setting::new("workers", Kind::Integer { min: 1, max: 256 }, "Threads that serve clients and nodes")
        .flag("workers")
        .group(LISTENING)
        .default_note("one per processor")
        .at_start(),
    Setting::new("nodes", Kind::Tables(NODE), "A node: HOST:PORT[,priority=N][,maintenance][,inactive]")
        .flag("node")
        .value_name("NODE"),
    Setting::new("data-dir", Kind::Path, "Directory for the update log and what the API changed")
        .flag("data-dir")
        .default("spawn-data")
        .at_start(),
    Setting::new("log", Kind::Text, "Where the update log is kept: file:DIR")
        .flag("log")
        .value_name("URL")
        .default_note("file:DATA-DIR/log")
        .at_start(),
    // Reads.
    Setting::new("query-mode.round-robin", Kind::Switch, "Nodes take turns at reads")
        .flag("round-robin")
        .group(READS),
    Setting::new(
        "query-mode.by-priority",
        Kind::Switch,
        "Reads prefer priority 1, then 2, 3, .., then 0, then -1, -2, ..",
    )
    .flag("by-priority")
    .group(READS),
    Setting::new(
        "timeout",
        Kind::WAIT,
        "How long a node's answer is waited for; then 504 for a read, 202 for an update",
    )
    .flag("timeout")
    .group(READS)
    .default("10s"),
    Setting::new("reads.methods", Kind::Texts, "Methods that go to one node")
        .group(READS)
        .default("GET HEAD OPTIONS TRACE PURGE"),
    Setting::new("reads.match", Kind::Tables(MATCH), "Requests that are reads whatever their method")
        .group(READS),
    Setting::new(
        "reads.max-lag",
        Kind::DURATION,
        "A node with an older undelivered update gets no reads while another has none",
    )
    .flag("max-lag")
    .group(READS)
    .default("1s"),
    Setting::new("reads.host", Kind::Choice(&["client", "node"]), "Whose name the Host header carries")
        .group(READS)
        .default("client"),
    // Health.
    Setting::new("health-check.seconds", SECONDS, "Time between two health checks of a node")
        .flag("check-sec")
        .bare(BareUnit::Seconds)
        .group(HEALTH)
        .default("10s"),
    Setting::new(
        "health-check.url",
        Kind::Text,
        "Path that a health check asks for; when given, only 2xx and 3xx pass",
    )
    .flag("check-url")
    .value_name("PATH")
    .group(HEALTH)
    .default("/"),
    Setting::new("health-check.regexp", Kind::Regex, "What the body of a health check's answer must match")
        .flag("check-regexp")
        .group(HEALTH),
    Setting::new("health-check.timeout", Kind::WAIT, "How long one health check may take")
        .group(HEALTH)
        .default("5s"),
    // Updates.
    Setting::new(
        "updates.ack",
        Kind::Choice(&["first", "quorum", "all", "queued"]),
        "When an update is answered: by the first node, once most or all nodes have answered, or at once (202)",
    )
    .flag("ack")
    .group(UPDATES)
    .default("first"),
    Setting::new(
        "updates.ordering",
        Kind::Choice(&["path", "global"]),
        "Which updates keep their order: those whose paths conflict, or all",
    )
    .flag("ordering")
    .group(UPDATES)
    .default("path"),
    Setting::new("updates.methods", Kind::Texts, "Methods that go to all nodes")
        .group(UPDATES)
        .default("POST PUT PATCH DELETE"),
    Setting::new("updates.match", Kind::Tables(MATCH), "Requests that are updates whatever their method")
        .group(UPDATES),
    Setting::new(
        "updates.max-attempts",
        Kind::Integer { min: 1, max: 1_000_000 },
        "Failures at a well node after which an update is a dead letter there",
    )
    .flag("max-attempts")
    .group(UPDATES)
    .default("12"),
    Setting::new("updates.retry-max", Kind::WAIT, "Longest wait between two attempts")
        .flag("retry-max")
        .group(UPDATES)
        .default("5s"),
    Setting::new("updates.timeout", Kind::WAIT, "How long one delivery to a node may take")
        .group(UPDATES)
        .default("60s"),
    Setting::new(
        "updates.concurrency",
        Kind::Integer { min: 1, max: 4096 },
        "Deliveries to one node at once",
    )
    .group(UPDATES)
    .default("64"),
    Setting::new(
        "updates.unanimous-5xx",
        Kind::Choice(&["answer", "retry"]),
        "What becomes of an update that every node refuses with 5xx",
    )
    .group(UPDATES)
    .default("answer"),
    Setting::new(
        "updates.when-full",
        Kind::Choice(&["park", "refuse"]),
        "When the log is full: the node that holds it up while another flows gets nothing more, or updates are 503",
    )
    .flag("when-full")
    .group(UPDATES)
    .default("park"),
    Setting::new("updates.status-url", Kind::Url, "Base of the Location that a 202 carries")
        .group(UPDATES)
        .default_note("the API's address"),
    Setting::new("updates.remember", Kind::DURATION, "How long a client's Idempotency-Key is remembered")
        .group(UPDATES)
        .default("10m")
        .at_start(),
    Setting::new("updates.retain", Kind::DURATION, "How long an update is kept once every node has it")
        .group(UPDATES)
        .default("10m")
        .at_start(),
    Setting::new("updates.retain-bytes", Kind::SIZE, "How much is kept of updates that every node has")
        .group(UPDATES)
        .default("256MiB")
        .at_start(),
    // Limits.
    Setting::new("max-body", Kind::SIZE, "Largest body of a request")
        .flag("max-body")
        .group(LIMITS)
        .default("64MiB"),
    Setting::new("max-buffer", Kind::SIZE, "Memory for the bodies of all requests that are being received")
        .flag("max-buffer")
        .group(LIMITS)
        .default("256MiB"),
    Setting::new(
        "max-pending-bytes",
        Kind::SIZE,
        "Updates that may wait for nodes, in bytes; what happens beyond it says when-full",
    )
    .flag("max-pending-bytes")
    .group(LIMITS)
    .default("8GiB")
    .at_start(),
    Setting::new("max-keys", Kind::COUNT, "Idempotency-Keys of clients that are remembered at once")
        .group(LIMITS)
        .default("5000000")
        .at_start(),
    Setting::new(
        "body-timeout",
        Kind::WAIT,
        "How long a request's body may pause; on the whole it has to make 500 bytes a second",
    )
    .flag("body-timeout")
    .group(LIMITS)
    .default("30s"),
];

static NODE: &[Setting] = &[
    Setting::new("host", Kind::Host, "Name or address"),
    Setting::new("port", Kind::Integer { min: 1, max: 65535 }, "Port"),
    Setting::new(
        "priority",
        Kind::Integer { min: i64::MIN, max: i64::MAX },
        "Rank: 1 is best, then 2, 3, .., then 0, then -1, -2, ..",
    )
    .default("0"),
    Setting::new("active", Kind::Switch, "Takes part; in JSON a node is inactive unless it says so"),
    Setting::new("maintenance", Kind::Switch, "Rests: no reads, and its updates wait"),
];

static MATCH: &[Setting] = &[
    Setting::new("method", Kind::Text, "Only this method"),
    Setting::new("path", Kind::Text, "Only paths that begin with this"),
];
