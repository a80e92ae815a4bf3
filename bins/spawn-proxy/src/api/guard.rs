//! Who may call: changes from elsewhere, tokens, and pages in browsers.
//!
//! A page that somebody visits can have the visitor's browser send requests here. What it sends
//! carries its origin, which is compared with the one that is allowed and with the host that was
//! called. A page whose name was made to point here (DNS rebinding) passes the second comparison,
//! so a name as host counts only where a token or the operator's word stands behind it.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::ApiConfig;
use super::call::Call;
use super::fault::Fault;
use super::routes::Route;

/// Whether a call may be made.
///
/// # Errors
/// Why not, and what would have to be set.
pub(super) fn check(
    config: &ApiConfig,
    call: &Call,
    headers: &HeaderMap,
    local: SocketAddr,
) -> Result<(), Fault> {
    if !call.changes() {
        return Ok(());
    }
    if !config.may_change {
        let info = format!(
            "The API listens on {local}: set --api-token-file to ask for a token, listen on 127.0.0.1 (--api-host), or let everybody change nodes with --insecure-api"
        );
        return Err(Fault::new(StatusCode::FORBIDDEN, "Changes are not allowed on this address", info));
    }
    if config.token.as_ref().is_some_and(|token| !token.is_in(headers)) {
        return Err(Fault::Unauthorized("A token is required: send Authorization: Bearer TOKEN"));
    }
    match foreign_origin(config, headers) {
        None => Ok(()),
        Some(origin) => Err(Fault::new(
            StatusCode::FORBIDDEN,
            "Changes are not allowed from pages of another origin",
            format!("The page is of {origin}: --cors-origin names the one origin that is allowed"),
        )),
    }
}

/// The origin of the page that sent this, where that is neither this API's own nor an allowed one.
fn foreign_origin(config: &ApiConfig, headers: &HeaderMap) -> Option<String> {
    let origins: Vec<&HeaderValue> = headers.get_all(header::ORIGIN).iter().collect();
    let foreign = |origin: &&HeaderValue| {
        let Ok(origin) = origin.to_str() else { return true };
        !config.allows_origin(origin) && !is_own(config, origin, headers)
    };
    let origin = origins.into_iter().find(foreign)?;
    Some(String::from_utf8_lossy(origin.as_bytes()).into_owned())
}

/// Whether the page came from the host that is called, and that host is no name that anybody can
/// have pointed here.
fn is_own(config: &ApiConfig, origin: &str, headers: &HeaderMap) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let bare = |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    let own = bare(authority) == bare(host);
    own && (config.token.is_some() || config.insecure || is_unmistakable(host))
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

impl ApiConfig {
    fn allows_origin(&self, origin: &str) -> bool {
        self.cors_origin.as_deref().is_some_and(|allowed| {
            allowed == "*" || allowed.trim_end_matches('/').eq_ignore_ascii_case(origin)
        })
    }
}

/// Tells a browser which pages may read this answer and, where it asks beforehand, what they may send.
pub(super) fn add_cors<B>(
    config: &ApiConfig,
    asked: &HeaderMap,
    route: Option<&Route>,
    response: &mut Response<B>,
) {
    let Some(allowed) = &config.cors_origin else { return };
    let headers = response.headers_mut();
    if allowed != "*" {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    let Some(origin) = asked.get(header::ORIGIN) else { return };
    if !origin.to_str().is_ok_and(|origin| config.allows_origin(origin)) {
        return;
    }
    let answer = if allowed == "*" { HeaderValue::from_static("*") } else { origin.clone() };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, answer);
    headers
        .insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Allow, WWW-Authenticate"));
    let Some(route) = route else { return };
    let mut tell = |question: HeaderName, answer: HeaderName, value: &str| {
        if let (true, Ok(value)) = (asked.contains_key(question), HeaderValue::from_str(value)) {
            headers.insert(answer, value);
        }
    };
    tell(header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_ALLOW_METHODS, &route.allow());
    let sendable = "authorization, content-type";
    tell(header::ACCESS_CONTROL_REQUEST_HEADERS, header::ACCESS_CONTROL_ALLOW_HEADERS, sendable);
    tell(header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_MAX_AGE, "600");
}

#[cfg(test)]
mod tests {
    use daemon::http::Token;

    use super::*;

