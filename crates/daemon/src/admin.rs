//! The admin routes of every daemon's API: `/livez`, `/readyz`, `/healthz`, `/metrics`, `/version`.
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::json;

use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::settings::Program;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers the admin routes; a daemon's router asks here first. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admin {
    name: &'static str,
    version: &'static str,
    readiness: Readiness,
    metrics: Metrics,
}

impl Admin {
    /// The routes of this program.
    pub fn new(program: &Program, readiness: Readiness, metrics: Metrics) -> Self {
        Self { name: program.name, version: program.version, readiness, metrics }
    }

    /// The answer for this method and path (without query), or `None` where the path is not ours.
    /// Its body is empty for HEAD, and the length is that of the GET.
    pub fn respond(&self, method: &Method, path: &str) -> Option<Response<Bytes>> {
        let (status, content_type, body) = match path {
            "/livez" | "/healthz" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => {
                let (ready, report) = self.readiness.report();
                let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                (status, JSON, report.to_string())
            }
            "/metrics" => match self.metrics.encode() {
                Ok(text) => (StatusCode::OK, OPENMETRICS, text),
                Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, JSON, error("the metrics cannot be shown")),
            },
            "/version" => {
                (StatusCode::OK, JSON, json!({ "name": self.name, "version": self.version }).to_string())
            }
            _ => return None,
        };
        if method != Method::GET && method != Method::HEAD {
            let body = error(&format!("{path} answers only GET and HEAD"));
            let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, JSON, body.into(), false);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(response);
        }
        Some(answer(status, content_type, body.into(), method == Method::HEAD))
    }
}

fn error(sentence: &str) -> String {
    format!("{}\n", json!({ "error": sentence }))
}

fn answer(status: StatusCode, content_type: &'static str, body: Bytes, head: bool) -> Response<Bytes> {
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(if head { Bytes::new() } else { body });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, length);
    // A cached readiness is worse than none.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin() -> Admin {
        static PROGRAM: Program = Program::new("demo", "", "1.2.3");
        Admin::new(&PROGRAM, Readiness::new(), Metrics::new(&PROGRAM))
    }

    #[test]
    fn answers_its_routes_and_no_others() {
        let admin = admin();
        assert!(admin.respond(&Method::GET, "/nodes").is_none());
        assert!(admin.respond(&Method::GET, "/readyz/").is_none());
        for path in ["/livez", "/healthz", "/metrics", "/version"] {
            assert_eq!(admin.respond(&Method::GET, path).unwrap().status(), StatusCode::OK, "{path}");
        }
        let version = admin.respond(&Method::GET, "/version").unwrap();
        assert_eq!(version.body(), r#"{"name":"demo","version":"1.2.3"}"#);
    }

    #[test]
    fn readiness_decides_the_status_and_livez_does_not_care() {
        let admin = admin();
        let status = |path| admin.respond(&Method::GET, path).unwrap().status();
        assert_eq!(status("/readyz"), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status("/livez"), StatusCode::OK);
        admin.readiness.started();
        assert_eq!(status("/readyz"), StatusCode::OK);
    }

    #[test]
    fn head_has_the_length_but_no_body_and_others_are_told_what_goes() {
        let admin = admin();
        let get = admin.respond(&Method::GET, "/version").unwrap();
        let head = admin.respond(&Method::HEAD, "/version").unwrap();
        assert_eq!(head.headers()[CONTENT_LENGTH], get.headers()[CONTENT_LENGTH]);
        assert!(head.body().is_empty() && !get.body().is_empty());
        let post = admin.respond(&Method::POST, "/livez").unwrap();
        assert_eq!(
            (post.status(), &post.headers()[ALLOW]),
            (StatusCode::METHOD_NOT_ALLOWED, &HeaderValue::from_static("GET, HEAD"))
        );
        assert_eq!(post.headers()[CONTENT_TYPE], JSON);
        assert_eq!(post.body(), "{\"error\":\"/livez answers only GET and HEAD\"}\n");
    }
}
