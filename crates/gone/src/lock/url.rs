//! The addresses of locks. What is shown of one never holds its password.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::consul::ConsulUrl;
use super::etcd::EtcdUrl;
use crate::error::UrlError;

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// What an address names.
#[derive(Debug)]
pub(super) enum Parsed {
    Redis(RedisUrl),
    File(PathBuf),
    Consul(ConsulUrl),
    Etcd(EtcdUrl),
}

/// A Redis server, or the Sentinels that know it.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// With TLS: `rediss`.
    pub tls: bool,
    /// One server, or any number of Sentinels.
    pub hosts: Vec<(String, u16)>,
    /// For Redis ACLs.
    pub user: Option<String>,
    /// From the address itself or from `password-file`.
    pub password: Option<String>,
    /// The database's number.
    pub db: i64,
    /// The master's name; the hosts are Sentinels then.
    pub sentinel: Option<String>,
    /// The certificates to trust, as PEM; none: the system's.
    pub ca: Option<Vec<u8>>,
    /// The client's own certificate and key, as PEM.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis{}://", if self.tls { "s" } else { "" })?;
        write!(f, "{}", self.hosts.iter().map(shown_host).collect::<Vec<_>>().join(","))?;
        if self.db != 0 {
            write!(f, "/{}", self.db)?;
        }
        self.sentinel.as_ref().map_or(Ok(()), |name| write!(f, "?sentinel={name}"))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

/// Whether the address has a password in it, which others could read in a list of processes.
pub fn has_password(url: &str) -> bool {
    user_info(url).is_some_and(|info| info.contains(':'))
}

fn user_info(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    Some(authority.rsplit_once('@')?.0)
}

/// The address with its user and password left out, and its options, among which a secret may have been put.
fn shown(url: &str) -> String {
    let bare = url.split('?').next().unwrap_or_default();
    match user_info(url) {
        Some(info) => bare.replacen(&format!("{info}@"), "", 1),
        None => bare.to_owned(),
    }
}

pub(super) fn parse(url: &str) -> Result<Parsed, UrlError> {
    let Some((kind, rest)) = url.split_once(':') else { return Err(UrlError::NoKind(shown(url))) };
    match kind {
        "consul" => ConsulUrl::parse(url, rest).map(Parsed::Consul),
        "etcd" => EtcdUrl::parse(url, rest).map(Parsed::Etcd),
        "redis" | "rediss" => redis(url, kind == "rediss", rest).map(Parsed::Redis),
        "file" => {
            let folder = rest.strip_prefix("//").unwrap_or(rest);
            if folder.is_empty() {
                return Err(wrong(url, "it names no directory; write file:DIR"));
            }
            Ok(Parsed::File(PathBuf::from(folder)))
        }
        _ if kind.chars().all(|c| c.is_ascii_alphanumeric()) && !kind.is_empty() && !kind.contains('.') => {
            // A host without a kind reads the same: `localhost:6379`.
            let host = !rest.starts_with("//") && rest.parse::<u16>().is_ok();
            Err(if host { UrlError::NoKind(shown(url)) } else { UrlError::UnknownKind(kind.to_owned()) })
        }
        _ => Err(UrlError::NoKind(shown(url))),
    }
}

pub(super) fn wrong(url: &str, what: impl Into<String>) -> UrlError {
    UrlError::Wrong { url: shown(url), what: what.into() }
}

fn redis(url: &str, tls: bool, rest: &str) -> Result<RedisUrl, UrlError> {
    let rest = rest.strip_prefix("//").ok_or_else(|| wrong(url, "after the kind comes //HOST:PORT"))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, db) = rest.split_once('/').unwrap_or((rest, ""));
    let (info, hosts) = match authority.rsplit_once('@') {
        Some((info, hosts)) => (Some(info), hosts),
        None => (None, authority),
    };
    let (user, password) = match info {
        None => (None, None),
        Some(info) => match info.split_once(':') {
            Some((user, password)) => (Some(decoded(url, user)?), Some(decoded(url, password)?)),
            None => (Some(decoded(url, info)?), None),
        },
    };
    let db = match db {
        "" => 0,
        db => db
            .parse()
            .ok()
            .filter(|db| *db >= 0)
            .ok_or_else(|| wrong(url, format!("{db:?} is no database's number")))?,
    };
    let mut parsed = RedisUrl {
        tls,
        hosts: Vec::new(),
        user: user.filter(|user| !user.is_empty()),
        password,
        db,
        sentinel: None,
        ca: None,
        client: None,
    };
    options(url, query, &mut parsed)?;
    let port = if parsed.sentinel.is_some() { SENTINEL_PORT } else { REDIS_PORT };
    parsed.hosts = hosts.split(',').map(|host| host_and_port(url, host, port)).collect::<Result<_, _>>()?;
    if parsed.hosts.len() > 1 && parsed.sentinel.is_none() {
        return Err(wrong(url, "several hosts need ?sentinel=NAME: they are Sentinels then"));
    }
    if !tls && (parsed.ca.is_some() || parsed.client.is_some()) {
        return Err(wrong(url, "certificates need rediss://"));
    }
    Ok(parsed)
}

