//! The configuration, typed. What may change while running is in [`LiveConfig`]; the rest needs a restart.

use std::path::PathBuf;
use std::time::Duration;

use common::ring::Algorithm;
use daemon::http::{BodyLimits, Token};
use daemon::settings::{Address, Config as DaemonConfig, Problems, Values};
use daemon::tls::{ClientAuth, TlsFiles};

use crate::services;

/// Everything that flags, environment and file say.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where requests come in.
    pub address: Address,
    /// The file of services.
    pub services: PathBuf,
    /// Whether the file is read again when it changes.
    pub watch: bool,
    /// How many threads answer.
    pub workers: usize,
    /// Connections at once.
    pub max_connections: usize,
    /// Bytes of a request's head.
    pub max_header: usize,
    /// How long a connection may be idle between requests.
    pub keep_alive: Duration,
    /// How long a request's head may take.
    pub header_timeout: Duration,
    /// Certificate, key and authority of clients.
    pub tls: Option<TlsFiles>,
    /// How the file of services is read.
    pub reading: services::Options,
    /// What a reload changes of how requests are answered.
    pub live: LiveConfig,
}

/// What a reload changes of how requests are answered.
#[derive(Debug, Clone)]
pub struct LiveConfig {
    /// The bearer token that lookups have to carry.
    pub token: Option<Token>,
    /// Whether clients have to show a certificate, except for the admin routes.
    pub certificate_required: bool,
    /// Keys of a batch.
    pub max_batch: usize,
    /// What the body of a request may be like.
    pub body: BodyLimits,
    /// Memory for the bodies of all requests, in bytes.
    pub max_buffer: u64,
}

impl DaemonConfig for Config {
    fn from_values(values: &Values, problems: &mut Problems) -> Option<Self> {
        let tls = tls(values, problems);
        let token = match values.opt_path("api.token-file") {
            None => None,
            Some(path) => {
                Token::read(&path).map_err(|error| problems.report(values, "api.token-file", error)).ok()
            }
        };
        Some(Self {
            address: values.opt_address("address")?,
            services: values.opt_path("services")?,
            watch: values.switch("watch"),
            workers: values.opt_integer("workers").unwrap_or_else(processors),
            max_connections: values.opt_integer("max-connections")?,
            max_header: usize::try_from(values.opt_size("max-header")?).ok()?,
            keep_alive: values.opt_duration("keep-alive")?,
            header_timeout: values.opt_duration("header-timeout")?,
            reading: services::Options {
                algorithm: values.opt_choice("algorithm")?.parse::<Algorithm>().ok()?,
                hold_empty: values.switch("hold-empty"),
                max_size: values.opt_size("max-services-size")?,
            },
            live: LiveConfig {
                token,
                certificate_required: values.is_set("tls.client-ca"),
                max_batch: values.opt_integer("max-batch")?,
                body: BodyLimits {
                    max_bytes: values.opt_size("max-body")?,
                    patience: values.opt_duration("body-timeout")?,
                },
                max_buffer: values.opt_size("max-buffer")?,
            },
            tls,
        })
    }

    fn check(&self, problems: &mut Problems) {
        let services::Options { algorithm, max_size, .. } = self.reading;
        let _ = services::load(&self.services, algorithm, max_size, problems);
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn tls(values: &Values, problems: &mut Problems) -> Option<TlsFiles> {
    let client_auth = values.opt_path("tls.client-ca").map_or(ClientAuth::None, ClientAuth::Asked);
    match (values.opt_path("tls.cert"), values.opt_path("tls.key")) {
        (Some(certificate), Some(key)) => {
            let files = TlsFiles { certificate, key, client_auth };
            if let Err(error) = files.load() {
                problems.report(values, "tls.cert", error.to_string());
            }
            Some(files)
        }
        (Some(_), None) => {
            problems.report(values, "tls.cert", "a certificate needs its key: give tls.key (--tls-key) too");
            None
        }
        (None, Some(_)) => {
            problems.report(values, "tls.key", "a key needs its certificate: give tls.cert (--tls-cert) too");
            None
        }
        (None, None) if client_auth != ClientAuth::None => {
            let message = "clients are asked for certificates within TLS only: give tls.cert and tls.key too";
            problems.report(values, "tls.client-ca", message);
            None
        }
        (None, None) => None,
    }
}
