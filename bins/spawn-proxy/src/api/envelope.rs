//! What goes back: the envelope around the data, pretty or compact, gzipped or not.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, Uri};
use serde::Serialize;
use serde_json::{Value, json};

use super::events::{ApiBody, EventBody};
use super::fault::Fault;
use super::query::Query;

/// An answer before it is written out.
#[derive(Debug)]
pub(super) struct Reply {
    /// The status.
    pub(super) status: StatusCode,
    /// What it says.
    pub(super) content: Content,
    /// Headers beside those that follow from the content.
    pub(super) headers: Vec<(header::HeaderName, HeaderValue)>,
}

/// What an answer says.
#[derive(Debug)]
pub(super) enum Content {
    /// Nothing.
    Empty,
    /// Plain text.
    Text(String),
    /// JSON in the envelope.
    Wrapped(Value),
    /// JSON as it is.
    Bare(Value),
    /// JSON as it is, indented whatever was asked for.
    Indented(Value),
    /// Events as they come.
    Events(EventBody),
}

impl Reply {
    /// An answer with nothing special about it.
    pub(super) fn new(status: StatusCode, content: Content) -> Self {
        Self { status, content, headers: Vec::new() }
    }

    /// 200 with a list.
    pub(super) fn list(results: Vec<impl Serialize>) -> Self {
        Self::new(StatusCode::OK, Content::Wrapped(listed(&results)))
    }

    fn with(mut self, name: header::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}

/// A successful answer's data.
pub(super) fn listed(results: &[impl Serialize]) -> Value {
    json!({ "results": results, "success": true, "total": results.len() })
}

impl From<Fault> for Reply {
    fn from(fault: Fault) -> Self {
        let (status, data) = (fault.status(), fault.data());
        match fault {
            Fault::UnknownPath(_) => Self::new(status, Content::Indented(data)),
            Fault::Method(route) => Self::new(status, Content::Text("Method Not Allowed\n".to_owned()))
                .with(header::ALLOW, &route.allow())
                .with(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            Fault::Unauthorized(_) => Self::new(status, Content::Bare(data))
                .with(header::WWW_AUTHENTICATE, "Bearer realm=\"spawn-proxy\""),
            Fault::Waiting(_) | Fault::Trimmed(_) => Self::new(status, Content::Wrapped(data)),
            Fault::Refused { .. } => {
                let close = fault.closes();
                let reply = Self::new(status, Content::Wrapped(data));
                if close { reply.with(header::CONNECTION, "close") } else { reply }
            }
        }
    }
}

/// How the client wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    pretty: bool,
    gzip: bool,
    head: bool,
}

impl Style {
    /// As a request says.
    pub(super) fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        Self { pretty: Query::of(uri).on("pretty"), gzip: takes_gzip(headers), head: method == Method::HEAD }
    }
}

/// Whether gzip is acceptable: named, or meant by `*`, and not with a weight of zero.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let mut star = false;
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for item in lines.flat_map(|line| line.split(',')) {
        let mut fields = item.split(';').map(str::trim);
        let coding = fields.next().unwrap_or_default();
        let weight = fields.find_map(|field| field.strip_prefix("q=").or_else(|| field.strip_prefix("Q=")));
        let wanted = weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0));
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            return wanted;
        }
        star |= coding == "*" && wanted;
    }
    star
}

#[derive(Serialize)]
struct Envelope<'a> {
    duration: u64,
    took: String,
    data: &'a Value,
}

/// Writes an answer out; `took` is how long it took to come by.
pub(super) fn render(reply: Reply, style: Style, took: Duration) -> Response<ApiBody> {
    let mut events = None;
    let (content_type, body) = match reply.content {
        Content::Empty => (None, Vec::new()),
        Content::Text(text) => (Some("text/plain"), text.into_bytes()),
        Content::Bare(value) => (Some("application/json"), to_json(&value, style.pretty)),
        Content::Indented(value) => (Some("application/json"), to_json(&value, true)),
        Content::Wrapped(data) => {
            let duration = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            let envelope = Envelope { duration, took: went(duration), data: &data };
            (Some("application/json"), to_json(&envelope, style.pretty))
        }
        Content::Events(body) => {
            events = Some(body);
            (Some("text/event-stream"), Vec::new())
        }
    };
    let mut response = Response::new(ApiBody::of(Bytes::new()));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.extend(reply.headers);
    // What follows depends on it even where this answer is not compressed.
    headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    let body = match style.gzip && !body.is_empty() {
        true => match gzip(&body) {
            Ok(smaller) => {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                smaller
            }
            Err(_) => body,
        },
        false => body,
    };
    match events {
        Some(events) if !style.head => *response.body_mut() = ApiBody::Events(events),
        Some(_) => {}
        None => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            if !style.head {
                *response.body_mut() = ApiBody::of(Bytes::from(body));
            }
        }
    }
    response
}