fn options(url: &str, query: &str, parsed: &mut RedisUrl) -> Result<(), UrlError> {
    let (mut cert, mut key) = (None, None);
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = decoded(url, value)?;
        match name {
            "sentinel" if !value.is_empty() => parsed.sentinel = Some(value),
            "password-file" if parsed.password.is_some() => {
                return Err(wrong(url, "it has a password and a password-file; leave one out"));
            }
            "password-file" => {
                let bytes = read(url, &value)?;
                let text = String::from_utf8(bytes).map_err(|_| wrong(url, format!("{value} is no text")))?;
                parsed.password = Some(text.trim_end_matches(['\r', '\n']).to_owned());
            }
            "ca" => parsed.ca = Some(read(url, &value)?),
            "cert" => cert = Some(read(url, &value)?),
            "key" => key = Some(read(url, &value)?),
            _ => {
                let known = "sentinel=NAME, password-file=PATH, ca=PATH, cert=PATH and key=PATH";
                return Err(wrong(url, format!("the option {name:?} is none of {known}")));
            }
        }
    }
    parsed.client = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err(wrong(url, "cert and key go together")),
    };
    Ok(())
}

pub(super) fn read(url: &str, path: &str) -> Result<Vec<u8>, UrlError> {
    std::fs::read(path).map_err(|error| UrlError::File {
        url: shown(url),
        path: path.to_owned(),
        what: error.to_string(),
    })
}

pub(super) fn decoded(url: &str, text: &str) -> Result<String, UrlError> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| wrong(url, "a part of it is no UTF-8 after decoding"))?.into_owned())
}

pub(super) fn host_and_port(url: &str, text: &str, default: u16) -> Result<(String, u16), UrlError> {
    let bad = || wrong(url, format!("{text:?} is no HOST:PORT"));
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(bad)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or_else(bad)?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let port = if port.is_empty() { default } else { port.parse().map_err(|_| bad())? };
    if host.is_empty() || host.contains(char::is_whitespace) || port == 0 {
        return Err(bad());
    }
    Ok((host.to_owned(), port))
}

/// `HOST:PORT`, IPv6 in brackets.
pub(super) fn shown_host((host, port): &(String, u16)) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The path as a prefix of keys, without a slash at either end.
pub(super) fn prefix(url: &str, path: &str, default: &str) -> Result<String, UrlError> {
    let path = decoded(url, path.strip_suffix('/').unwrap_or(path))?;
    if path.is_empty() {
        return Ok(default.to_owned());
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(wrong(url, format!("the prefix {path:?} has an empty part, or one of dots")));
    }
    Ok(path)
}

