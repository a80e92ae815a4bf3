//! Which headers travel through a proxy (RFC 9110, 7.6) and which it adds.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The client's or the proxy's own key of an update.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The place of an update in the log.
pub const SPAWN_SEQUENCE: HeaderName = HeaderName::from_static("spawn-sequence");
/// The number of this attempt at this node, from 1.
pub const SPAWN_ATTEMPT: HeaderName = HeaderName::from_static("spawn-attempt");
/// The node that answered.
pub const SPAWN_NODE: HeaderName = HeaderName::from_static("spawn-node");
/// In a read: the update that the node has to have applied.
pub const SPAWN_MIN_SEQUENCE: HeaderName = HeaderName::from_static("spawn-min-sequence");
/// By how many milliseconds the node that served a read was behind.
pub const SPAWN_LAG: HeaderName = HeaderName::from_static("spawn-lag");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Removes what is meant for this hop only. Trailers stay possible: `TE: trailers` is kept.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::try_from(name.trim()).ok())
            // A client must not make the proxy drop what the request cannot do without.
            .filter(|name| name != header::HOST && name != header::CONTENT_LENGTH && name != header::TE)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
    if headers.contains_key(header::TE) {
        let trailers = headers
            .get_all(header::TE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")));
        headers.remove(header::TE);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// Who sent a request, and how it came.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address as the connection has it.
    pub client: HeaderValue,
    /// `http` or `https`.
    pub scheme: HeaderValue,
}

impl Origin {
    /// A client that came over TLS or not.
    pub fn new(client: IpAddr, tls: bool) -> Self {
        let text = client.to_canonical().to_string();
        Self {
            client: HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            scheme: HeaderValue::from_static(if tls { "https" } else { "http" }),
        }
    }
}

/// Makes a client's headers fit to be sent to a node, but for Host: hop-by-hop and `Expect` out,
/// `X-Forwarded-*` and `Via` in. The proxy's own `Spawn-*` headers cannot be forged.
pub fn prepare_request(headers: &mut HeaderMap, origin: &Origin, version: http::Version) {
    remove_hop_by_hop(headers);
    headers.remove(header::EXPECT);
    for name in [SPAWN_SEQUENCE, SPAWN_ATTEMPT, SPAWN_NODE, SPAWN_LAG, SPAWN_MIN_SEQUENCE] {
        headers.remove(name);
    }
    append_to_list(headers, X_FORWARDED_FOR, &origin.client);
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, origin.scheme.clone());
    }
    if !headers.contains_key(X_FORWARDED_HOST)
        && let Some(host) = headers.get(header::HOST).cloned()
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
    add_via(headers, version);
}

/// Makes a node's headers fit to be sent to a client.
pub fn prepare_answer(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
}

fn add_via(headers: &mut HeaderMap, version: http::Version) {
    let own = match version {
        http::Version::HTTP_10 => HeaderValue::from_static("1.0 spawn-proxy"),
        http::Version::HTTP_2 => HeaderValue::from_static("2 spawn-proxy"),
        _ => HeaderValue::from_static("1.1 spawn-proxy"),
    };
    append_to_list(headers, header::VIA, &own);
}

/// Adds to a comma-separated header, keeping what is there.
fn append_to_list(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue) {
    if !headers.contains_key(&name) {
        headers.insert(name, value.clone());
        return;
    }
    let parts: Vec<&[u8]> =
        headers.get_all(&name).iter().map(HeaderValue::as_bytes).chain([value.as_bytes()]).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b", "[..])) {
        headers.insert(name, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn what_is_for_this_hop_goes_no_further() {
        let mut map = headers(&[
            ("connection", "close, X-Secret"),
            ("connection", "keep-alive, host, content-length"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("host", "a"),
            ("content-length", "3"),
            ("x-kept", "1"),
        ]);
        remove_hop_by_hop(&mut map);
        assert_eq!(
            map,
            headers(&[("te", "trailers"), ("host", "a"), ("content-length", "3"), ("x-kept", "1")])
        );
    }

    #[test]
    fn forwarding_headers_are_appended_and_ours_cannot_be_forged() {
        let mut map = headers(&[
            ("host", "shop"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("via", "1.0 edge"),
            ("expect", "100-continue"),
            ("spawn-sequence", "7"),
            ("spawn-attempt", "9"),
        ]);
        let origin = Origin::new("::ffff:9.9.9.9".parse().unwrap(), false);
        prepare_request(&mut map, &origin, http::Version::HTTP_11);
        assert_eq!(
            map,
            headers(&[
                ("host", "shop"),
                ("x-forwarded-for", "1.1.1.1, 2.2.2.2, 9.9.9.9"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", "shop"),
                ("via", "1.0 edge, 1.1 spawn-proxy"),
            ])
        );
    }
}
