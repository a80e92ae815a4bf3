//! Every flag, variable and key of reception-agent, in one table.

use std::time::Duration;

use daemon::settings::{Api, Argument, Kind, Program, Setting, Subcommand, Unit};

use crate::{render, spawn};

/// reception-agent as its users meet it.
pub static PROGRAM: Program = Program {
    examples: "reception-agent register web --address 10.0.0.7 --port 8080 --backend etcd://10.0.0.1 -- /usr/bin/web\n\
               reception-agent list web --json\n\
               reception-agent watch web\n\
               reception-agent elect scheduler --backend consul://127.0.0.1 -- /usr/bin/scheduler\n\
               reception-agent serve --api 127.0.0.1:7130 --config /etc/reception-agent.toml\n\
               reception-agent elect scheduler --backend zk://10.0.0.1 --check-config",
    settings: SETTINGS,
    subcommands: &[REGISTER, LIST, WATCH, SERVICES, LEADER, ELECT, SERVE],
    subcommand_required: true,
    api: Api::Address { address: "api.address", certificates: &["tls.cert"] },
    unit: Unit {
        subcommand: Some("serve"),
        state_flag: Some("data-dir"),
        // systemd's SIGTERM is for the agent alone, which stops what it runs in order; its SIGKILL at the end is for all.
        extra: &["KillMode=mixed"],
        ..Unit::DEFAULT
    },
    ..Program::new(
        "reception-agent",
        "Says who is alive, tells when that changes, and elects one leader, over Consul, etcd, ZooKeeper or a directory",
        env!("CARGO_PKG_VERSION"),
    )
};

const STORE: &str = "Store";
const CONSUL: &str = "Consul";
const INSTANCE: &str = "Instance";
const COMMAND: &str = "Command";
const API: &str = "API of serve";
const LIMITS: &str = "Limits of serve";
const OUTPUT: &str = "Output";
const FEEDS: &str = "Files and proxies of serve";

/// A ttl: below a second no network is reliable, above a day nobody waits for the dead.
const TTL: Kind = Kind::Duration { min: Duration::from_secs(1), max: Duration::from_secs(86_400) };

static SETTINGS: &[Setting] = &[
    Setting::new(
        "backend",
        Kind::Url,
        "Where services are kept: consul://H, etcd://H1,H2/PREFIX, zk://H1,H2/PREFIX, exhibitor://H/PATH, file:DIR",
    )
    .flag("backend")
    .group(STORE)
    .default_note("file: in the user's runtime directory")
    .at_start(),
    Setting::new("ttl", TTL, "How long a dead instance or leader is taken for a living one, at least")
        .flag("ttl")
        .group(STORE)
        .default("10s")
        .at_start(),
    Setting::new("prefix", Kind::Text, "What stands before every name in the store")
        .flag("prefix")
        .group(STORE)
        .default_note("the path of --backend")
        .at_start(),
    Setting::new("timeout", Kind::WAIT, "How long one request to the store may take")
        .flag("timeout")
        .group(STORE)
        .default("5s")
        .at_start(),
    Setting::new("check.http", Kind::Url, "Consul's agent asks this URL, instead of being told by us")
        .flag("check-http")
        .group(CONSUL)
        .at_start(),
    Setting::new("check.host", Kind::Host, "Consul's agent asks a health server of ours, which it reaches by this host")
        .flag("check-host")
        .group(CONSUL)
        .at_start(),
    Setting::new("check.port", Kind::PORT, "Port of that health server; 0 takes a free one")
        .flag("check-port")
        .group(CONSUL)
        .default_note("0")
        .at_start(),
    Setting::new("check.interval", Kind::WAIT, "Time between two checks of Consul's agent")
        .flag("check-interval")
        .group(CONSUL)
        .default("5s")
        .at_start(),
    Setting::new("check.timeout", Kind::WAIT, "How long one check of Consul's agent may take")
        .flag("check-timeout")
        .group(CONSUL)
        .default("10s")
        .at_start(),
    Setting::new(
        "deregister-after",
        Kind::WAIT,
        "Consul forgets an instance that was critical for so long; its own floor is a minute",
    )
    .flag("deregister-after")
    .group(CONSUL)
    .default("30s")
    .at_start(),
    Setting::new("lock-delay", Kind::DURATION, "How long Consul lets nobody lead after a leader has died")
        .flag("lock-delay")
        .group(CONSUL)
        .default("1s")
        .at_start(),
    Setting::new("api.address", Kind::Address, "Where serve answers")
        .flag("api")
        .group(API)
        .default("127.0.0.1:7130")
        .at_start(),
    Setting::new("api.token-file", Kind::Path, "File with the bearer token that changing routes ask for")
        .flag("api-token-file")
        .group(API),
    Setting::new(
        "api.insecure",
        Kind::Switch,
        "Let everybody who reaches the API change things, without a token or certificate",
    )
    .flag("insecure-api")
    .group(API),
    Setting::new("tls.cert", Kind::Path, "Certificate chain of the API, PEM; a reload reads it again")
        .flag("tls-cert")
        .group(API),
    Setting::new("tls.key", Kind::Path, "Private key of the certificate, PEM").flag("tls-key").group(API),
    Setting::new("tls.client-ca", Kind::Path, "Only clients with a certificate of these authorities, PEM")
        .flag("tls-client-ca")
        .group(API),
];

