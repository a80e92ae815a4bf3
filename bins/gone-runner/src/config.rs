//! From values to the typed configuration, with every problem told at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon::http::Token;
use daemon::settings::{Address, Config as DaemonConfig, Problems, Values};
use daemon::tls::{ClientAuth, TlsFiles};
use gone::lease::Timing;
use gone::lock::{self, Id, Lock};
use gone::message::stdin::Form;
use gone::message::{Encryption, HolderLimits};
use zmq_link::{KeyPair, key_file};

use crate::run::decide::{OnExit, Rules};
use crate::run::health::{Check, Url};

/// Everything that flags, environment and file say.
#[derive(Clone, Debug)]
pub struct Config {
    /// What runs once; there for every subcommand that needs it.
    pub id: Option<Id>,
    /// Where the lease is kept.
    pub lock: Arc<dyn Lock>,
    /// Nodes of the original take part.
    pub compat: bool,
    /// What messages are encrypted with.
    pub key: Option<KeyPair>,
    /// How long `send` and `status` wait.
    pub timeout: Duration,
    /// The largest message, in bytes.
    pub max_message: usize,
    /// Where `run` answers over HTTP.
    pub api: Option<ApiConfig>,
    /// What only `run` has.
    pub run: Option<RunConfig>,
}

/// Where `run` answers over HTTP, and whom.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Where it listens.
    pub address: Address,
    /// What `/status` asks for.
    pub token: Option<Token>,
    /// Its certificate.
    pub tls: Option<TlsFiles>,
}

/// What only `run` has.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// The times of the lease.
    pub timing: Timing,
    /// Trust a lock without a record at once.
    pub fresh: bool,
    /// What follows `--`, or else the file's command.
    pub command: Vec<String>,
    /// Where messages come in; `None` where the address has to be found out.
    pub listen: Option<SocketAddr>,
    /// Host and port that others connect to; port 0 stands for the one that was chosen.
    pub advertise: Option<Address>,
    /// How messages stand on the child's stdin.
    pub form: Form,
    /// The child acknowledges messages itself.
    pub child_acknowledges: bool,
    /// The bounds of messages.
    pub limits: HolderLimits,
    /// What a reload changes.
    pub live: Live,
}

/// What a reload changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// What becomes of a child that ended or is not well.
    pub rules: Rules,
    /// How the child's health is looked at.
    pub check: Option<Check>,
    /// Between two checks, and for one.
    pub check_interval: Duration,
}

impl Config {
    /// How messages travel.
    pub fn encryption(&self) -> Encryption {
        self.key.clone().map_or(Encryption::PlainText, Encryption::Key)
    }
}

impl DaemonConfig for Config {
    fn from_values(values: &Values, problems: &mut Problems) -> Option<Self> {
        let lock = lock(values, problems);
        let id = id(values, problems);
        let key = key(values, problems);
        let api = api(values, problems);
        let compat = values.opt_choice("compat").is_some();
        if compat && key.as_ref().is_some_and(Option::is_some) {
            problems.report_combination(
                values,
                "compat",
                "nodes of the original cannot encrypt: leave out the key file or --compat",
            );
        }
        if compat && lock.as_ref().is_some_and(|lock| !lock.address().starts_with("redis")) {
            problems.report_combination(
                values,
                "compat",
                "the original keeps its lock in Redis: --lock has to be redis://",
            );
        }
        let max_message = usize::try_from(values.opt_size("max-message")?).ok()?;
        let run = if values.knows("expiry") {
            Some(run(values, problems, lock.as_deref(), max_message))
        } else {
            None
        };
        Some(Self {
            id: id?,
            lock: lock?,
            compat,
            key: key?,
            timeout: values.opt_duration("timeout")?,
            max_message,
            api: api?,
            run: match run {
                Some(run) => Some(run?),
                None => None,
            },
        })
    }

    fn report(&self) -> String {
        self.run.as_ref().map_or(String::new(), |run| self.lock.failover(&run.timing).table(&run.timing))
    }
}

fn id(values: &Values, problems: &mut Problems) -> Option<Option<Id>> {
    let needed = ["expiry", "wait", "json"].into_iter().any(|key| values.knows(key));
    match values.opt_text("id").map(|text| Id::new(&text)) {
        Some(Ok(id)) => Some(Some(id)),
        Some(Err(error)) => {
            problems.report(values, "id", error);
            None
        }
        None if needed => {
            problems.report(values, "id", "is needed: give what runs once a name, the same on all nodes");
            None
        }
        None => Some(None),
    }
}

fn lock(values: &Values, problems: &mut Problems) -> Option<Arc<dyn Lock>> {
    match lock::dial(&values.opt_text("lock")?) {
        Ok(lock) => Some(lock),
        Err(error) => {
            problems.report(values, "lock", error.to_string());
            None
        }
    }
}

fn key(values: &Values, problems: &mut Problems) -> Option<Option<KeyPair>> {
    let Some(path) = values.opt_path("key-file") else { return Some(None) };
    match key_file::read(&path) {
        Ok(pair) => Some(Some(pair)),
        Err(error) => {
            problems.report(values, "key-file", error.to_string());
            None
        }
    }
}

fn api(values: &Values, problems: &mut Problems) -> Option<Option<ApiConfig>> {
    let token = values.opt_path("api.token-file").map(|path| Token::read(&path)).transpose();
    if let Err(error) = &token {
        problems.report(values, "api.token-file", error.clone());
    }
    let tls = tls(values, problems);
    let Some(address) = values.opt_address("api.address") else { return Some(None) };
    Some(Some(ApiConfig { address, token: token.ok()?, tls: tls? }))
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
            problems.report_combination(values, "tls.cert", "tls.cert and tls.key go together");
            None
        }
    }
}

