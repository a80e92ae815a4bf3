//! The configuration, typed. Nothing is read here but what the user said: `--check-config` and the start
//! look into the files.

use std::path::PathBuf;

use common::ring::Algorithm;
use daemon::http::{BodyLimits, Limits, Token};
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
    /// What bounds a connection.
    pub limits: Limits,
    /// Certificate, key and authority of clients.
    pub tls: Option<TlsFiles>,
    /// The file with the token that lookups have to carry.
    pub token_file: Option<PathBuf>,
    /// How the file of services is read.
    pub reading: services::Options,
    /// What bounds a request.
    pub bounds: Bounds,
}

/// What bounds a request. A reload changes it.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Keys of a batch.
    pub max_batch: usize,
    /// What the body of a request may be like.
    pub body: BodyLimits,
    /// Memory for the bodies of all requests, in bytes.
    pub max_buffer: u64,
}

impl Config {
    /// The token in its file.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn read_token(&self) -> Result<Option<Token>, String> {
        self.token_file.as_deref().map(Token::read).transpose()
    }
}

impl DaemonConfig for Config {
    fn from_values(values: &Values, problems: &mut Problems) -> Option<Self> {
        let tls = tls(values, problems);
        let bounds = bounds(values, problems);
        Some(Self {
            address: values.opt_address("address")?,
            services: values.opt_path("services")?,
            watch: values.switch("watch"),
            workers: values.opt_integer("workers").unwrap_or_else(processors),
            limits: Limits::from_values(values)?,
            reading: reading(values)?,
            bounds: bounds?,
            token_file: values.opt_path("api.token-file"),
            tls,
        })
    }

    fn check(values: &Values, problems: &mut Problems) {
        if let Some((path, options)) = values.opt_path("services").zip(reading(values)) {
            let _ = services::load(&path, options.algorithm, options.max_size, problems);
        }
        if let Some(Err(error)) = values.opt_path("api.token-file").map(|path| Token::read(&path)) {
            problems.report(values, "api.token-file", error);
        }
        // What is missing of the three is told elsewhere.
        if let Some(Err(error)) = tls(values, &mut Problems::default()).map(|files| files.load()) {
            problems.report(values, "tls.cert", error.to_string());
        }
    }
}

fn reading(values: &Values) -> Option<services::Options> {
    Some(services::Options {
        algorithm: values.opt_choice("algorithm")?.parse::<Algorithm>().ok()?,
        hold_empty: values.switch("hold-empty"),
        max_size: values.opt_size("max-services-size")?,
    })
}

fn bounds(values: &Values, problems: &mut Problems) -> Option<Bounds> {
    let bounds = Bounds {
        max_batch: values.opt_integer("max-batch")?,
        body: BodyLimits {
            max_bytes: values.opt_size("max-body")?,
            patience: values.opt_duration("body-timeout")?,
        },
        max_buffer: values.opt_size("max-buffer")?,
    };
    if bounds.max_buffer < bounds.body.max_bytes {
        problems.report(
            values,
            "max-buffer",
            "is less than max-body: not even one such body would have room",
        );
        return None;
    }
    Some(bounds)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn tls(values: &Values, problems: &mut Problems) -> Option<TlsFiles> {
    let client_auth = values.opt_path("tls.client-ca").map_or(ClientAuth::None, ClientAuth::Asked);
    match (values.opt_path("tls.cert"), values.opt_path("tls.key")) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key, client_auth }),
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
