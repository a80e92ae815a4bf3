//! Addresses. What is shown of one never holds its password.

use std::fmt;

use http_fetch::url::{Parts, UrlError, decoded, host_and_port, read, shown_host};

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

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

fn wrong(url: &str, what: impl Into<String>) -> UrlError {
    UrlError::new(url, what)
}

impl RedisUrl {
    /// Reads `redis://` or `rediss://`, `[USER:PASSWORD@]HOST[:PORT][,HOST...][/DB][?OPTION=VALUE&...]`. Options that
    /// are not about the way to the server are given to `own`, which names those that it knows when it does not know one.
    ///
    /// # Errors
    /// [`UrlError`], which never shows a password.
    pub fn parse(url: &str, own: &mut dyn FnMut(&str, &str) -> Result<(), String>) -> Result<Self, UrlError> {
        let kind = url.split(':').next().unwrap_or_default();
        if !matches!(kind, "redis" | "rediss") {
            return Err(wrong(url, "it begins with neither redis:// nor rediss://"));
        }
        redis(url, kind == "rediss", own)
    }
}

fn redis(
    url: &str,
    tls: bool,
    own: &mut dyn FnMut(&str, &str) -> Result<(), String>,
) -> Result<RedisUrl, UrlError> {
    let parts = Parts::of(url)?;
    let (authority, db) = (parts.authority, parts.path);
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
    options(parts, &mut parsed, own)?;
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

fn options(
    parts: Parts<'_>,
    parsed: &mut RedisUrl,
    own: &mut dyn FnMut(&str, &str) -> Result<(), String>,
) -> Result<(), UrlError> {
    let url = parts.url;
    let (mut cert, mut key) = (None, None);
    for option in parts.options() {
        let (name, value) = option?;
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
            _ => own(name, &value).map_err(|known| {
                let all = "sentinel=NAME, password-file=PATH, ca=PATH, cert=PATH and key=PATH";
                let known = if known.is_empty() { all.to_owned() } else { format!("{known}, {all}") };
                parts.unknown(name, &known)
            })?,
        }
    }
    parsed.client = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err(wrong(url, "cert and key go together")),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<RedisUrl, UrlError> {
        RedisUrl::parse(url, &mut |_, _| Err(String::new()))
    }

    #[test]
    fn options_of_others_are_handed_on_and_named_when_unknown() {
        let mut seen = Vec::new();
        let mut own = |name: &str, value: &str| {
            seen.push((name.to_owned(), value.to_owned()));
            if name == "stream" { Ok(()) } else { Err("stream=NAME".to_owned()) }
        };
        let url = RedisUrl::parse("redis://:pw@h/2?stream=a%20b&sentinel=m", &mut own);
        assert_eq!(url.map(|url| (url.db, url.sentinel)), Ok((2, Some("m".into()))));
        let error = RedisUrl::parse("redis://:secret@h?frob=1", &mut own).unwrap_err().to_string();
        assert!(error.contains("\"frob\" is none of stream=NAME, sentinel=NAME"), "{error}");
        assert!(!error.contains("secret"), "{error}");
        assert_eq!(seen[0], ("stream".to_owned(), "a b".to_owned()));
    }

    #[test]
    fn other_kinds_are_refused() {
        assert!(parse("http://h").is_err() && parse("redis").is_err() && parse("redis:h").is_err());
    }
}
