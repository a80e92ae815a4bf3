//! Every flag, variable and key of gone-runner, in one table.

use daemon::settings::{Api, Argument, Kind, Program, Setting, Subcommand, Unit};

/// gone-runner as its users meet it.
pub static PROGRAM: Program = Program {
    examples: "gone-runner run --id nightly --lock redis://10.0.0.5 -- /usr/local/bin/nightly-job\n\
               gone-runner run --id nightly --expiry 10s --check-config -- /usr/local/bin/nightly-job\n\
               gone-runner send --id nightly --lock redis://10.0.0.5 --wait 'rebuild index'\n\
               gone-runner status --id nightly --lock redis://10.0.0.5 --json\n\
               (umask 077; gone-runner keygen > gone.key)",
    settings: SETTINGS,
    subcommands: &[RUN, SEND, STATUS, KEYGEN],
    subcommand_required: true,
    api: Api::Address { address: "api.address", certificates: &["tls.cert"] },
    unit: Unit {
        subcommand: Some("run"),
        // systemd's SIGTERM is for the runner alone, which stops the child in order; its SIGKILL at the end is
        // for all.
        extra: &["KillMode=mixed"],
        stop_after: &["grace"],
        ..Unit::DEFAULT
    },
    ..Program::new(
        "gone-runner",
        "Runs a command on exactly one host at a time, and delivers messages to it wherever it runs",
        env!("CARGO_PKG_VERSION"),
    )
};

const LEASE: &str = "Lease";
const CHILD: &str = "Child";
const HEALTH: &str = "Health of the child";
const MESSAGES: &str = "Messages";
const API: &str = "API";

static SETTINGS: &[Setting] = &[
    Setting::new("id", Kind::Text, "Name of what runs once; needed by run, send and status")
        .flag("id")
        .value_name("ID")
        .group(LEASE)
        .at_start(),
    Setting::new(
        "lock",
        Kind::Url,
        "Where the lease is kept: redis://H:P, rediss://H:P, redis://H1,H2?sentinel=NAME, file:DIR, ..",
    )
    .flag("lock")
    .group(LEASE)
    .default("redis://127.0.0.1:6379")
    .at_start(),
    Setting::new(
        "compat",
        Kind::Choice(&["go-one"]),
        "Share lock and messages with nodes of this original; weakens promises, see the guide",
    )
    .flag("compat")
    .group(LEASE)
    .at_start(),
    Setting::new(
        "key-file",
        Kind::Path,
        "Encrypt messages with this key, made by keygen; the same file on all nodes and senders",
    )
    .flag("key-file")
    .group(MESSAGES)
    .at_start(),
    Setting::new(
        "timeout",
        Kind::WAIT,
        "How long send waits for the acknowledgement of a message, and status for the lock",
    )
    .flag("timeout")
    .group(MESSAGES)
    .default("10s")
    .at_start(),
    Setting::new("max-message", Kind::Size { min: 1, max: 256 << 20 }, "Largest message")
        .flag("max-message")
        .group(MESSAGES)
        .default("4MiB")
        .at_start(),
    Setting::new("api.address", Kind::Address, "Where run answers /status and the admin routes")
        .flag("api")
        .group(API)
        .default_note("nowhere")
        .at_start(),
    Setting::new("api.token-file", Kind::Path, "File with the bearer token that /status asks for")
        .flag("api-token-file")
        .group(API),
    Setting::new("tls.cert", Kind::Path, "Certificate chain of the API, PEM; a reload reads it again")
        .flag("tls-cert")
        .group(API),
    Setting::new("tls.key", Kind::Path, "Private key of the certificate, PEM").flag("tls-key").group(API),
    Setting::new("tls.client-ca", Kind::Path, "Only clients with a certificate of these authorities, PEM")
        .flag("tls-client-ca")
        .group(API),
];

