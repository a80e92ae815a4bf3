//! From values to the typed configuration, with every problem told at once.

mod peers;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cluster::{KeyPair, Keyring, Node, key_file};
use daemon::http::{Limits, Token};
use daemon::settings::{Address, Config as DaemonConfig, Problems, Values};
use daemon::tls::{ClientAuth, TlsFiles};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::tunables::Tunables;

pub use peers::{node, peer_name};

/// A shorter password could be guessed.
const SHORTEST_PASSWORD: usize = 16;

/// What a call is about.
#[derive(Clone, Debug)]
pub enum Config {
    /// `keygen`.
    Keygen {
        /// Print the public key of this key file.
        public_of: Option<PathBuf>,
    },
    /// A node, or its `doctor`.
    Node(Box<NodeConfig>),
}

/// Everything that flags, environment and file say of a node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its name.
    pub name: Arc<str>,
    /// Where peers connect.
    pub listen: String,
    /// The secrets.
    pub keyring: Option<Keyring>,
    /// Tells one content of the secret file from another.
    pub keyring_mark: [u8; 32],
    /// A key of its own.
    pub key: Option<KeyPair>,
    /// Its peers.
    pub nodes: Vec<Node>,
    /// What can be changed while it runs.
    pub tunables: Tunables,
    /// Where applications connect.
    pub app: Option<AppConfig>,
    /// The API.
    pub api: Option<ApiConfig>,
}

/// Where applications connect.
#[derive(Clone, Debug)]
pub struct AppConfig {
    /// Where.
    pub endpoint: AppEndpoint,
    /// How long one may take nothing while its buffer is full.
    pub patience: Duration,
    /// How many at a time.
    pub most: usize,
}

/// An address that only programs of this host reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppEndpoint {
    /// A socket file.
    Ipc(PathBuf),
    /// A loopback address.
    Tcp(SocketAddr),
}

/// The API.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Where it listens.
    pub address: Address,
    /// What bounds connections.
    pub limits: Limits,
    /// Its certificate.
    pub tls: Option<TlsFiles>,
    /// Who may call.
    pub access: AccessConfig,
    /// How long a body may pause.
    pub body_timeout: Duration,
    /// Memory for bodies.
    pub max_buffer: u64,
    /// Event streams at a time.
    pub streams: usize,
}

/// Who may call the API.
#[derive(Clone, Debug)]
pub struct AccessConfig {
    /// A bearer token that is as good as a login.
    pub token: Option<Token>,
    /// Everybody may do everything.
    pub insecure: bool,
    /// The password of logins.
    pub password: Option<Zeroizing<String>>,
    /// The password is the API's own, not the cluster's secret.
    pub own_password: bool,
}

impl DaemonConfig for Config {
    fn from_values(values: &Values, problems: &mut Problems) -> Option<Self> {
        if values.knows("public-of") {
            return Some(Self::Keygen { public_of: values.opt_path("public-of") });
        }
        let name = name(values, problems);
        let listen = listen(values, problems);
        let secrets = secrets(values, problems);
        let key = key(values, problems);
        let has_ring = secrets.as_ref().is_none_or(Option::is_some);
        if !has_ring && matches!(key, Some(None)) {
            problems.report(
                values,
                "secret-file",
                "is needed, or a --key-file: a file with a line of 16 bytes or more, the same on all nodes, mode 0600",
            );
        }
        let nodes = peers::read(values, problems, name.as_deref(), has_ring);
        let tunables = tunables(values, problems);
        let app = app(values, problems);
        let first = secrets.as_ref().and_then(|secrets| secrets.as_ref()).map(|secrets| &secrets.first);
        let api = api(values, problems, first);
        let secrets = secrets?;
        Some(Self::Node(Box::new(NodeConfig {
            name: name?,
            listen: listen?,
            keyring_mark: secrets.as_ref().map(|secrets| secrets.mark).unwrap_or_default(),
            keyring: secrets.map(|secrets| secrets.ring),
            key: key?,
            nodes: nodes?,
            tunables: tunables?,
            app: app?,
            api: api?,
        })))
    }
}

fn name(values: &Values, problems: &mut Problems) -> Option<Arc<str>> {
    let Some(name) = values.opt_text("name") else {
        problems.report(values, "name", "is needed: the name by which the peers of this node know it");
        return None;
    };
    if let Err(problem) = peer_name(&name) {
        problems.report(values, "name", problem);
        return None;
    }
    Some(name.into())
}

fn listen(values: &Values, problems: &mut Problems) -> Option<String> {
    let text = values.opt_text("listen")?;
    let Some(rest) = text.strip_prefix("tcp://") else {
        problems.report(
            values,
            "listen",
            format!("'{text}' is no endpoint; write tcp://IP:PORT or tcp://*:PORT"),
        );
        return None;
    };
    let good = match rest.strip_prefix("*:") {
        Some(port) => port.parse::<u16>().is_ok() || port == "*",
        None => rest
            .strip_suffix(":*")
            .map_or(rest.to_owned(), |host| format!("{host}:0"))
            .parse::<SocketAddr>()
            .is_ok(),
    };
    if !good {
        problems.report(
            values,
            "listen",
            format!("'{text}' names no address of this host; write tcp://IP:PORT or tcp://*:PORT"),
        );
        return None;
    }
    Some(text)
}

struct Secrets {
    ring: Keyring,
    first: Zeroizing<String>,
    mark: [u8; 32],
}

