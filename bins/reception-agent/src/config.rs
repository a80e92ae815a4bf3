//! From values to the typed configuration, with every problem told at once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use daemon::http::{BodyLimits, Guard, Limits, Token};
use daemon::settings::{Address, Config as DaemonConfig, Problems, Values};
use daemon::tls::{ClientAuth, TlsFiles};
use reception::{Attributes, Client, ConsulCheck, ConsulOptions, Error, Options, Service};

use crate::elect::Terms;
use crate::register::OnDisconnect;
use crate::render::{self, RenderSpec};
use crate::spawn::{self, SpawnSpec};

/// Between SIGTERM and SIGKILL for the command of `register`, where nobody says otherwise.
const GRACE: Duration = Duration::from_secs(5);

/// Everything that flags, environment and file say.
#[derive(Clone, Debug)]
pub struct Config {
    /// The store.
    pub client: Client,
    /// How long a dead instance is taken for a living one.
    pub ttl: Duration,
    /// How long one request to the store may take.
    pub timeout: Duration,
    /// The instance or candidate; for `register` and `elect`.
    pub instance: Option<Instance>,
    /// Only for `register`.
    pub on_disconnect: Option<OnDisconnect>,
    /// Only for `serve`.
    pub serve: Option<ServeConfig>,
}

/// What is registered or stands for election, but for its name; and the command.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its id, where one was given.
    pub id: Option<String>,
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// What else others should know.
    pub attributes: Attributes,
    /// The command of the file.
    pub command: Vec<String>,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
}

/// What only `serve` has.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where it listens.
    pub api: Address,
    /// What bounds connections.
    pub limits: Limits,
    /// Its certificate.
    pub tls: Option<TlsFiles>,
    /// Who may change things.
    pub guard: Guard,
    /// What a request's body may be like.
    pub body: BodyLimits,
    /// What bounds everything else.
    pub bounds: Bounds,
    /// Where proxies' nodes are remembered.
    pub data_dir: PathBuf,
    /// Files to keep.
    pub render: Vec<RenderSpec>,
    /// Proxies to keep in step.
    pub spawn: Vec<SpawnSpec>,
}

/// What bounds the work of `serve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How long a list that nobody asks for is kept up to date.
    pub watch_idle: Duration,
    /// Lists that are kept up to date for callers.
    pub watches: usize,
    /// The longest long poll.
    pub wait: Duration,
    /// Event streams at a time.
    pub streams: usize,
    /// Long polls that wait at a time.
    pub polls: usize,
    /// Between two comments in a silent stream.
    pub heartbeat: Duration,
    /// Instances and candidates held for callers.
    pub registrations: usize,
}

impl Instance {
    /// With its name.
    ///
    /// # Errors
    /// For a name, id, address or attributes that cannot be used.
    pub fn service(&self, name: &str) -> Result<Service, Error> {
        let service = Service::new(name, &self.address, self.port)?;
        let service = match &self.id {
            Some(id) => service.with_id(id)?,
            None => service,
        };
        service.with_attributes(self.attributes.clone())
    }
}

impl DaemonConfig for Config {
    fn from_values(values: &Values, problems: &mut Problems) -> Option<Self> {
        let client = client(values, problems);
        let registers = values.knows("on-disconnect");
        let instance = values.knows("attr").then(|| instance(values, problems, registers));
        let on_disconnect = registers.then(|| OnDisconnect::of(&values.text("on-disconnect")));
        let serve = values.knows("max-watches").then(|| serve(values, problems));
        Some(Self {
            client: client?,
            ttl: values.opt_duration("ttl")?,
            timeout: values.opt_duration("timeout")?,
            instance: match instance {
                Some(instance) => Some(instance?),
                None => None,
            },
            on_disconnect,
            serve: match serve {
                Some(serve) => Some(serve?),
                None => None,
            },
        })
    }

