//! Every flag, variable and key of cluster-node, in one table.

use std::time::Duration;

use daemon::http::LISTENER_SETTINGS;
use daemon::settings::{Api, Argument, Kind, Program, Setting, Subcommand, Unit};

/// cluster-node as its users meet it.
pub static PROGRAM: Program = Program {
    examples: "cluster-node --name n1 --listen tcp://10.0.0.1:9654 --secret-file /etc/cluster/secret --peer n2=tcp://10.0.0.2:9654 --peer n3=tcp://10.0.0.3:9654\n\
               cluster-node --config /etc/cluster-node.toml --app ipc:///run/cluster-node/app.sock\n\
               cluster-node doctor n2 --config /etc/cluster-node.toml\n\
               (umask 077; cluster-node keygen > n1.key)\n\
               cluster-node keygen --public-of n1.key",
    settings: SETTINGS,
    shared: &[LISTENER_SETTINGS],
    subcommands: &[DOCTOR, KEYGEN],
    api: Api::Address { address: "api.address", certificates: &["tls.cert"] },
    unit: Unit { extra: &["RuntimeDirectory=cluster-node"], ..Unit::DEFAULT },
    ..Program::new(
        "cluster-node",
        "Knows who is a member of a cluster and whether there is a quorum, and carries authenticated messages between its nodes",
        env!("CARGO_PKG_VERSION"),
    )
};

const CLUSTER: &str = "Cluster";
const TIMES: &str = "Times";
const MESSAGES: &str = "Messages";
const APPS: &str = "Applications";
const API: &str = "API";
const LIMITS: &str = "Limits";

/// Times that pace a node: below this it would be busy with nothing else.
const PACE: Kind = Kind::Duration { min: Duration::from_millis(10), max: Duration::from_secs(86_400) };
/// The longest message that a link carries.
const LARGEST: u64 = 64 << 20;