fn run(
    values: &Values,
    problems: &mut Problems,
    lock: Option<&dyn Lock>,
    max_message: usize,
) -> Option<RunConfig> {
    let command = command(values, problems);
    let timing = timing(values, problems, lock)?;
    let listen = listen(values, problems);
    let advertise = advertise(values, problems);
    if listen.flatten().is_some_and(|addr| addr.ip().is_unspecified()) && advertise == Some(None) {
        problems.report_combination(
            values,
            "listen",
            "takes messages on every address, and others need one to connect to: add --advertise tcp://HOST:PORT",
        );
    }
    let live = live(values, problems, timing);
    let limits = limits(values, problems, max_message);
    Some(RunConfig {
        timing,
        fresh: values.switch("fresh"),
        command: command?,
        listen: listen?,
        advertise: advertise?,
        form: values.opt_choice("stdin")?.parse().ok()?,
        child_acknowledges: values.opt_choice("ack")? == "child",
        limits: limits?,
        live: live?,
    })
}

fn command(values: &Values, problems: &mut Problems) -> Option<Vec<String>> {
    let words = values.texts("command");
    if words.is_empty() {
        problems.report(
            values,
            "command",
            "is needed: write what to run behind `--`, as in gone-runner run --id ID -- CMD ARGS, or into the file",
        );
        return None;
    }
    Some(words)
}

fn timing(values: &Values, problems: &mut Problems, lock: Option<&dyn Lock>) -> Option<Timing> {
    let mut timing = Timing::of(values.opt_duration("expiry")?);
    if let Some(every) = values.opt_duration("extend-every") {
        timing = timing.extend_every(every);
    }
    if let Some(grace) = values.opt_duration("grace") {
        timing = timing.grace(grace);
    }
    let mut found = timing.problems();
    found.extend(lock.map(|lock| lock.problems(&timing)).unwrap_or_default());
    for problem in found {
        use gone::lease::Unsafe;
        let key = match problem {
            Unsafe::Grace { .. } => "grace",
            Unsafe::ExtendEvery { .. } | Unsafe::NoPause => "extend-every",
            _ => "expiry",
        };
        problems.report_combination(values, key, problem.to_string());
    }
    Some(timing)
}

fn live(values: &Values, problems: &mut Problems, timing: Timing) -> Option<Live> {
    let check = match (values.opt_text("check.cmd"), values.opt_text("check.url")) {
        (Some(_), Some(_)) => {
            problems.report_combination(values, "check.url", "give --check-cmd or --check-url, not both");
            return None;
        }
        (Some(line), None) => Some(Check::Command(line)),
        (None, Some(url)) => match Url::parse(&url) {
            Ok(url) => Some(Check::Url(url)),
            Err(error) => {
                problems.report(values, "check.url", error);
                return None;
            }
        },
        (None, None) => None,
    };
    let on_exit = match values.opt_choice("on-exit")?.as_str() {
        "restart" => OnExit::Restart,
        "exit" => OnExit::Exit,
        _ => OnExit::Release,
    };
    Some(Live {
        rules: Rules { on_exit, failures: values.opt_integer("check.failures")? },
        check,
        check_interval: values.opt_duration("check.interval").unwrap_or(timing.expiry / 3),
    })
}

fn limits(values: &Values, problems: &mut Problems, max_message: usize) -> Option<HolderLimits> {
    let in_flight = values.opt_integer("max-pending")?;
    let usual = HolderLimits::default();
    let limits = HolderLimits {
        in_flight,
        in_flight_bytes: usize::try_from(values.opt_size("max-pending-bytes")?).ok()?,
        max_message,
        // Each message in flight can be another sender's.
        senders: usual.senders.max(in_flight.saturating_mul(2)),
    };
    if let Err(error) = limits.check() {
        problems.report_combination(values, "max-pending", error.to_string());
    }
    Some(limits)
}

/// The text behind `tcp://`.
fn endpoint(values: &Values, problems: &mut Problems, key: &str) -> Option<Option<String>> {
    let Some(text) = values.opt_text(key) else { return Some(None) };
    let rest = text.strip_prefix("tcp://").map(str::to_owned);
    if rest.is_none() {
        problems.report(values, key, format!("'{text}' is no endpoint; write tcp://HOST:PORT"));
    }
    rest.map(Some)
}

fn listen(values: &Values, problems: &mut Problems) -> Option<Option<SocketAddr>> {
    let Some(rest) = endpoint(values, problems, "listen")? else { return Some(None) };
    let text = rest.strip_prefix("*:").map_or(rest.clone(), |port| format!("0.0.0.0:{port}"));
    match text.strip_suffix(":*").map_or(text.clone(), |host| format!("{host}:0")).parse() {
        Ok(addr) => Some(Some(addr)),
        Err(_) => {
            let what = format!("'tcp://{rest}' names no address of this host; write tcp://IP:PORT");
            problems.report(values, "listen", what);
            None
        }
    }
}

fn advertise(values: &Values, problems: &mut Problems) -> Option<Option<Address>> {
    let Some(rest) = endpoint(values, problems, "advertise")? else { return Some(None) };
    match rest.parse::<Address>() {
        Ok(address) if address.host().is_some() => Some(Some(address)),
        Ok(_) => {
            problems.report(values, "advertise", "others need a host to connect to: write tcp://HOST:PORT");
            None
        }
        Err(error) => {
            problems.report(values, "advertise", error.to_string());
            None
        }
    }
}
