//! Every error: its status, its words, its shape.

use serde_json::{Value, json};
use testkit::http::{ask, get};
use testkit::{Raw, RecorderNode};

use super::{call, data};
use crate::harness::Flags;

const NOT_RECOGNIZED: &str = "Could not recognize parameters";
const NO_ITEM: &str = "The parameter 'host/port' could not be empty";

/// Method, path, body; status, message, and what the info says.
type Row = (&'static str, &'static str, &'static str, u16, &'static str, &'static str);

const ROWS: &[Row] = &[
    ("GET", "/nodes/x", "", 404, "Record(s) not found", "Please add a record(s) before using"),
    ("GET", "/nodes/h/2", "", 404, "Record(s) not found", "Please add a record(s) before using"),
    ("DELETE", "/nodes/x", "", 404, "Record(s) not found", "Please add a record(s) before using"),
    ("DELETE", "/nodes/h/2", "", 404, "Record(s) not found", "Please add a record(s) before using"),
    (
        "GET",
        "/nodes/h/abc",
        "",
        400,
        "Could not recognize :port parameter",
        "'abc' is not a port: use a number from 1 to 65535",
    ),
    (
        "PUT",
        "/nodes/h/-1",
        "{}",
        400,
        "Could not recognize :port parameter",
        "'-1' is not a port: use a number from 1 to 65535",
    ),
    (
        "PUT",
        "/nodes/h/99999",
        "{}",
        400,
        "Could not recognize :port parameter",
        "'99999' is not a port: use a number from 1 to 65535",
    ),
    (
        "DELETE",
        "/nodes/h/0",
        "",
        400,
        "The parameter ':port' could not be zero value",
        "Please apply a non-zero value to the data",
    ),
    (
        "PUT",
        "/nodes/ho%20st/1",
        "{}",
        400,
        "Could not recognize ho st parameter",
        "ho st parameter is not alpha-numeric",
    ),
    (
        "GET",
        "/nodes/ho%20st",
        "",
        400,
        "Could not recognize ho st parameter",
        "ho st parameter is not alpha-numeric",
    ),
    (
        "PUT",
        "/nodes/h/1",
        r#"{"host":"ho st"}"#,
        400,
        "Could not recognize ho st parameter",
        "ho st parameter is not alpha-numeric",
    ),
    (
        "PUT",
        "/nodes/h/1",
        r#"{"host":""}"#,
        400,
        "The parameter 'host' could not be empty",
        "Please apply a non-empty value to the data",
    ),
    (
        "PUT",
        "/nodes/h/1",
        r#"{"port":0}"#,
        400,
        "The parameter 'port' could not be zero value",
        "Please apply a non-zero value to the data",
    ),
    ("PUT", "/nodes", r#"[{"port":1}]"#, 400, NO_ITEM, "Please apply a non-empty value to the data"),
    ("PUT", "/nodes", r#"[{"host":"h"}]"#, 400, NO_ITEM, "Please apply a non-empty value to the data"),
    ("PUT", "/nodes/h/1", "", 400, NOT_RECOGNIZED, "The body is empty: send JSON"),
    (
        "PUT",
        "/nodes/h/1",
        "{",
        400,
        NOT_RECOGNIZED,
        "The body is no JSON: EOF while parsing an object at line 1 column 1",
    ),
    ("PUT", "/nodes/h/1", "[]", 400, NOT_RECOGNIZED, "The body is an array: send a JSON object"),
    (
        "PUT",
        "/nodes/h/1",
        r#"{"port":-1}"#,
        400,
        NOT_RECOGNIZED,
        "'port' is -1: use a number from 1 to 65535",
    ),
    (
        "PUT",
        "/nodes/h/1",
        r#"{"port":65536}"#,
        400,
        NOT_RECOGNIZED,
        "'port' is 65536: use a number from 1 to 65535",
    ),
    ("PUT", "/nodes/h/1", r#"{"active":1}"#, 400, NOT_RECOGNIZED, "'active' is 1: use true or false"),
    ("PUT", "/nodes", "{}", 400, NOT_RECOGNIZED, "The body is an object: send a JSON array of objects"),
    ("PUT", "/nodes", "[7]", 400, NOT_RECOGNIZED, "Item 0 is a number: use a JSON object"),
    ("GET", "/updates/7", "", 404, "Record(s) not found", "The log does not hold update 7, or no longer"),
    (
        "GET",
        "/updates/x",
        "",
        400,
        "Could not recognize :sequence parameter",
        "'x' is not a sequence: use the number in Spawn-Sequence",
    ),
    (
        "GET",
        "/updates?limit=0",
        "",
        400,
        "Could not recognize limit parameter",
        "Use a number from 1 to 1000",
    ),
    (
        "DELETE",
        "/queues/h:1",
        "",
        404,
        "Record(s) not found",
        "No updates are kept for h:1: it is unknown or inactive",
    ),
];

#[tokio::test]
async fn every_error_has_its_status_its_words_and_the_envelope() {
    let proxy = Flags::new().and(&["--node", "h:1,inactive"]).start().await;
    for &(method, target, body, status, message, info) in ROWS {
        let want = json!({ "error": status, "info": info, "message": message, "success": false });
        assert_eq!(data(&proxy, method, target, body).await, (status, want), "{method} {target} {body}");
    }
    assert_eq!(proxy.results("/nodes").await.len(), 1, "none of it changed anything");
    let text = call(&proxy, "GET", "/nodes/x", "").await.text();
    let keys: Vec<_> =
        ["\"error\"", "\"info\"", "\"message\"", "\"success\""].iter().map(|key| text.find(key)).collect();
    assert!(keys.is_sorted() && keys[0].is_some(), "{text}");
}

#[tokio::test]
async fn an_unknown_path_and_an_unknown_method_have_their_own_shapes() {
    let proxy = Flags::new().start().await;
    let unknown = get(proxy.api, "/nope").await;
    let shape = json!({ "Message": {
        "Error": "Method not found for /nope",
        "Information": "Please see list of the methods by using /list",
    }});
    assert_eq!((unknown.status, unknown.json()), (404, shape));
    assert!(unknown.text().starts_with("{\n  \"Message\""));
    for (method, target, allow) in [
        ("POST", "/nodes", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("PATCH", "/nodes/h/1", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("PUT", "/nodes/h", "DELETE, GET, HEAD, OPTIONS"),
        ("OPTIONS", "/info", "GET, HEAD"),
        ("DELETE", "/updates", "GET, HEAD, OPTIONS"),
    ] {
        let answer = call(&proxy, method, target, "").await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (405, "Method Not Allowed\n"),
            "{method} {target}"
        );
        assert_eq!(answer.header("allow"), Some(allow));
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    let options = call(&proxy, "OPTIONS", "/nodes/h/1/", "").await;
    assert_eq!((options.status, options.text().as_str()), (200, ""));
    assert_eq!(options.header("allow"), Some("DELETE, GET, HEAD, OPTIONS, PUT"));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_or_while_it_comes() {
    let proxy = Flags::new().start().await;
    let large = vec![b' '; (1 << 20) + 1];
    let refused = ask("PUT", "/nodes").body(large.clone()).of(proxy.api).await;
    assert_eq!((refused.status, &refused.json()["data"]["error"]), (413, &json!(413)));
    let mut chunks = format!("{:x}\r\n", large.len()).into_bytes();
    chunks.extend_from_slice(&large);
    let refused =
        ask("PUT", "/nodes").header("Transfer-Encoding", "chunked").body_as_is(chunks).of(proxy.api).await;
    assert_eq!(refused.status, 413);
    let mut expecting = Raw::connect(proxy.api).await;
    expecting
        .send("PUT /nodes HTTP/1.1\r\nHost: h\r\nContent-Length: 1048577\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(expecting.answer().await.unwrap().status, 413, "without asking for the body first");
    let fits = ask("PUT", "/nodes").body(format!("[]{}", " ".repeat((1 << 20) - 2))).of(proxy.api).await;
    assert_eq!(fits.status, 202);
}

#[tokio::test]
async fn no_error_speaks_of_the_language_that_it_is_written_in() {
    let node = RecorderNode::start("n1");
    let proxy = Flags::new().nodes([&node]).start().await;
    for &(method, target, body, ..) in ROWS {
        let info = match call(&proxy, method, target, body).await.json() {
            Value::Object(envelope) => envelope["data"]["info"].to_string(),
            other => other.to_string(),
        };
        for word in ["u16", "u64", "i64", "serde", "Err(", "strconv", "panicked", "struct"] {
            assert!(!info.contains(word), "{method} {target}: {info}");
        }
    }
}