    fn report(&self) -> String {
        let bounds = self.client.bounds();
        let row = |what: &str, time: Duration, because: &str| {
            format!("{what:<24}{:>9.3}s  {because}\n", time.as_secs_f64())
        };
        let mut text = format!("{}: {}\n", self.client.address(), bounds.because);
        text += &row("dead instance", bounds.instance, "is gone from lists");
        text += &row("dead leader", bounds.leader, "is replaced, counted from the end of the fault");
        if let (Some(instance), None) = (&self.instance, &self.on_disconnect) {
            let terms = Terms::of(self.ttl, instance.grace);
            let until = self.ttl.saturating_sub(terms.margin);
            text += &row("margin", terms.margin, "1 % of the ttl + 50ms");
            text += &row(
                "SIGTERM",
                until.saturating_sub(terms.grace),
                "without a renewal, where the store counts a ttl",
            );
            text += &row("SIGKILL", until, "without a renewal: ttl - margin");
        }
        text
    }

    fn check(values: &Values, problems: &mut Problems) {
        if values.knows("render") {
            render::check(values, problems);
            spawn::check(values, problems);
        }
    }
}

fn client(values: &Values, problems: &mut Problems) -> Option<Client> {
    let options = Options {
        ttl: values.opt_duration("ttl")?,
        timeout: values.opt_duration("timeout")?,
        prefix: values.opt_text("prefix").map(|prefix| prefix.trim_matches('/').to_owned()),
        consul: consul(values, problems)?,
    };
    let url = values.opt_text("backend").unwrap_or_else(default_backend);
    if !url.starts_with("consul:") && options.consul.check != ConsulCheck::Ttl {
        let key = if values.is_set("check.http") { "check.http" } else { "check.host" };
        problems.report_combination(
            values,
            key,
            "only Consul asks: leave it out, or give --backend consul://HOST",
        );
    }
    match reception::dial(&url, options) {
        Ok(client) => Some(client),
        Err(Error::Refused { what, .. }) => {
            problems.report_combination(values, if values.is_set("ttl") { "ttl" } else { "backend" }, what);
            None
        }
        Err(error) => {
            problems.report(values, "backend", error.to_string());
            None
        }
    }
}

/// A directory that all agents of this user share, and that a restart of the host empties.
pub fn default_backend() -> String {
    let runtime = std::env::var("XDG_RUNTIME_DIR").ok().filter(|dir| dir.starts_with('/'));
    let user = rustix::process::getuid();
    let dir = match runtime {
        Some(dir) => format!("{dir}/reception-agent"),
        None if user.is_root() => "/run/reception-agent".to_owned(),
        None => format!("{}/reception-agent-{}", std::env::temp_dir().display(), user.as_raw()),
    };
    format!("file:{dir}")
}

fn consul(values: &Values, problems: &mut Problems) -> Option<ConsulOptions> {
    let (http, host, port) = (
        values.opt_text("check.http"),
        values.opt_text("check.host"),
        values.opt_integer::<u16>("check.port"),
    );
    let check = match (http, host) {
        (Some(_), Some(_)) => {
            problems.report_combination(values, "check.http", "give --check-http or --check-host, not both");
            return None;
        }
        (Some(url), None) => ConsulCheck::Http(url),
        (None, Some(host)) => {
            // Who is reached by loopback alone need not listen elsewhere.
            let own = host.parse::<IpAddr>().ok().filter(IpAddr::is_loopback);
            let listen = SocketAddr::new(own.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port.unwrap_or(0));
            ConsulCheck::Own { listen, host }
        }
        (None, None) => ConsulCheck::Ttl,
    };
    if port.is_some() && !matches!(check, ConsulCheck::Own { .. }) {
        problems.report_combination(values, "check.port", "is the health server's: give --check-host too");
    }
    Some(ConsulOptions {
        check,
        check_interval: values.opt_duration("check.interval")?,
        check_timeout: values.opt_duration("check.timeout")?,
        deregister_after: values.opt_duration("deregister-after")?,
        lock_delay: values.opt_duration("lock-delay")?,
    })
}

