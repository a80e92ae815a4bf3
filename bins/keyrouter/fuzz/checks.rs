//! What must hold for any input: nothing panics, and what is taken is consistent.

use common::ring::Algorithm;
use daemon::settings::Problems;
use http::{HeaderMap, HeaderValue, Method, Uri};
use jiff::Timestamp;
use keyrouter::arguments::batch::{self, BatchError};
use keyrouter::arguments::{self, Form};
use keyrouter::services::{Catalog, Spec};

/// The first byte chooses the form, the rest of the first line is the query, then comes the body.
pub(crate) fn arguments(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    let (query, body) = match rest.iter().position(|&byte| byte == b'\n') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &[][..]),
    };
    let Ok(uri) = Uri::try_from([b"/service/s?", query].concat()) else { return };
    let content_type = match kind % 4 {
        0 => "text/plain",
        1 => "application/x-www-form-urlencoded",
        2 => "application/json",
        _ => "multipart/form-data; boundary=b",
    };
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let form = Form::of(&Method::POST, &headers);
    match arguments::parse(&uri, &form, body) {
        Ok(found) => {
            // Asked again in the plainest form, it is the same.
            let key: String = found.key.iter().map(|byte| format!("%{byte:02x}")).collect();
            let plain = format!("/s?max={}&key={key}&min={}", found.max, found.min);
            let plain: Uri = plain.parse().expect("an encoded key makes a URI");
            assert_eq!(arguments::parse(&plain, &Form::Query, &[]).as_ref(), Ok(&found));
        }
        Err(error) => {
            let sentence = error.to_string();
            assert!(!sentence.is_empty() && sentence.chars().count() < 310, "{sentence}");
        }
    }
}

/// The body of a batch.
pub(crate) fn batch(data: &[u8]) {
    const MAX: usize = 8;
    match batch::parse(data, MAX) {
        Ok(found) => {
            assert!(found.keys.len() <= MAX);
            let keys: Vec<&str> =
                found.keys.iter().map(|key| str::from_utf8(key).expect("keys are text")).collect();
            let plain = serde_json::json!({ "keys": keys, "min": found.min, "max": found.max }).to_string();
            assert_eq!(batch::parse(plain.as_bytes(), MAX).as_ref(), Ok(&found));
        }
        Err(BatchError::TooMany(limit)) => assert_eq!(limit, MAX),
        Err(error) => assert!(error.to_string().chars().count() < 310, "{error}"),
    }
}

/// A file of services.
pub(crate) fn services(data: &[u8]) {
    for default in Algorithm::ALL {
        let mut problems = Problems::default();
        let Some(spec) = Spec::parse("f", data, default, &mut problems) else {
            assert!(!problems.is_empty(), "refused without a reason");
            continue;
        };
        assert!(problems.is_empty(), "taken in spite of {problems}");
        let now = Timestamp::UNIX_EPOCH;
        let catalog = Catalog::build(&spec, default, None, 1, now).expect("a good file makes rings");
        let names: Vec<&str> = catalog.services().iter().map(|service| &*service.name).collect();
        let listed: Vec<String> = serde_json::from_slice(catalog.names_json()).expect("JSON");
        assert_eq!(names, listed);
        for service in catalog.services() {
            assert!(catalog.service(&service.name).is_some_and(|found| found.name == service.name));
            let info: serde_json::Value = serde_json::from_slice(&service.nodes_json()).expect("JSON");
            assert_eq!(info["nodes"].as_array().map(Vec::len), Some(service.nodes().count()));
        }
        let again = Catalog::build(&spec, default, Some(&catalog), 2, now).expect("as before");
        assert!(again.services().iter().all(|service| service.generation == 1), "nothing has changed");
    }
}
