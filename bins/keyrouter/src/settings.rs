//! Every flag, variable and key of keyrouter, in one table.

use daemon::http::LISTENER_SETTINGS;
use daemon::settings::{Api, Argument, Kind, Program, Setting, Subcommand, Unit};

/// keyrouter as its users meet it.
pub static PROGRAM: Program = Program {
    examples: "keyrouter --services /etc/keyrouter/services.toml --watch\n\
               keyrouter --services services.toml --check-config\n\
               keyrouter lookup --services services.toml sessions user-7 --max 2\n\
               keyrouter diff services.toml services.toml.new",
    settings: SETTINGS,
    shared: &[LISTENER_SETTINGS],
    subcommands: &[LOOKUP, DIFF],
    api: Api::Address { address: "address", certificates: &["tls.cert"] },
    unit: Unit { low_ports: true, ..Unit::DEFAULT },
    ..Program::new(
        "keyrouter",
        "Says over HTTP which nodes own a key, by consistent hashing over the services of a file",
        env!("CARGO_PKG_VERSION"),
    )
};

const SERVICES: &str = "Services";
const LISTENING: &str = "Listening";
const LIMITS: &str = "Limits";

static SETTINGS: &[Setting] = &[
    Setting::new("services", Kind::Path, "The file of services and their nodes; SIGHUP reads it again")
        .flag("services")
        .group(SERVICES)
        .default("services.toml")
        .at_start(),
    Setting::new(
        "algorithm",
        Kind::Choice(&["ring", "keyrouter-0.2", "rendezvous"]),
        "How keys find their nodes, where the file does not say",
    )
    .flag("algorithm")
    .group(SERVICES)
    .default("ring"),
    Setting::new("watch", Kind::Switch, "Read the file again within 2 s when its content changes")
        .flag("watch")
        .group(SERVICES)
        .at_start(),
    Setting::new(
        "hold-empty",
        Kind::Switch,
        "After a file with nodes, take one without any only when a second reload confirms it",
    )
    .flag("hold-empty")
    .group(SERVICES),
    Setting::new("address", Kind::Address, "Where to answer")
        .flag("address")
        .group(LISTENING)
        .default(":8080")
        .at_start(),
    Setting::new("workers", Kind::Integer { min: 1, max: 256 }, "Threads that answer")
        .flag("workers")
        .group(LISTENING)
        .default_note("one per processor")
        .at_start(),
    Setting::new("api.token-file", Kind::Path, "File with the bearer token that every lookup has to carry")
        .flag("api-token-file")
        .group(LISTENING),
    Setting::new("tls.cert", Kind::Path, "Certificate chain of the listener, PEM; a reload reads it again")
        .flag("tls-cert")
        .group(LISTENING),
    Setting::new("tls.key", Kind::Path, "Private key of the certificate, PEM")
        .flag("tls-key")
        .group(LISTENING),
    Setting::new("tls.client-ca", Kind::Path, "Only clients with a certificate of these authorities, PEM")
        .flag("tls-client-ca")
        .group(LISTENING),
    Setting::new("max-batch", Kind::Integer { min: 1, max: 10_000_000 }, "Keys of a batch; more is 413")
        .flag("max-batch")
        .group(LIMITS)
        .default("10000"),
    Setting::new("max-body", Kind::Size { min: 1, max: 1 << 30 }, "Largest body of a request; more is 413")
        .flag("max-body")
        .group(LIMITS)
        .default("1MiB"),
    Setting::new(
        "max-buffer",
        Kind::SIZE,
        "Memory for the bodies and large answers of all requests; beyond it 503",
    )
    .flag("max-buffer")
    .group(LIMITS)
    .default("64MiB"),
    Setting::new("max-services-size", Kind::Size { min: 1, max: 1 << 30 }, "Largest file of services")
        .flag("max-services-size")
        .group(LIMITS)
        .default("4MiB"),
    Setting::new(
        "body-timeout",
        Kind::WAIT,
        "How long a request's body may pause; on the whole it has to make 500 bytes a second",
    )
    .flag("body-timeout")
    .group(LIMITS)
    .default("10s"),
];

const COUNT: Kind = Kind::Integer { min: i64::MIN, max: i64::MAX };

const LOOKUP: Subcommand = Subcommand {
    name: "lookup",
    about: "Print the nodes of a key, one a line, without a daemon",
    settings: &[
        Setting::new("min", COUNT, "How many nodes there have to be").flag("min").default("1").flag_only(),
        Setting::new("max", COUNT, "How many nodes to print")
            .flag("max")
            .default_note("the greater of min and 1")
            .flag_only(),
    ],
    arguments: &[Argument::required("service", "The service's name"), Argument::required("key", "The key")],
};

const DIFF: Subcommand = Subcommand {
    name: "diff",
    about: "Print the share of keys that an edit of the file moves, per service and node",
    settings: &[
        Setting::new("keys", Kind::Integer { min: 1, max: 100_000_000 }, "How many keys to try per service")
            .flag("keys")
            .default("100000")
            .flag_only(),
        Setting::new("json", Kind::Switch, "Print JSON").flag("json").flag_only(),
    ],
    arguments: &[
        Argument::required("old", "The file as it was"),
        Argument::required("new", "The file as it will be"),
    ],
};
