//! `consul://HOST[:8500][/PREFIX]?OPTIONS`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http_fetch::url::{Parts, TlsOptions, UrlError, host_and_port, read, shown_host};
use http_fetch::{Limits, Tls};

use crate::client::{Config, Token};

const PORT: u16 = 8500;

/// A Consul agent, and where in its key-value store the caller's keys lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsulUrl {
    /// The agent.
    pub host: (String, u16),
    /// Of the keys, without a slash at either end; empty: none.
    pub prefix: String,
    /// The file with the ACL token; none: the environment's `CONSUL_HTTP_TOKEN`.
    pub token_file: Option<PathBuf>,
    /// Another datacenter than the agent's own.
    pub datacenter: Option<String>,
    /// With TLS, trusting whom.
    pub tls: Option<Tls>,
}

impl ConsulUrl {
    /// Reads an address; `prefix` where it has no path. Files that are named are read. Options: `token-file=PATH`,
    /// `dc=NAME`, `tls=1`, and with it `ca`, `cert` and `key`.
    ///
    /// # Errors
    /// [`UrlError`], which never shows a password.
    pub fn parse(url: &str, prefix: &str) -> Result<Self, UrlError> {
        let parts = Parts::of(url)?;
        if parts.authority.contains('@') {
            return Err(UrlError::new(url, "Consul knows no users; give an ACL token by token-file=PATH"));
        }
        if parts.authority.contains(',') {
            return Err(UrlError::new(url, "name one agent, best the host's own: it knows the servers"));
        }
        let mut parsed = Self {
            host: host_and_port(url, parts.authority, PORT)?,
            prefix: parts.prefix(prefix)?,
            token_file: None,
            datacenter: None,
            tls: None,
        };
        let mut tls = TlsOptions::default();
        for option in parts.options() {
            let (name, value) = option?;
            match name {
                "token-file" => {
                    // Found out now rather than at each dial; it is read anew there.
                    read(url, &value)?;
                    parsed.token_file = Some(PathBuf::from(value));
                }
                "dc" if !value.is_empty() => parsed.datacenter = Some(value),
                _ if tls.take(url, name, &value)? => {}
                _ => {
                    let known = format!("token-file=PATH, dc=NAME, {}", TlsOptions::KNOWN);
                    return Err(parts.unknown(name, &known));
                }
            }
        }
        parsed.tls = tls.done(url)?;
        Ok(parsed)
    }

    /// `HOST:PORT`, IPv6 in brackets.
    pub fn address(&self) -> String {
        shown_host(&self.host)
    }

    /// The client's configuration: each request within `timeout`.
    pub fn config(&self, timeout: Duration, limits: Limits) -> Config {
        Config {
            tls: self.tls.clone(),
            token: self.token_file.clone().map_or(Token::Environment, Token::File),
            datacenter: self.datacenter.clone(),
            timeout,
            limits,
            ..Config::at(self.address())
        }
    }
}

impl fmt::Display for ConsulUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "consul://{}{slash}{}", self.address(), self.prefix)?;
        let mut separator = '?';
        if let Some(name) = &self.datacenter {
            write!(f, "?dc={name}")?;
            separator = '&';
        }
        if self.tls.is_some() { write!(f, "{separator}tls=1") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_and_a_prefix_may_be_left_out() {
        let shown = |url: &str, prefix: &str| ConsulUrl::parse(url, prefix).unwrap().to_string();
        assert_eq!(shown("consul://h", "gone"), "consul://h:8500/gone");
        assert_eq!(shown("consul://h", ""), "consul://h:8500");
        assert_eq!(shown("consul://h/", ""), "consul://h:8500");
        assert_eq!(shown("consul://[::1]:80/a/b/?dc=east&tls=1", "x"), "consul://[::1]:80/a/b?dc=east&tls=1");
        let error = ConsulUrl::parse("consul://u:topsecret@a", "").unwrap_err().to_string();
        assert!(error.starts_with("consul://a: Consul knows no users"), "{error}");
    }
}