/// The options that turn TLS on.
#[derive(Default)]
pub(super) struct TlsOptions {
    on: bool,
    ca: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

/// The certificates to trust; our own with its key.
pub(super) type Certificates = (Option<Vec<u8>>, Option<(Vec<u8>, Vec<u8>)>);

impl TlsOptions {
    /// Takes an option; false when it is another one.
    pub(super) fn take(&mut self, url: &str, name: &str, value: &str) -> Result<bool, UrlError> {
        match name {
            "tls" if value == "1" => self.on = true,
            "tls" => return Err(wrong(url, "TLS is turned on by tls=1")),
            "ca" => self.ca = Some(read(url, value)?),
            "cert" => self.cert = Some(read(url, value)?),
            "key" => self.key = Some(read(url, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What they come to; none: no TLS.
    pub(super) fn done(self, url: &str) -> Result<Option<Certificates>, UrlError> {
        let client = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(wrong(url, "cert and key go together")),
        };
        if !self.on && (self.ca.is_some() || client.is_some()) {
            return Err(wrong(url, "certificates need tls=1"));
        }
        Ok(self.on.then_some((self.ca, client)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis_url(url: &str) -> RedisUrl {
        match parse(url) {
            Ok(Parsed::Redis(redis)) => redis,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn every_form_is_read_and_shown_without_its_password() {
        let plain = redis_url("redis://127.0.0.1");
        assert_eq!((plain.hosts, plain.db, plain.tls), (vec![("127.0.0.1".into(), 6379)], 0, false));
        let full = redis_url("rediss://me:s%40cret@[::1]:7000/3");
        assert_eq!((full.user.as_deref(), full.password.as_deref()), (Some("me"), Some("s@cret")));
        assert_eq!(full.to_string(), "rediss://[::1]:7000/3");
        assert!(!format!("{full:?}").contains("cret"));
        let sentinel = redis_url("redis://:pw@a,b:5000/1?sentinel=mymaster");
        assert_eq!(sentinel.hosts, [("a".into(), 26379), ("b".into(), 5000)]);
        assert_eq!(sentinel.to_string(), "redis://a:26379,b:5000/1?sentinel=mymaster");
        let Ok(Parsed::Consul(consul)) = parse("consul://h/team/jobs?dc=east&tls=1") else { panic!() };
        assert_eq!(consul.to_string(), "consul://h:8500/team/jobs?dc=east&tls=1");
        let Ok(Parsed::Consul(consul)) = parse("consul://[::1]:80") else { panic!() };
        assert_eq!(consul.to_string(), "consul://[::1]:80/gone");
        let Ok(Parsed::Etcd(etcd)) = parse("etcd://a,b:99,[::1]/p/q/?tls=1") else { panic!() };
        assert_eq!(etcd.to_string(), "etcd://a:2379,b:99,[::1]:2379/p/q?tls=1");
        assert!(has_password("redis://:pw@host") && !has_password("redis://me@host:1/"));
        assert!(
            matches!(parse("file:/var/lib/gone"), Ok(Parsed::File(path)) if path.as_os_str() == "/var/lib/gone")
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_sentence_and_without_the_password() {
        for (url, part) in [
            ("127.0.0.1:6379", "is no lock"),
            ("localhost:6379", "is no lock"),
            ("localhost", "is no lock"),
            ("zk://h:2181", "no lock of the kind \"zk\""),
            ("consul:h:8500", "//HOST:PORT"),
            ("consul://", "no HOST:PORT"),
            ("consul://a,b", "one agent"),
            ("consul://u:topsecret@a", "token-file"),
            ("consul://a?ca=/dev/null", "tls=1"),
            ("consul://a?tls=1&cert=/dev/null", "go together"),
            ("consul://a?token=topsecret", "the option \"token\""),
            ("consul://a?token-file=/nonexistent", "reading /nonexistent"),
            ("consul://a/x//y", "empty part"),
            ("etcd://", "no HOST:PORT"),
            ("etcd://a,,b", "no HOST:PORT"),
            ("etcd://u:topsecret@a", "etcd's users"),
            ("etcd://a?tls=2", "tls=1"),
            ("etcd://a?ca=/dev/null", "tls=1"),
            ("etcd://a?frob", "the option \"frob\""),
            ("redis:host", "//HOST:PORT"),
            ("redis://u:topsecret@host:x", "no HOST:PORT"),
            ("redis://u:topsecret@a,b", "sentinel=NAME"),
            ("redis://u:topsecret@a/x", "no database's number"),
            ("redis://u:topsecret@a?frob=1", "the option \"frob\""),
            ("redis://a?ca=/dev/null", "rediss://"),
            ("rediss://a?cert=/dev/null", "go together"),
            ("rediss://a?ca=/nonexistent/ca.pem", "reading /nonexistent/ca.pem"),
            ("redis://", "no HOST:PORT"),
            ("redis://[::1", "no HOST:PORT"),
            ("file:", "names no directory"),
        ] {
            let error = parse(url).expect_err(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("topsecret"), "{url}: {error}");
        }
    }
}
