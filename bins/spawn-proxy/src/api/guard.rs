//! Who may call: the rules of [`daemon::http::Guard`] in the words of this API, and what browsers are told.

use std::net::SocketAddr;

use daemon::http::Refusal;
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
    // This API has no TLS of its own, and so no certificates.
    config.guard.check(headers, false, local).map_err(|refusal| match refusal {
        Refusal::OpenAddress(local) => {
            let info = format!(
                "The API listens on {local}: set --api-token-file to ask for a token, listen on 127.0.0.1 (--api-host), or let everybody change nodes with --insecure-api"
            );
            Fault::new(StatusCode::FORBIDDEN, "Changes are not allowed on this address", info)
        }
        Refusal::NoCertificate => {
            Fault::new(StatusCode::FORBIDDEN, "A client certificate is required", "")
        }
        Refusal::NoToken => Fault::Unauthorized("A token is required: send Authorization: Bearer TOKEN"),
        Refusal::ForeignOrigin(origin) => Fault::new(
            StatusCode::FORBIDDEN,
            "Changes are not allowed from pages of another origin",
            format!("The page is of {origin}: --cors-origin names the one origin that is allowed"),
        ),
    })
}

/// Tells a browser which pages may read this answer and, where it asks beforehand, what they may send.
pub(super) fn add_cors<B>(
    config: &ApiConfig,
    asked: &HeaderMap,
    route: Option<&Route>,
    response: &mut Response<B>,
) {
    let Some(allowed) = &config.guard.cors_origin else { return };
    let headers = response.headers_mut();
    if allowed != "*" {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    let Some(origin) = asked.get(header::ORIGIN) else { return };
    if !origin.to_str().is_ok_and(|origin| config.guard.allows_origin(origin)) {
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
    use std::net::{IpAddr, Ipv4Addr};

    use daemon::http::{Guard, Token};

    use super::*;

    fn config(guard: Guard) -> ApiConfig {
        ApiConfig { guard, host_name: String::new() }
    }

    #[test]
    fn refusals_are_in_the_words_of_this_api_and_reads_are_open() {
        let open = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7118);
        let check = |guard: Guard, call: Call, headers: &HeaderMap| {
            super::check(&config(guard), &call, headers, open)
        };
        let none = HeaderMap::new();
        let fault = check(Guard::default(), Call::PutNodes, &none).unwrap_err();
        assert_eq!(fault.status(), 403);
        let info = fault.data()["info"].to_string();
        assert!(info.contains("--api-token-file") && info.contains("--insecure-api"), "{info}");
        assert!(check(Guard::default(), Call::Queues, &none).is_ok());

        let asked = Guard { token: Some(Token::new("0123456789abcdef")), ..Guard::default() };
        assert_eq!(check(asked.clone(), Call::PutNodes, &none).unwrap_err().status(), 401);
        assert!(check(asked, Call::Queues, &none).is_ok());

        let foreign = [(header::ORIGIN, "http://evil.example".parse().unwrap())].into_iter().collect();
        let fault =
            check(Guard { insecure: true, ..Guard::default() }, Call::PutNodes, &foreign).unwrap_err();
        assert_eq!(fault.status(), 403);
        assert!(fault.data()["info"].to_string().contains("http://evil.example"));
    }

    fn cors(allowed: Option<&str>, pairs: &[(HeaderName, &str)], target: &str) -> HeaderMap {
        let config = config(Guard { cors_origin: allowed.map(Into::into), ..Guard::default() });
        let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        let mut response = Response::new(());
        let Ok(Call::Options(route)) = Call::parse(&http::Method::OPTIONS, &target.parse().unwrap()) else {
            panic!()
        };
        add_cors(&config, &headers, Some(route), &mut response);
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
