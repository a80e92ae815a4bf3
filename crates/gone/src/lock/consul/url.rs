//! `consul://HOST[:8500][/PREFIX]?OPTIONS`.

use std::fmt;
use std::path::PathBuf;

use consul_client::Tls;

use crate::error::UrlError;
use crate::lock::url::{TlsOptions, decoded, host_and_port, prefix, read, wrong};

const PORT: u16 = 8500;

/// A Consul agent, and where in its key-value store the records lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsulUrl {
    /// The agent.
    pub host: (String, u16),
    /// Of the keys, without a slash at either end.
    pub prefix: String,
    /// The file with the ACL token; none: the environment's `CONSUL_HTTP_TOKEN`.
    pub token_file: Option<PathBuf>,
    /// Another datacenter than the agent's own.
    pub datacenter: Option<String>,
    /// With TLS, trusting whom.
    pub tls: Option<Tls>,
}

impl ConsulUrl {
    pub(in crate::lock) fn parse(url: &str, rest: &str) -> Result<Self, UrlError> {
        let rest = rest.strip_prefix("//").ok_or_else(|| wrong(url, "after the kind comes //HOST:PORT"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.contains('@') {
            return Err(wrong(url, "Consul knows no users; give an ACL token by token-file=PATH"));
        }
        if host.contains(',') {
            return Err(wrong(url, "name one agent, best the host's own: it knows the servers"));
        }
        let mut parsed = Self {
            host: host_and_port(url, host, PORT)?,
            prefix: prefix(url, path, "gone")?,
            token_file: None,
            datacenter: None,
            tls: None,
        };
        let mut tls = TlsOptions::default();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = decoded(url, value)?;
            match name {
                "token-file" => {
                    // Found out now rather than at each dial; it is read anew there.
                    read(url, &value)?;
                    parsed.token_file = Some(PathBuf::from(value));
                }
                "dc" if !value.is_empty() => parsed.datacenter = Some(value),
                _ if tls.take(url, name, &value)? => {}
                _ => {
                    let known = "token-file=PATH, dc=NAME, tls=1, ca=PATH, cert=PATH and key=PATH";
                    return Err(wrong(url, format!("the option {name:?} is none of {known}")));
                }
            }
        }
        parsed.tls = tls.done(url)?.map(|(ca, client)| Tls { ca, client });
        Ok(parsed)
    }

    /// `HOST:PORT`, IPv6 in brackets.
    pub(super) fn address(&self) -> String {
        crate::lock::url::shown_host(&self.host)
    }
}

impl fmt::Display for ConsulUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "consul://{}/{}", self.address(), self.prefix)?;
        let mut separator = '?';
        if let Some(name) = &self.datacenter {
            write!(f, "?dc={name}")?;
            separator = '&';
        }
        if self.tls.is_some() { write!(f, "{separator}tls=1") } else { Ok(()) }
    }
}
