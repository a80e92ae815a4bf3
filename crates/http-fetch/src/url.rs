//! The addresses of stores as users write them: `KIND://HOST1[:PORT],HOST2/PREFIX?OPTIONS`. What is shown of one never
//! holds its password.

use percent_encoding::percent_decode_str;

use crate::tls::Tls;

/// Why the text is no address, as `URL: WHAT`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url}: {what}")]
pub struct UrlError {
    /// The text without its user, password and options.
    pub url: String,
    /// What is wrong with it.
    pub what: String,
}

impl UrlError {
    /// Says this about an address.
    pub fn new(url: &str, what: impl Into<String>) -> Self {
        Self { url: shown(url), what: what.into() }
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
pub fn shown(url: &str) -> String {
    let bare = url.split('?').next().unwrap_or_default();
    match user_info(url) {
        Some(info) => bare.replacen(&format!("{info}@"), "", 1),
        None => bare.to_owned(),
    }
}

/// An address in its parts, none of which is decoded yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The whole.
    pub url: &'a str,
    /// Between `//` and the first slash: hosts, and perhaps a user.
    pub authority: &'a str,
    /// After that slash.
    pub path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    /// Takes an address apart.
    ///
    /// # Errors
    /// When no `//` follows the kind.
    pub fn of(url: &'a str) -> Result<Self, UrlError> {
        let rest = url.split_once(':').and_then(|(_, rest)| rest.strip_prefix("//"));
        let rest = rest.ok_or_else(|| UrlError::new(url, "after the kind comes //HOST:PORT"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(Self { url, authority, path, query })
    }

    /// The options in order, their values decoded.
    pub fn options(&self) -> impl Iterator<Item = Result<(&'a str, String), UrlError>> + use<'a> {
        let url = self.url;
        self.query.split('&').filter(|option| !option.is_empty()).map(move |option| {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            Ok((name, decoded(url, value)?))
        })
    }

    /// The authority as a list of hosts.
    ///
    /// # Errors
    /// As [`host_and_port`].
    pub fn hosts(&self, default: u16) -> Result<Vec<(String, u16)>, UrlError> {
        self.authority.split(',').map(|host| host_and_port(self.url, host, default)).collect()
    }

    /// The path as a prefix of keys, without a slash at either end; `default` where there is none.
    ///
    /// # Errors
    /// For empty parts and parts of dots.
    pub fn prefix(&self, default: &str) -> Result<String, UrlError> {
        let path = decoded(self.url, self.path.strip_suffix('/').unwrap_or(self.path))?;
        if path.is_empty() {
            return Ok(default.to_owned());
        }
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            let what = format!("the prefix {path:?} has an empty part, or one of dots");
            return Err(UrlError::new(self.url, what));
        }
        Ok(path)
    }

    /// Why this option is none, with those that there are.
    pub fn unknown(&self, option: &str, known: &str) -> UrlError {
        UrlError::new(self.url, format!("the option {option:?} is none of {known}"))
    }
}

/// A part of an address without its percent-encoding.
///
/// # Errors
/// When it is no UTF-8.
pub fn decoded(url: &str, text: &str) -> Result<String, UrlError> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| UrlError::new(url, "a part of it is no UTF-8 after decoding"))?.into_owned())
}

/// A file that an address names.
///
/// # Errors
/// When it cannot be read.
pub fn read(url: &str, path: &str) -> Result<Vec<u8>, UrlError> {
    std::fs::read(path).map_err(|error| UrlError::new(url, format!("reading {path}: {error}")))
}

/// `HOST[:PORT]`, IPv6 in brackets.
///
/// # Errors
/// When it is none.
pub fn host_and_port(url: &str, text: &str, default: u16) -> Result<(String, u16), UrlError> {
    let bad = || UrlError::new(url, format!("{text:?} is no HOST:PORT"));
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
pub fn shown_host((host, port): &(String, u16)) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The options that name certificates.
#[derive(Debug, Default)]
pub struct TlsOptions {
    on: bool,
    ca: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

impl TlsOptions {
    /// The options that there are, for error messages.
    pub const KNOWN: &str = "tls=1, ca=PATH, cert=PATH and key=PATH";

    /// Takes one of `tls`, `ca`, `cert` and `key`; false when it is another one. Files are read.
    ///
    /// # Errors
    /// For a file that cannot be read, and for another value of `tls` than 1.
    pub fn take(&mut self, url: &str, name: &str, value: &str) -> Result<bool, UrlError> {
        match name {
            "tls" if value == "1" => self.on = true,
            "tls" => return Err(UrlError::new(url, "TLS is turned on by tls=1")),
            "ca" => self.ca = Some(read(url, value)?),
            "cert" => self.cert = Some(read(url, value)?),
            "key" => self.key = Some(read(url, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What they come to; none: no TLS.
    ///
    /// # Errors
    /// For a certificate without its key, and for either without `tls=1`.
    pub fn done(self, url: &str) -> Result<Option<Tls>, UrlError> {
        let client = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(UrlError::new(url, "cert and key go together")),
        };
        if !self.on && (self.ca.is_some() || client.is_some()) {
            return Err(UrlError::new(url, "certificates need tls=1"));
        }
        Ok(self.on.then_some(Tls { ca: self.ca, client }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_falls_into_its_parts_and_shows_no_secret() {
        let parts = Parts::of("etcd://a,b:1,[::1]/p/q%20r/?x=1%2B&&y").unwrap();
        let hosts = [("a".to_owned(), 9), ("b".to_owned(), 1), ("::1".to_owned(), 9)];
        assert_eq!(parts.hosts(9).unwrap(), hosts);
        assert_eq!(shown_host(&hosts[2]), "[::1]:9");
        assert_eq!(parts.prefix("d").unwrap(), "p/q r");
        let options: Vec<_> = parts.options().map(Result::unwrap).collect();
        assert_eq!(options, [("x", "1+".to_owned()), ("y", String::new())]);
        assert_eq!(Parts::of("etcd://a").unwrap().prefix("d").unwrap(), "d");
        assert_eq!(Parts::of("etcd:a").unwrap_err().to_string(), "etcd:a: after the kind comes //HOST:PORT");
        for bad in ["etcd://a/x//y", "etcd://a/../y", "etcd://a/%FF"] {
            assert!(Parts::of(bad).unwrap().prefix("").is_err(), "{bad}");
        }
        assert!(has_password("k://u:p@h/x") && !has_password("k://u@h") && !has_password("k://h/a:b@c"));
        assert_eq!(UrlError::new("k://u:p@h/x?t=secret", "no").to_string(), "k://h/x: no");
    }
}
