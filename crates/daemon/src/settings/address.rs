//! Addresses to listen on and to dial: `:8080`, `host:port`, `[::1]:8080`.
use std::fmt;
use std::str::FromStr;

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No colon, or nothing behind it.
    #[error("'{0}' has no port; write :8080, host:8080 or [::1]:8080")]
    NoPort(String),
    /// A port that is none.
    #[error("'{0}' has no port between 0 and 65535")]
    BadPort(String),
    /// Colons in a host that has no brackets.
    #[error("'{0}' needs brackets around its IPv6 address, as in [::1]:8080")]
    NeedsBrackets(String),
    /// A host that cannot be one.
    #[error("'{0}' has no valid host; write :8080, host:8080 or [::1]:8080")]
    BadHost(String),
}

/// A host, or every interface, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    host: Option<String>,
    port: u16,
}

impl Address {
    /// A host (a name or an address, IPv6 without brackets) and a port. An empty host or `*`
    /// means every interface.
    pub fn new(host: &str, port: u16) -> Self {
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let host = (!host.is_empty() && host != "*").then(|| host.to_owned());
        Self { host, port }
    }

    /// The host without brackets; `None` for every interface.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The port; 0 asks for a free one.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The same host with another port, such as the one that was free.
    pub fn with_port(&self, port: u16) -> Self {
        Self { host: self.host.clone(), port }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let (host, port) = text.rsplit_once(':').ok_or_else(|| AddressError::NoPort(text.to_owned()))?;
        if text.matches(':').count() > 1 && !host.starts_with('[') {
            return Err(AddressError::NeedsBrackets(text.to_owned()));
        }
        if port.is_empty() || port.ends_with(']') {
            return Err(AddressError::NoPort(text.to_owned()));
        }
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits);
        let port = port.ok_or_else(|| AddressError::BadPort(text.to_owned()))?;
        if let Some(inner) = host.strip_prefix('[') {
            let inner = inner.strip_suffix(']').unwrap_or("");
            // A zone (`fe80::1%eth0`) is for the resolver to understand.
            let address = inner.split('%').next().unwrap_or("");
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(AddressError::BadHost(text.to_owned()));
            }
        } else if !host.is_empty() && host != "*" && !is_host(host) {
            return Err(AddressError::BadHost(text.to_owned()));
        }
        Ok(Self::new(host, port))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            None => write!(f, ":{}", self.port),
            Some(host) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Some(host) => write!(f, "{host}:{}", self.port),
        }
    }
}

/// Whether this can be a host name, an IPv4 or a bare IPv6 address.
pub(crate) fn is_host(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if bare.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !host.is_empty() && host.len() <= 253 && host.chars().all(good) && !host.starts_with(['-', '.'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_form() {
        let cases = [
            (":8080", None, 8080),
            ("*:80", None, 80),
            ("localhost:0", Some("localhost"), 0),
            ("10.0.0.1:65535", Some("10.0.0.1"), 65535),
            ("[::1]:8080", Some("::1"), 8080),
            ("node_1.example:1", Some("node_1.example"), 1),
        ];
        for (text, host, port) in cases {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port), "{text}");
        }
    }

    #[test]
    fn says_what_is_missing() {
        let error = |text: &str| text.parse::<Address>().unwrap_err();
        assert!(matches!(error("8080"), AddressError::NoPort(_)));
        assert!(matches!(error("host:"), AddressError::NoPort(_)));
        assert!(matches!(error("[::1]"), AddressError::NoPort(_)));
        assert!(matches!(error("::1:80"), AddressError::NeedsBrackets(_)));
        assert!(matches!(error("h:65536"), AddressError::BadPort(_)));
        assert!(matches!(error("h:+80"), AddressError::BadPort(_)));
        assert!(matches!(error("ho st:80"), AddressError::BadHost(_)));
        assert!(matches!(error("[zz]:80"), AddressError::BadHost(_)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            host in prop_oneof![Just(String::new()), "[a-z][a-z0-9.-]{0,20}", any::<std::net::Ipv6Addr>().prop_map(|ip| ip.to_string())],
            port in any::<u16>(),
        ) {
            let address = Address::new(&host, port);
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }

        #[test]
        fn no_text_panics(text in ".{0,24}") {
            drop(text.parse::<Address>());
        }
    }
}