fn to_json(value: &impl Serialize, pretty: bool) -> Vec<u8> {
    // Maps with text keys and plain numbers: there is nothing that could fail.
    let json = if pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
    json.unwrap_or_default()
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

/// A duration as clients of this API know it: `7.656µs`, `1.5s`, `2m0.25s`.
fn went(nanos: u64) -> String {
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000)),
        _ => {
            const MINUTE: u64 = 60_000_000_000;
            let (minutes, rest) = (nanos / MINUTE, decimal(nanos % MINUTE, 1_000_000_000));
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{rest}s"),
                (0, minutes) => format!("{minutes}m{rest}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
            }
        }
    }
}

/// `value / unit` without trailing zeros; `unit` is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::io::Read;

    const PLAIN: Style = Style { pretty: false, gzip: false, head: false };

    fn body(response: Response<ApiBody>) -> Vec<u8> {
        let mut future = std::pin::pin!(response.into_body().collect());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(Ok(body)) => body.to_bytes().to_vec(),
            _ => panic!("a whole body is there at once"),
        }
    }

    fn text(reply: Reply, style: Style) -> String {
        String::from_utf8(body(render(reply, style, Duration::from_nanos(7_656)))).unwrap()
    }

    #[test]
    fn keys_stand_in_the_order_that_clients_know() {
        let wrapped = text(Reply::list(vec![1]), PLAIN);
        assert_eq!(
            wrapped,
            r#"{"duration":7656,"took":"7.656µs","data":{"results":[1],"success":true,"total":1}}"#
        );
        let fault = text(Fault::no_record().into(), PLAIN);
        let data = r#"{"error":404,"info":"Please add a record(s) before using","message":"Record(s) not found","success":false}"#;
        assert_eq!(fault, format!(r#"{{"duration":7656,"took":"7.656µs","data":{data}}}"#));
        let unauthorized = text(Fault::Unauthorized("x").into(), PLAIN);
        assert_eq!(unauthorized, r#"{"error":401,"info":"x","message":"Not authorized","success":false}"#);
    }

    #[test]
    fn an_unknown_path_is_always_indented_and_never_wrapped() {
        let unknown = text(Fault::UnknownPath("/nope".into()).into(), PLAIN);
        let lines = [
            "{",
            "  \"Message\": {",
            "    \"Error\": \"Method not found for /nope\",",
            "    \"Information\": \"Please see list of the methods by using /list\"",
            "  }",
            "}",
        ];
        assert_eq!(unknown, lines.join("\n"));
    }

    #[test]
    fn pretty_indents_by_two() {
        let pretty = text(Reply::list(Vec::<u8>::new()), Style { pretty: true, ..PLAIN });
        assert!(
            pretty.starts_with(
                "{\n  \"duration\": 7656,\n  \"took\": \"7.656µs\",\n  \"data\": {\n    \"results\": [],"
            ),
            "{pretty}"
        );
    }

    #[test]
    fn gzip_is_undone_to_the_same_and_head_keeps_the_length() {
        let plain = text(Reply::list(vec!["a"; 100]), PLAIN);
        let zipped =
            render(Reply::list(vec!["a"; 100]), Style { gzip: true, ..PLAIN }, Duration::from_nanos(7_656));
        assert_eq!(zipped.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(zipped.headers()[header::VARY], "Accept-Encoding");
        let mut unzipped = String::new();
        flate2::read::GzDecoder::new(&body(zipped)[..]).read_to_string(&mut unzipped).unwrap();
        assert_eq!(unzipped, plain);
        let head =
            render(Reply::list(vec!["a"; 100]), Style { head: true, ..PLAIN }, Duration::from_nanos(7_656));
        assert_eq!(head.headers()[header::CONTENT_LENGTH], plain.len().to_string());
        assert!(body(head).is_empty());
    }

    #[test]
    fn gzip_is_taken_where_it_is_accepted() {
        let takes = |value: &str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().unwrap())]);
            takes_gzip(&headers)
        };
        for value in ["gzip", "deflate, GZIP", "gzip;q=0.5", "br, *", "*;q=0.1, br"] {
            assert!(takes(value), "{value}");
        }
        for value in ["", "identity", "gzip;q=0", "gzip; q=0.000, *", "*;q=0", "gzipped", "gzip;q=x"] {
            assert!(!takes(value), "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn durations_read_as_they_always_did() {
        let known = [
            (0, "0s"),
            (1, "1ns"),
            (7_656, "7.656µs"),
            (1_000_000, "1ms"),
            (1_100_001, "1.100001ms"),
            (1_000_000_000, "1s"),
            (61_500_000_000, "1m1.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_600_000_000_001, "1h0m0.000000001s"),
        ];
        for (nanos, text) in known {
            assert_eq!(went(nanos), text);
        }
    }

    #[test]
    fn a_405_is_text_with_what_is_allowed() {
        let fault = super::super::call::Call::parse(&Method::POST, &"/nodes".parse().unwrap()).unwrap_err();
        let response = render(fault.into(), PLAIN, Duration::ZERO);
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[header::ALLOW], "DELETE, GET, HEAD, OPTIONS, PUT");
        assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain");
        assert_eq!(body(response), b"Method Not Allowed\n");
    }
}
