//! `etcd://HOST1[:2379],HOST2/PREFIX?OPTIONS`.

use std::fmt;
use std::time::Duration;

use http_fetch::url::{Parts, TlsOptions, UrlError, shown_host};
use http_fetch::{Limits, Tls};

use crate::client::Config;

const PORT: u16 = 2379;

/// The members of an etcd cluster, and where the caller's keys lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdUrl {
    /// Their client addresses, in the order in which they are tried.
    pub hosts: Vec<(String, u16)>,
    /// Of the keys, without a slash at either end; empty: none.
    pub prefix: String,
    /// With TLS, trusting whom.
    pub tls: Option<Tls>,
}

impl EtcdUrl {
    /// Reads an address; `prefix` where it has no path. Files that are named are read. Options: `tls=1`, and with it
    /// `ca`, `cert` and `key`.
    ///
    /// # Errors
    /// [`UrlError`], which never shows a password.
    pub fn parse(url: &str, prefix: &str) -> Result<Self, UrlError> {
        let parts = Parts::of(url)?;
        if parts.authority.contains('@') {
            return Err(UrlError::new(url, "etcd's users are no use here; allow this by a certificate"));
        }
        let hosts = parts.hosts(PORT)?;
        let mut tls = TlsOptions::default();
        for option in parts.options() {
            let (name, value) = option?;
            if !tls.take(url, name, &value)? {
                return Err(parts.unknown(name, TlsOptions::KNOWN));
            }
        }
        Ok(Self { hosts, prefix: parts.prefix(prefix)?, tls: tls.done(url)? })
    }

    /// `HOST:PORT` of each, IPv6 in brackets.
    pub fn addresses(&self) -> Vec<String> {
        self.hosts.iter().map(shown_host).collect()
    }

    /// The client's configuration: each request within `timeout`.
    pub fn config(&self, timeout: Duration, limits: Limits) -> Config {
        Config { endpoints: self.addresses(), tls: self.tls.clone(), timeout, limits }
    }
}

impl fmt::Display for EtcdUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.tls.is_some() { "?tls=1" } else { "" };
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "etcd://{}{slash}{}{tls}", self.addresses().join(","), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_a_prefix_may_be_left_out() {
        let shown = |url: &str, prefix: &str| EtcdUrl::parse(url, prefix).unwrap().to_string();
        assert_eq!(shown("etcd://a,b:99,[::1]", "gone"), "etcd://a:2379,b:99,[::1]:2379/gone");
        assert_eq!(shown("etcd://a/", ""), "etcd://a:2379");
        assert_eq!(shown("etcd://a/p/q/?tls=1", "x"), "etcd://a:2379/p/q?tls=1");
        let error = EtcdUrl::parse("etcd://u:topsecret@a/x", "").unwrap_err().to_string();
        assert!(error.starts_with("etcd://a/x: etcd's users"), "{error}");
    }
}
