//! Who may change things by an API: callers from elsewhere, tokens, certificates, and pages in browsers.
//!
//! A page that somebody visits can have the visitor's browser send requests here. What it sends
//! carries its origin, which is compared with the one that is allowed and with the host that was
//! called. A page whose name was made to point here (DNS rebinding) passes the second comparison,
//! so a name as host counts only where a token or the operator's word stands behind it.
use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderValue};

use super::Token;

/// Who may change things.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// The bearer token that changes ask for.
    pub token: Option<Token>,
    /// Whether callers show a certificate, verified in the handshake.
    pub certificates: bool,
    /// Whether the operator trusts everybody who reaches the API (`--insecure-api`).
    pub insecure: bool,
    /// The origin whose pages may call, or `*`.
    pub cors_origin: Option<String>,
}

/// Why a change may not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The API listens where others reach it, and nothing says who they are: 403.
    OpenAddress(SocketAddr),
    /// The client certificate is missing: 403.
    NoCertificate,
    /// The token is missing or another: 401.
    NoToken,
    /// A page of this other origin sent it: 403.
    ForeignOrigin(String),
}

impl Guard {
    /// Whether anything may be changed by an API that listens on this address.
    pub fn may_change_on(&self, local: IpAddr) -> bool {
        local.to_canonical().is_loopback() || self.token.is_some() || self.certificates || self.insecure
    }

    /// Whether the caller who sent `headers` to `local` may make a change.
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        &self,
        headers: &HeaderMap,
        has_certificate: bool,
        local: SocketAddr,
    ) -> Result<(), Refusal> {
        if !self.may_change_on(local.ip()) {
            return Err(Refusal::OpenAddress(local));
        }
        if self.certificates && !has_certificate {
            return Err(Refusal::NoCertificate);
        }
        if self.token.as_ref().is_some_and(|token| !token.is_in(headers)) {
            return Err(Refusal::NoToken);
        }
        self.foreign_origin(headers).map_or(Ok(()), |origin| Err(Refusal::ForeignOrigin(origin)))
    }

    /// Whether pages of this origin may call.
    pub fn allows_origin(&self, origin: &str) -> bool {
        self.cors_origin.as_deref().is_some_and(|allowed| {
            allowed == "*" || allowed.trim_end_matches('/').eq_ignore_ascii_case(origin)
        })
    }

    /// The origin of the page that sent this, where that is neither this API's own nor an allowed one.
    fn foreign_origin(&self, headers: &HeaderMap) -> Option<String> {
        let foreign = |origin: &&HeaderValue| {
            let Ok(origin) = origin.to_str() else { return true };
            !self.allows_origin(origin) && !self.is_own(origin, headers)
        };
        let origin = headers.get_all(header::ORIGIN).iter().find(foreign)?;
        Some(String::from_utf8_lossy(origin.as_bytes()).into_owned())
    }

    /// Whether the page came from the host that is called, and that host is no name that anybody can
    /// have pointed here.
    fn is_own(&self, origin: &str, headers: &HeaderMap) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
        let port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
        let bare = |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
        let own = bare(authority) == bare(host);
        own && (self.token.is_some() || self.insecure || is_unmistakable(host))
    }
}

/// An address, or the name that always means this machine.
fn is_unmistakable(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7118);
    const OPEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 7118);

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn an_open_address_does_not_change_anything_until_told_who_may() {
        let none = HeaderMap::new();
        assert_eq!(Guard::default().check(&none, false, OPEN), Err(Refusal::OpenAddress(OPEN)));
        assert_eq!(Guard::default().check(&none, false, LOCAL), Ok(()));
        let mapped = "[::ffff:127.0.0.1]:1".parse().unwrap();
        assert_eq!(Guard::default().check(&none, false, mapped), Ok(()));
        let insecure = Guard { insecure: true, ..Guard::default() };
        assert_eq!(insecure.check(&none, false, OPEN), Ok(()));
        let certificates = Guard { certificates: true, ..Guard::default() };
        assert_eq!(certificates.check(&none, false, OPEN), Err(Refusal::NoCertificate));
        assert_eq!(certificates.check(&none, true, OPEN), Ok(()));
    }

    #[test]
    fn a_token_is_asked_for() {
        let guard = Guard { token: Some(Token::new("0123456789abcdef")), ..Guard::default() };
        let with = |value: &str| guard.check(&headers(&[(header::AUTHORIZATION, value)]), false, OPEN);
        assert_eq!(with("Bearer 0123456789abcdef"), Ok(()));
        assert_eq!(with("Bearer 0123456789abcde"), Err(Refusal::NoToken));
        assert_eq!(guard.check(&HeaderMap::new(), false, OPEN), Err(Refusal::NoToken));
    }

    #[test]
    fn pages_of_other_origins_change_nothing() {
        let from = |guard: &Guard, host: &str, origin: &str| {
            guard.check(&headers(&[(header::HOST, host), (header::ORIGIN, origin)]), false, LOCAL).is_ok()
        };
        let plain = Guard::default();
        for (host, origin) in [
            ("127.0.0.1:7118", "http://127.0.0.1:7118"),
            ("localhost:7118", "http://LOCALHOST:7118"),
            ("[::1]:7118", "http://[::1]:7118"),
            ("10.0.0.1", "https://10.0.0.1:443"),
        ] {
            assert!(from(&plain, host, origin), "{origin}");
        }
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:80",
            "127.0.0.1:7118",
            "http://127.0.0.1:7118.evil.example",
        ] {
            assert!(!from(&plain, "127.0.0.1:7118", origin), "{origin}");
        }
        // A name that was made to point here.
        assert!(!from(&plain, "evil.example:7118", "http://evil.example:7118"));
        let insecure = Guard { insecure: true, ..Guard::default() };
        assert!(from(&insecure, "spawn.example:7118", "http://spawn.example:7118"));
        let named = Guard { cors_origin: Some("https://panel.example/".into()), ..Guard::default() };
        assert!(from(&named, "127.0.0.1:7118", "https://panel.example"));
        assert!(!from(&named, "127.0.0.1:7118", "https://panel.example.evil"));
        assert!(from(&Guard { cors_origin: Some("*".into()), ..Guard::default() }, "127.0.0.1:7118", "null"));
    }
}