const ID: Setting = Setting::new("id", Kind::Text, "Id of the instance or candidate, the same everywhere")
    .flag("id")
    .value_name("ID")
    .group(INSTANCE)
    .default_note("a random UUID")
    .at_start();
const ADDRESS: Setting = Setting::new("address", Kind::Text, "Host or IP address by which it is reached")
    .flag("address")
    .value_name("HOST")
    .group(INSTANCE)
    .at_start();
const PORT: Setting = Setting::new("port", Kind::PORT, "Its port").flag("port").group(INSTANCE).at_start();
const ATTR: Setting =
    Setting::new("attr", Kind::Texts, "What else others should know of it; can be repeated")
        .flag("attr")
        .value_name("K=V")
        .group(INSTANCE)
        .at_start();
const GRACE: Setting =
    Setting::new("grace", Kind::DURATION, "Time between SIGTERM and SIGKILL for the command")
        .flag("grace")
        .group(COMMAND)
        .default_note("5s; of elect: min(5s, TTL/4)")
        .at_start();
const WORDS: Setting =
    Setting::new("command", Kind::Texts, "The command with its arguments, where none follows `--`")
        .group(COMMAND)
        .at_start();
const JSON: Setting = Setting::new("json", Kind::Switch, "Print JSON").flag("json").group(OUTPUT).flag_only();

const NAME: Argument = Argument::required("name", "The service's name");
const AFTER_DASHES: Argument = Argument::command("command", "The command to run, with its arguments");

const REGISTER: Subcommand = Subcommand {
    name: "register",
    about: "Register an instance, print its id, and keep it registered while this or the command runs",
    settings: &[
        ID,
        ADDRESS,
        PORT,
        ATTR,
        Setting::new(
            "on-disconnect",
            Kind::Text,
            "When the registration was lost: `exit`, `log`, or a line for sh -c; it is registered anew in any case but exit",
        )
        .flag("on-disconnect")
        .value_name("WHAT")
        .group(INSTANCE)
        .default("log")
        .at_start(),
        GRACE,
        WORDS,
    ],
    arguments: &[NAME, AFTER_DASHES],
};

const LIST: Subcommand = Subcommand {
    name: "list",
    about: "Print the instances of a service",
    settings: &[
        Setting::new("all", Kind::Switch, "Those too that Consul holds for unwell")
            .flag("all")
            .group(OUTPUT)
            .flag_only(),
        JSON,
    ],
    arguments: &[NAME],
};