static SETTINGS: &[Setting] = &[
    Setting::new("name", Kind::Text, "This node's name, by which its peers know it; needed")
        .flag("name")
        .value_name("NAME")
        .group(CLUSTER)
        .at_start(),
    Setting::new("listen", Kind::Text, "Where peers connect: tcp://IP:PORT or tcp://*:PORT")
        .flag("listen")
        .value_name("ENDPOINT")
        .group(CLUSTER)
        .default("tcp://*:9654")
        .at_start(),
    Setting::new(
        "secret-file",
        Kind::Path,
        "Secrets that all nodes share, one a line: the first is used, all are accepted; a reload reads it again",
    )
    .flag("secret-file")
    .group(CLUSTER),
    Setting::new("key-file", Kind::Path, "Key of this node's own, made by keygen; peers then give its public key")
        .flag("key-file")
        .group(CLUSTER)
        .at_start(),
    Setting::new(
        "peers",
        Kind::Tables(PEER),
        "Another node, NAME=tcp://HOST:PORT[,key=PUBLIC KEY]; can be repeated; a reload adds and removes",
    )
    .flag("peer")
    .value_name("NAME=ADDR")
    .group(CLUSTER),
    Setting::new(
        "expect",
        Kind::Integer { min: 1, max: 1_000_000 },
        "Nodes of the whole cluster, this one included: quorum is more than half of them",
    )
    .flag("expect")
    .group(CLUSTER)
    .default_note("by the configured peers; two nodes always have it"),
    Setting::new("ping-interval", PACE, "Time between signs of life on each link")
        .flag("ping-interval")
        .group(TIMES)
        .default("1s"),
    Setting::new("join-delay", Kind::DURATION, "How long a link has to stand before its node joins")
        .flag("join-delay")
        .group(TIMES)
        .default("100ms"),
    Setting::new("read-timeout", PACE, "A peer that is silent for so long has left")
        .flag("read-timeout")
        .group(TIMES)
        .default("3s"),
    Setting::new("connect-interval", PACE, "Wait before a peer that cannot be reached is dialed again")
        .flag("connect-interval")
        .group(TIMES)
        .default("1s"),
    Setting::new("connect-timeout", PACE, "How long an attempt to connect may take")
        .flag("connect-timeout")
        .group(TIMES)
        .default("5s"),
    Setting::new(
        "resend-for",
        Kind::DURATION,
        "How long messages are kept for a peer that is away, to be sent when it is back",
    )
    .flag("resend-for")
    .group(MESSAGES)
    .default("30s"),
    Setting::new("window", Kind::Size { min: 65, max: 1 << 40 }, "Bytes kept for each peer until it has acknowledged them")
        .flag("window")
        .group(MESSAGES)
        .default("64MiB"),
    Setting::new(
        "window-messages",
        Kind::Integer { min: 1, max: 1_000_000_000 },
        "Messages kept for each peer until it has acknowledged them",
    )
    .flag("window-messages")
    .group(MESSAGES)
    .default("500000"),
    Setting::new("max-message", Kind::Size { min: 1, max: LARGEST }, "Longest message; a longer one is 413")
        .flag("max-message")
        .group(MESSAGES)
        .default("4MiB"),
    Setting::new(
        "buffer",
        Kind::Integer { min: 1, max: 100_000_000 },
        "Messages that wait for each application before peers are slowed",
    )
    .flag("buffer")
    .group(MESSAGES)
    .default("10000"),
    Setting::new(
        "buffer-bytes",
        Kind::Size { min: 65, max: 1 << 40 },
        "Their bytes",
    )
    .flag("buffer-bytes")
    .group(MESSAGES)
    .default("16MiB"),
    Setting::new("log-traffic", Kind::Switch, "Log each message, at level debug").flag("log-traffic").group(MESSAGES),
    Setting::new(
        "app.endpoint",
        Kind::Text,
        "Where applications of this host connect: ipc:///PATH, or tcp://127.0.0.1:PORT",
    )
    .flag("app")
    .value_name("ENDPOINT")
    .group(APPS)
    .default_note("nowhere")
    .at_start(),
    Setting::new(
        "app.patience",
        Kind::WAIT,
        "An application whose buffer is full and that takes nothing for so long is left behind, with a gap",
    )
    .flag("app-patience")
    .group(APPS)
    .default("2s")
    .at_start(),
    Setting::new("app.max", Kind::Integer { min: 1, max: 100_000 }, "Applications at a time")
        .flag("max-apps")
        .group(APPS)
        .default("64")
        .at_start(),
    Setting::new("api.address", Kind::Address, "Where the API listens")
        .flag("api")
        .group(API)
        .default("127.0.0.1:9480")
        .at_start(),
    Setting::new("no-api", Kind::Switch, "Have no API").flag("no-api").group(API).at_start(),
    Setting::new(
        "api.secret-file",
        Kind::Path,
        "File whose first line is the password of logins; give all nodes the same to have one login for all",
    )
    .flag("api-secret-file")
    .group(API)
    .default_note("the first secret of --secret-file, over loopback or TLS only"),
    Setting::new("api.token-file", Kind::Path, "File with a bearer token that is as good as a login, for programs")
        .flag("api-token-file")
        .group(API),
    Setting::new("api.insecure", Kind::Switch, "Let everybody who reaches the API do everything, without a login")
        .flag("insecure-api")
        .group(API),
    Setting::new("token-duration", Kind::Duration { min: Duration::from_secs(1), max: Duration::from_secs(31_536_000) }, "How long a login lasts")
        .flag("token-duration")
        .group(API)
        .default("1h"),
    Setting::new("tls.cert", Kind::Path, "Certificate chain of the API, PEM; a reload reads it again")
        .flag("tls-cert")
        .group(API),
    Setting::new("tls.key", Kind::Path, "Private key of the certificate, PEM").flag("tls-key").group(API),
    Setting::new("tls.client-ca", Kind::Path, "Only clients with a certificate of these authorities, PEM; they need no login")
        .flag("tls-client-ca")
        .group(API),
    Setting::new("max-streams", Kind::Integer { min: 1, max: 1_000_000 }, "Event streams at a time")
        .flag("max-streams")
        .group(LIMITS)
        .default("256")
        .at_start(),
    Setting::new("body-timeout", Kind::WAIT, "How long a request's body may pause")
        .flag("body-timeout")
        .group(LIMITS)
        .default("10s")
        .at_start(),
    Setting::new("max-buffer", Kind::Size { min: 1 << 20, max: 1 << 40 }, "Memory for the bodies of all requests")
        .flag("max-buffer")
        .group(LIMITS)
        .default("256MiB")
        .at_start(),
];

const PEER: &[Setting] = &[
    Setting::new("name", Kind::Text, "Its name"),
    Setting::new("addr", Kind::Text, "Where it listens: tcp://HOST:PORT"),
    Setting::new("key", Kind::Text, "Its public key, where it has one of its own"),
];

const DOCTOR: Subcommand = Subcommand {
    name: "doctor",
    about: "Dial a configured peer once with each secret, and say which side has the wrong key",
    settings: &[],
    arguments: &[Argument::required("peer", "The peer's name")],
};

const KEYGEN: Subcommand = Subcommand {
    name: "keygen",
    about: "Print a fresh key file: `(umask 077; cluster-node keygen > n1.key)`, one for each node",
    settings: &[Setting::new("public-of", Kind::Path, "Print the public key of this key file instead")
        .flag("public-of")
        .group(CLUSTER)
        .flag_only()],
    arguments: &[],
};