fn instance(values: &Values, problems: &mut Problems, registers: bool) -> Option<Instance> {
    let (address, port) = (values.opt_text("address"), values.opt_integer("port"));
    if registers && address.as_ref().is_none_or(String::is_empty) {
        problems.report(
            values,
            "address",
            "is needed: the host or IP address by which others reach the instance",
        );
    }
    if registers && port.is_none() {
        problems.report(values, "port", "is needed: the port on which the instance is reached");
    }
    let ttl = values.opt_duration("ttl")?;
    let grace =
        values.opt_duration("grace").unwrap_or_else(|| if registers { GRACE } else { GRACE.min(ttl / 4) });
    if !registers && let Err(problem) = Terms::of(ttl, grace).check() {
        problems.report_combination(values, "grace", problem);
    }
    let instance = Instance {
        id: values.opt_text("id"),
        address: address.unwrap_or_default(),
        port: port.unwrap_or(0),
        attributes: attributes(values, problems)?,
        command: values.texts("command"),
        grace,
    };
    // The name is an argument, and looked at when it is there.
    if let Err(error) = instance.service("name") {
        let key = match &instance.id {
            Some(id) if Service::new("name", "", 0).and_then(|service| service.with_id(id)).is_err() => "id",
            _ if instance.service_without_attributes().is_err() => "address",
            _ => "attr",
        };
        problems.report(values, key, error.to_string());
        return None;
    }
    Some(instance)
}

impl Instance {
    fn service_without_attributes(&self) -> Result<Service, Error> {
        Service::new("name", &self.address, self.port)
    }
}

fn attributes(values: &Values, problems: &mut Problems) -> Option<Attributes> {
    let mut attributes = Attributes::new();
    for text in values.texts("attr") {
        let problem = match text.split_once('=') {
            None | Some(("", _)) => format!("'{text}' is no attribute; write KEY=VALUE"),
            Some((key, value)) => match attributes.insert(key.to_owned(), value.to_owned()) {
                None => continue,
                Some(_) => format!("'{key}' is given twice"),
            },
        };
        problems.report(values, "attr", problem);
        return None;
    }
    Some(attributes)
}

fn serve(values: &Values, problems: &mut Problems) -> Option<ServeConfig> {
    let token = values.opt_path("api.token-file").map(|path| Token::read(&path)).transpose();
    if let Err(error) = &token {
        problems.report(values, "api.token-file", error.clone());
    }
    let tls = tls(values, problems);
    let (render, spawn) = (render::specs(values, problems), spawn::specs(values, problems));
    let (tls, token) = (tls?, token.ok()?);
    let (streams, polls): (usize, usize) =
        (values.opt_integer("max-streams")?, values.opt_integer("max-polls")?);
    let connections: usize = values.opt_integer("max-connections")?;
    if connections <= streams.saturating_add(polls) {
        let problem =
            "has to be above --max-streams and --max-polls together: changes and admin routes need room too";
        problems.report_combination(values, "max-connections", problem);
    }
    let mut limits = Limits::new(connections);
    limits.send_timeout = values.opt_duration("send-timeout")?;
    Some(ServeConfig {
        api: values.opt_address("api.address")?,
        limits,
        guard: Guard {
            token,
            certificates: tls.as_ref().is_some_and(|tls| tls.client_auth != ClientAuth::None),
            insecure: values.switch("api.insecure"),
            cors_origin: None,
        },
        tls,
        body: BodyLimits {
            max_bytes: values.opt_size("max-body")?,
            patience: values.opt_duration("body-timeout")?,
        },
        bounds: Bounds {
            watch_idle: values.opt_duration("watch-idle")?,
            watches: values.opt_integer("max-watches")?,
            wait: values.opt_duration("max-wait")?,
            streams,
            polls,
            heartbeat: values.opt_duration("heartbeat")?,
            registrations: values.opt_integer("max-registrations")?,
        },
        data_dir: values.opt_path("data-dir")?,
        render: render?,
        spawn: spawn?,
    })
}

fn tls(values: &Values, problems: &mut Problems) -> Option<Option<TlsFiles>> {
    let path = |key| -> Option<PathBuf> { values.opt_path(key) };
    let client_auth = path("tls.client-ca").map_or(ClientAuth::None, ClientAuth::Asked);
    match (path("tls.cert"), path("tls.key")) {
        (Some(certificate), Some(key)) => {
            let files = TlsFiles { certificate, key, client_auth };
            if let Err(error) = files.load() {
                problems.report(values, "tls.cert", error.to_string());
                return None;
            }
            Some(Some(files))
        }
        (None, None) if client_auth == ClientAuth::None => Some(None),
        _ => {
            problems.report_combination(
                values,
                "tls.cert",
                "tls.cert and tls.key go together, and tls.client-ca needs both",
            );
            None
        }
    }
}