const WATCH: Subcommand = Subcommand {
    name: "watch",
    about: "Print the instances of a service, then each change",
    settings: &[JSON],
    arguments: &[NAME],
};

const SERVICES: Subcommand = Subcommand {
    name: "services",
    about: "Print the names that have instances",
    settings: &[JSON],
    arguments: &[],
};

const LEADER: Subcommand =
    Subcommand { name: "leader", about: "Print who leads a name", settings: &[JSON], arguments: &[NAME] };

const ELECT: Subcommand = Subcommand {
    name: "elect",
    about: "Stand for the leadership of a name, and run the command while leading; without one, print each change",
    settings: &[ID, ADDRESS, PORT, ATTR, GRACE, WORDS],
    arguments: &[NAME, AFTER_DASHES],
};

const SERVE: Subcommand = Subcommand {
    name: "serve",
    about: "Answer programs of this host over HTTP, and keep files and spawn-proxies in step",
    settings: &[
        Setting::new("render", Kind::Tables(render::COLUMNS), "A file to be rendered out of services")
            .group(FEEDS),
        Setting::new("spawn", Kind::Tables(spawn::COLUMNS), "A spawn-proxy whose nodes follow a service")
            .group(FEEDS),
        Setting::new(
            "data-dir",
            Kind::Path,
            "Directory for what [[spawn]] has to remember; only made where there is one",
        )
        .flag("data-dir")
        .group(FEEDS)
        .default("reception-data")
        .at_start(),
        Setting::new("watch-idle", Kind::WAIT, "How long a list that nobody asks for is kept up to date")
            .flag("watch-idle")
            .group(LIMITS)
            .default("5m")
            .at_start(),
        Setting::new("max-watches", Kind::COUNT, "Lists that are kept up to date for callers; more is 503")
            .flag("max-watches")
            .group(LIMITS)
            .default("1000")
            .at_start(),
        Setting::new("max-wait", Kind::WAIT, "The longest `wait` of a long poll; a longer one is cut to it")
            .flag("max-wait")
            .group(LIMITS)
            .default("5m")
            .at_start(),
        Setting::new("max-streams", Kind::COUNT, "Event streams at a time; more is 503")
            .flag("max-streams")
            .group(LIMITS)
            .default("500")
            .at_start(),
        Setting::new("max-polls", Kind::COUNT, "Long polls that wait at a time; more is 503")
            .flag("max-polls")
            .group(LIMITS)
            .default("500")
            .at_start(),
        Setting::new("heartbeat", Kind::WAIT, "Time between two comment lines in a silent event stream")
            .flag("heartbeat")
            .group(LIMITS)
            .default("15s")
            .at_start(),
        Setting::new(
            "max-registrations",
            Kind::COUNT,
            "Instances and candidates that are held for callers; more is 503",
        )
        .flag("max-registrations")
        .group(LIMITS)
        .default("1000")
        .at_start(),
        Setting::new(
            "max-connections",
            Kind::Integer { min: 1, max: 1_000_000 },
            "Connections at once, above max-streams and max-polls together; others wait",
        )
        .flag("max-connections")
        .group(LIMITS)
        .default("2000")
        .at_start(),
        Setting::new("send-timeout", Kind::WAIT, "How long a caller may take nothing of what is sent to it")
            .flag("send-timeout")
            .group(LIMITS)
            .default("60s")
            .at_start(),
        Setting::new(
            "max-body",
            Kind::Size { min: 1, max: 16 << 20 },
            "Largest body of a request; more is 413",
        )
        .flag("max-body")
        .group(LIMITS)
        .default("256KiB")
        .at_start(),
        Setting::new("body-timeout", Kind::WAIT, "How long a request's body may pause")
            .flag("body-timeout")
            .group(LIMITS)
            .default("10s")
            .at_start(),
    ],
    arguments: &[],
};