const RUN: Subcommand = Subcommand {
    name: "run",
    about: "Contend for the lease, and run the command while it is held",
    settings: &[
        Setting::new("expiry", Kind::WAIT, "How long the lease lasts without a renewal; the same on all nodes")
            .flag("expiry")
            .group(LEASE)
            .default("30s")
            .at_start(),
        Setting::new("extend-every", Kind::WAIT, "Time between two renewals")
            .flag("extend-every")
            .group(LEASE)
            .default_note("EXPIRY/3")
            .at_start(),
        Setting::new("grace", Kind::DURATION, "Time between SIGTERM and SIGKILL for the child")
            .flag("grace")
            .group(LEASE)
            .default_note("min(5s, EXPIRY/4)")
            .at_start(),
        Setting::new("fresh", Kind::Switch, "Trust an empty lock at once, without waiting an expiry: for demos")
            .flag("fresh")
            .group(LEASE)
            .at_start(),
        Setting::new("command", Kind::Texts, "The command with its arguments, where none follows `--`")
            .group(CHILD)
            .at_start(),
        Setting::new(
            "on-exit",
            Kind::Choice(&["release", "restart", "exit"]),
            "When the child ends: free the lease and contend again, keep it and restart, or end with its code",
        )
        .flag("on-exit")
        .group(CHILD)
        .default("release"),
        Setting::new("check.cmd", Kind::Text, "The child is well when `sh -c LINE` ends with 0")
            .flag("check-cmd")
            .value_name("LINE")
            .group(HEALTH),
        Setting::new("check.url", Kind::Url, "The child is well when this http:// URL answers 2xx")
            .flag("check-url")
            .group(HEALTH),
        Setting::new("check.interval", Kind::WAIT, "Time between two checks, and for one")
            .flag("check-interval")
            .group(HEALTH)
            .default_note("EXPIRY/3"),
        Setting::new(
            "check.failures",
            Kind::Integer { min: 1, max: 1_000_000 },
            "So many failed checks in a row free the lease",
        )
        .flag("check-failures")
        .group(HEALTH)
        .default("3"),
        Setting::new("listen", Kind::Text, "Where messages come in: tcp://IP:PORT")
            .flag("listen")
            .value_name("ENDPOINT")
            .group(MESSAGES)
            .default_note("a free port on the address that reaches the lock")
            .at_start(),
        Setting::new("advertise", Kind::Text, "What others connect to instead: tcp://HOST:PORT")
            .flag("advertise")
            .value_name("ENDPOINT")
            .group(MESSAGES)
            .default_note("what --listen got")
            .at_start(),
        Setting::new(
            "stdin",
            Kind::Choice(&["lines", "frames", "json"]),
            "How messages stand on the child's stdin",
        )
        .flag("stdin")
        .group(MESSAGES)
        .default("lines")
        .at_start(),
        Setting::new(
            "ack",
            Kind::Choice(&["stdin", "child"]),
            "A message is acknowledged when it is in the child's pipe, or by `ack N` on its descriptor 3",
        )
        .flag("ack")
        .group(MESSAGES)
        .default("stdin")
        .at_start(),
        Setting::new(
            "max-pending",
            Kind::Integer { min: 1, max: 1_000_000 },
            "Messages that are in and not acknowledged; beyond it senders wait",
        )
        .flag("max-pending")
        .group(MESSAGES)
        .default("1024")
        .at_start(),
        Setting::new(
            "max-pending-bytes",
            Kind::Size { min: 1, max: 16 << 30 },
            "Their bytes; beyond it senders wait",
        )
        .flag("max-pending-bytes")
        .group(MESSAGES)
        .default("16MiB")
        .at_start(),
    ],
    arguments: &[Argument::command("command", "The command to run, with its arguments")],
};

const SEND: Subcommand = Subcommand {
    name: "send",
    about: "Send a message to the child, wherever it runs; `-` sends standard input",
    settings: &[
        Setting::new(
            "wait",
            Kind::Switch,
            "Ride through fail-over and slowness: the timeout counts only while nobody takes messages",
        )
        .flag("wait")
        .group(MESSAGES)
        .flag_only(),
        Setting::new("each-line", Kind::Switch, "Send each line of standard input as a message")
            .flag("each-line")
            .group(MESSAGES)
            .flag_only(),
    ],
    arguments: &[Argument::optional(
        "data",
        "The message; `-` for all of standard input, less a final newline",
    )],
};

const STATUS: Subcommand = Subcommand {
    name: "status",
    about: "Print who holds the lease",
    settings: &[Setting::new("json", Kind::Switch, "Print JSON").flag("json").group(LEASE).flag_only()],
    arguments: &[],
};

const KEYGEN: Subcommand = Subcommand {
    name: "keygen",
    about: "Print a fresh key file: `(umask 077; gone-runner keygen > gone.key)`, the same file on all nodes",
    settings: &[],
    arguments: &[],
};