    const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7118);

    fn config() -> ApiConfig {
        ApiConfig {
            may_change: true,
            insecure: false,
            token: None,
            cors_origin: None,
            host_name: String::new(),
        }
    }

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn status(config: &ApiConfig, pairs: &[(HeaderName, &str)]) -> u16 {
        match check(config, &Call::PutNodes, &headers(pairs), LOCAL) {
            Ok(()) => 200,
            Err(fault) => fault.status().as_u16(),
        }
    }

    #[test]
    fn an_open_address_reads_but_does_not_change_until_told_so() {
        let closed = ApiConfig { may_change: false, ..config() };
        let fault = check(&closed, &Call::PutNodes, &HeaderMap::new(), LOCAL).unwrap_err();
        assert_eq!(fault.status(), 403);
        let info = fault.data()["info"].to_string();
        assert!(info.contains("--api-token-file") && info.contains("--insecure-api"), "{info}");
        assert!(check(&closed, &Call::Queues, &HeaderMap::new(), LOCAL).is_ok());
    }

    #[test]
    fn a_token_is_asked_for_before_changes() {
        let config = ApiConfig { token: Some(Token::new("0123456789abcdef")), ..config() };
        assert_eq!(status(&config, &[(header::AUTHORIZATION, "Bearer 0123456789abcdef")]), 200);
        assert_eq!(status(&config, &[(header::AUTHORIZATION, "Bearer 0123456789abcde")]), 401);
        assert_eq!(status(&config, &[]), 401);
        assert!(check(&config, &Call::Queues, &HeaderMap::new(), LOCAL).is_ok());
    }

    #[test]
    fn pages_of_other_origins_change_nothing() {
        let from = |config: &ApiConfig, host: &str, origin: &str| {
            status(config, &[(header::HOST, host), (header::ORIGIN, origin)])
        };
        let plain = config();
        for (host, origin) in [
            ("127.0.0.1:7118", "http://127.0.0.1:7118"),
            ("localhost:7118", "http://LOCALHOST:7118"),
            ("[::1]:7118", "http://[::1]:7118"),
            ("10.0.0.1", "https://10.0.0.1:443"),
        ] {
            assert_eq!(from(&plain, host, origin), 200, "{origin}");
        }
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:80",
            "127.0.0.1:7118",
            "http://127.0.0.1:7118.evil.example",
        ] {
            assert_eq!(from(&plain, "127.0.0.1:7118", origin), 403, "{origin}");
        }
        // A name that was made to point here.
        assert_eq!(from(&plain, "evil.example:7118", "http://evil.example:7118"), 403);
        let insecure = ApiConfig { insecure: true, ..config() };
        assert_eq!(from(&insecure, "spawn.example:7118", "http://spawn.example:7118"), 200);
        let named = ApiConfig { cors_origin: Some("https://panel.example/".into()), ..config() };
        assert_eq!(from(&named, "127.0.0.1:7118", "https://panel.example"), 200);
        assert_eq!(from(&named, "127.0.0.1:7118", "https://panel.example.evil"), 403);
        assert_eq!(
            from(&ApiConfig { cors_origin: Some("*".into()), ..config() }, "127.0.0.1:7118", "null"),
            200
        );
    }

    fn cors(allowed: Option<&str>, pairs: &[(HeaderName, &str)], target: &str) -> HeaderMap {
        let config = ApiConfig { cors_origin: allowed.map(Into::into), ..config() };
        let mut response = Response::new(());
        let Ok(Call::Options(route)) = Call::parse(&http::Method::OPTIONS, &target.parse().unwrap()) else {
            panic!()
        };
        add_cors(&config, &headers(pairs), Some(route), &mut response);
        response.headers().clone()
    }

    #[test]
    fn cross_origin_reads_are_off_until_an_origin_is_named() {
        let asks = [(header::ORIGIN, "https://a.example"), (header::ACCESS_CONTROL_REQUEST_METHOD, "PUT")];
        assert!(cors(None, &asks, "/nodes").is_empty());
        let named = cors(Some("https://a.example"), &asks, "/nodes");
        assert_eq!(named[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
        assert_eq!(named[header::ACCESS_CONTROL_ALLOW_METHODS], "DELETE, GET, HEAD, OPTIONS, PUT");
        assert_eq!(named[header::VARY], "Origin");
        assert!(!named.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
        assert!(!named.contains_key(header::ACCESS_CONTROL_ALLOW_HEADERS));
        let star = cors(Some("*"), &asks, "/queues/h:1");
        assert_eq!(star[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(star[header::ACCESS_CONTROL_ALLOW_METHODS], "DELETE, OPTIONS");
        assert!(!star.contains_key(header::VARY));
        let other = cors(Some("https://b.example"), &asks, "/nodes");
        assert_eq!((other.len(), &other[header::VARY]), (1, &HeaderValue::from_static("Origin")));
    }
}
