//! `etcd://HOST1[:2379],HOST2/PREFIX?OPTIONS`.

use std::fmt;

use etcd_gateway::Tls;

use crate::error::UrlError;
use crate::lock::url::{TlsOptions, decoded, host_and_port, prefix, shown_host, wrong};

const PORT: u16 = 2379;

/// The members of an etcd cluster, and where the records lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdUrl {
    /// Their client addresses, in the order in which they are tried.
    pub hosts: Vec<(String, u16)>,
    /// Of the keys, without a slash at either end.
    pub prefix: String,
    /// With TLS, trusting whom.
    pub tls: Option<Tls>,
}

impl EtcdUrl {
    pub(in crate::lock) fn parse(url: &str, rest: &str) -> Result<Self, UrlError> {
        let rest = rest.strip_prefix("//").ok_or_else(|| wrong(url, "after the kind comes //HOST:PORT"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        if hosts.contains('@') {
            return Err(wrong(url, "etcd's users are no use here; allow this by a certificate"));
        }
        let hosts = hosts.split(',').map(|host| host_and_port(url, host, PORT)).collect::<Result<_, _>>()?;
        let mut tls = TlsOptions::default();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if !tls.take(url, name, &decoded(url, value)?)? {
                let known = "tls=1, ca=PATH, cert=PATH and key=PATH";
                return Err(wrong(url, format!("the option {name:?} is none of {known}")));
            }
        }
        let tls = tls.done(url)?.map(|(ca, client)| Tls { ca, client });
        Ok(Self { hosts, prefix: prefix(url, path, "gone")?, tls })
    }

    /// `HOST:PORT` of each, IPv6 in brackets.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.hosts.iter().map(shown_host).collect()
    }
}

impl fmt::Display for EtcdUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.tls.is_some() { "?tls=1" } else { "" };
        write!(f, "etcd://{}/{}{tls}", self.addresses().join(","), self.prefix)
    }
}