fn secrets(values: &Values, problems: &mut Problems) -> Option<Option<Secrets>> {
    let Some(path) = values.opt_path("secret-file") else { return Some(None) };
    let read = Keyring::read(&path).map_err(|error| error.to_string());
    let read = read.and_then(|ring| Ok((ring, text(&path)?)));
    match read {
        Ok((ring, text)) => {
            let mark = Sha256::digest(text.as_bytes()).into();
            Some(Some(Secrets { ring, first: Zeroizing::new(first_line(&text).to_owned()), mark }))
        }
        Err(sentence) => {
            let path = path.display().to_string();
            let named = if sentence.contains(&path) { sentence } else { format!("{path}: {sentence}") };
            problems.report(values, "secret-file", named);
            None
        }
    }
}

fn text(path: &Path) -> Result<Zeroizing<String>, String> {
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| format!("{}: {error}", path.display()))
}

/// The first line that says something.
fn first_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default()
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

fn tunables(values: &Values, problems: &mut Problems) -> Option<Tunables> {
    let tunables = Tunables::of(values)?;
    for problem in tunables.problems() {
        let key =
            ["read-timeout", "window"].into_iter().find(|key| problem.contains(key)).unwrap_or("buffer");
        problems.report_combination(values, key, problem);
    }
    Some(tunables)
}

fn app(values: &Values, problems: &mut Problems) -> Option<Option<AppConfig>> {
    let Some(text) = values.opt_text("app.endpoint") else { return Some(None) };
    match endpoint(&text) {
        Ok(endpoint) => Some(Some(AppConfig {
            endpoint,
            patience: values.opt_duration("app.patience")?,
            most: values.opt_integer("app.max")?,
        })),
        Err(problem) => {
            problems.report(values, "app.endpoint", problem);
            None
        }
    }
}

/// What a `sockaddr_un` holds, less the final zero.
const LONGEST_PATH: usize = 107;

fn endpoint(text: &str) -> Result<AppEndpoint, String> {
    if let Some(path) = text.strip_prefix("ipc://") {
        if !path.starts_with('/') {
            return Err(format!("'{text}' needs a whole path, as in ipc:///run/cluster-node/app.sock"));
        }
        if path.len() > LONGEST_PATH {
            return Err(format!(
                "'{text}' is too long: the path of a socket has at most {LONGEST_PATH} bytes"
            ));
        }
        return Ok(AppEndpoint::Ipc(path.into()));
    }
    let Some(rest) = text.strip_prefix("tcp://") else {
        return Err(format!("'{text}' is no endpoint; write ipc:///PATH or tcp://127.0.0.1:PORT"));
    };
    let rest = rest.strip_suffix(":*").map_or(rest.to_owned(), |host| format!("{host}:0"));
    let rest = rest.strip_prefix("localhost:").map_or(rest.clone(), |port| format!("127.0.0.1:{port}"));
    match rest.parse::<SocketAddr>() {
        Ok(addr) if addr.ip().to_canonical().is_loopback() => Ok(AppEndpoint::Tcp(addr)),
        Ok(_) => Err(format!(
            "'{text}' can be reached by others, and applications show no key: write ipc:///PATH or tcp://127.0.0.1:PORT, and give each host a node of its own"
        )),
        Err(_) => {
            Err(format!("'{text}' names no loopback address; write ipc:///PATH or tcp://127.0.0.1:PORT"))
        }
    }
}

fn api(
    values: &Values,
    problems: &mut Problems,
    cluster: Option<&Zeroizing<String>>,
) -> Option<Option<ApiConfig>> {
    let token = values.opt_path("api.token-file").map(|path| Token::read(&path)).transpose();
    if let Err(error) = &token {
        problems.report(values, "api.token-file", error.clone());
    }
    let own = values.opt_path("api.secret-file").map(|path| password(&path)).transpose();
    if let Err(error) = &own {
        problems.report(values, "api.secret-file", error.clone());
    }
    let tls = tls(values, problems);
    if values.switch("no-api") {
        return Some(None);
    }
    let own = own.ok()?;
    let access = AccessConfig {
        token: token.ok()?,
        insecure: values.switch("api.insecure"),
        own_password: own.is_some(),
        password: own.or_else(|| cluster.cloned()),
    };
    Some(Some(ApiConfig {
        address: values.opt_address("api.address")?,
        limits: Limits::from_values(values)?,
        tls: tls?,
        access,
        body_timeout: values.opt_duration("body-timeout")?,
        max_buffer: values.opt_size("max-buffer")?,
        streams: values.opt_integer("max-streams")?,
    }))
}

fn password(path: &Path) -> Result<Zeroizing<String>, String> {
    let text = text(path)?;
    let password = text.lines().next().unwrap_or_default().trim();
    if password.len() < SHORTEST_PASSWORD {
        return Err(format!(
            "{}: the password is its first line, and has at least {SHORTEST_PASSWORD} bytes",
            path.display()
        ));
    }
    Ok(Zeroizing::new(password.to_owned()))
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
            let sentence = "tls.cert and tls.key go together, and tls.client-ca needs both";
            problems.report_combination(values, "tls.cert", sentence);
            None
        }
    }
}

/// Whether this is an address of the host itself.
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_connect_from_this_host_only() {
        assert_eq!(endpoint("ipc:///run/a.sock"), Ok(AppEndpoint::Ipc("/run/a.sock".into())));
        for good in ["tcp://127.0.0.1:0", "tcp://[::1]:5", "tcp://127.0.0.1:*", "tcp://localhost:5"] {
            assert!(matches!(endpoint(good), Ok(AppEndpoint::Tcp(_))), "{good}");
        }
        for bad in
            ["tcp://0.0.0.0:5", "tcp://10.0.0.1:5", "tcp://*:5", "ipc://a", "http://a", "tcp://127.0.0.1"]
        {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_secret_is_the_password() {
        assert_eq!(first_line("# a ring\n\n  one  \ntwo\n"), "one");
    }
}
