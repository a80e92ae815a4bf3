//! Who may change things: addresses, tokens, pages in browsers.

use serde_json::json;
use testkit::TempDir;
use testkit::http::{Ask, ask, get};

use crate::harness::{Flags, Proxy};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn change() -> Ask {
    ask("PUT", "/nodes/h/1").body("{}")
}

async fn with_token(flags: &[&str]) -> Proxy {
    let dir = TempDir::new();
    let file = dir.write("token", format!("{TOKEN}\n"));
    let proxy = Flags::new().and(flags).and(&["--api-token-file", &file.to_string_lossy()]);
    proxy.start_in(dir).await
}

#[tokio::test]
async fn an_open_address_refuses_changes_and_says_what_to_set() {
    let open = ["--api-host", "0.0.0.0"];
    let proxy = Flags::new().and(&open).start().await;
    let refused = change().of(proxy.api).await;
    let info = refused.json()["data"]["info"].to_string();
    assert!(
        refused.status == 403 && info.contains("--api-token-file") && info.contains("--insecure-api"),
        "{info}"
    );
    assert_eq!(get(proxy.api, "/nodes").await.json()["data"]["total"], 0);
    assert_eq!(ask("DELETE", "/queues/h:1").of(proxy.api).await.status, 403);
    let insecure = Flags::new().and(&open).and(&["--insecure-api"]).start().await;
    assert_eq!(change().of(insecure.api).await.status, 201);
    let with_token = with_token(&open).await;
    assert_eq!(
        change().header("Authorization", format!("Bearer {TOKEN}")).of(with_token.api).await.status,
        201
    );
}

#[tokio::test]
async fn a_configured_token_is_asked_for_by_whatever_changes() {
    let proxy = with_token(&[]).await;
    for wrong in ["", "Bearer wrong", "Basic 0123456789abcdef0123456789abcdef"] {
        let refused = change().header("Authorization", wrong).of(proxy.api).await;
        assert_eq!(refused.status, 401, "{wrong}");
        assert!(refused.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
        let body = refused.json();
        assert_eq!(
            (&body["error"], &body["message"], &body["success"]),
            (&json!(401), &json!("Not authorized"), &json!(false))
        );
    }
    assert_eq!(
        get(proxy.api, "/nodes").await.json()["data"]["total"],
        0,
        "reads are open, and nothing was changed"
    );
    for (method, target) in [
        ("PUT", "/nodes"),
        ("DELETE", "/nodes"),
        ("DELETE", "/nodes/h"),
        ("DELETE", "/queues/h:1"),
        ("POST", "/nodes/h/1/sync?from=start"),
        ("POST", "/nodes/h/1/drain"),
        ("POST", "/dead-letters/retry"),
        ("POST", "/dead-letters/h:1/1/retry"),
        ("DELETE", "/dead-letters"),
        ("DELETE", "/dead-letters/h:1/1"),
    ] {
        assert_eq!(ask(method, target).of(proxy.api).await.status, 401, "{method} {target}");
    }
    assert_eq!(change().header("Authorization", format!("Bearer {TOKEN}")).of(proxy.api).await.status, 201);
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let proxy = Flags::new().start().await;
    for origin in ["http://evil.example", "null"] {
        assert_eq!(change().header("Origin", origin).of(proxy.api).await.status, 403, "{origin}");
    }
    let rebound = change().header("Host", "evil.example:7118").header("Origin", "http://evil.example:7118");
    assert_eq!(rebound.of(proxy.api).await.status, 403, "a name that points here is no proof");
    let own = format!("http://{}", proxy.api);
    let answer = change().header("Origin", own).of(proxy.api).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (201, None));
}

#[tokio::test]
async fn an_allowed_origin_is_told_what_it_may_do() {
    const PANEL: &str = "https://panel.example";
    let proxy = Flags::new().and(&["--cors-origin", PANEL]).start().await;
    let preflight = |method| {
        ask("OPTIONS", "/nodes/h/1").header("Origin", PANEL).header("Access-Control-Request-Method", method)
    };
    let told = preflight("PUT").header("Access-Control-Request-Headers", "content-type").of(proxy.api).await;
    assert_eq!(told.status, 200);
    assert_eq!(told.header("access-control-allow-origin"), Some(PANEL));
    assert_eq!(told.header("access-control-allow-methods"), Some("DELETE, GET, HEAD, OPTIONS, PUT"));
    assert_eq!(told.header("access-control-allow-headers"), Some("authorization, content-type"));
    assert_eq!(told.header("access-control-allow-credentials"), None);
    let varies = |answer: &testkit::http::Answer| {
        answer.headers.iter().any(|(name, value)| name.eq_ignore_ascii_case("vary") && value == "Origin")
    };
    let missing = ask("GET", "/nodes/x").header("Origin", PANEL).of(proxy.api).await;
    assert_eq!(
        (missing.status, missing.header("access-control-allow-origin"), varies(&missing)),
        (404, Some(PANEL), true)
    );
    assert_eq!(change().header("Origin", PANEL).of(proxy.api).await.status, 201);
    let other = change().header("Origin", "https://other.example").of(proxy.api).await;
    assert_eq!(
        (other.status, other.header("access-control-allow-origin"), varies(&other)),
        (403, None, true)
    );
    let any = Flags::new().and(&["--cors-origin", "*"]).start().await;
    let answer = change().header("Origin", "https://other.example").of(any.api).await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin"), varies(&answer)),
        (201, Some("*"), false)
    );
}
