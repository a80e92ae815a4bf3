//! Who may call.

use serde_json::json;
use testkit::Pki;
use testkit::http::{ask, get};

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_login_opens_what_changes_things() {
    let nodes = Plan::of(2).start().await;
    let [n1, n2] = &nodes[..] else { unreachable!() };
    let answer = try_login(n1.api, SECRET).await;
    let cookie = answer.header("set-cookie").unwrap().to_owned();
    assert!(cookie.starts_with("session=") && cookie.contains("HttpOnly"), "{cookie}");
    assert!(answer.json()["data"]["expires"].as_str().unwrap().ends_with('Z'));
    let claims = answer.json()["data"]["token"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
    assert!(!claims.is_empty());

    let path = n1.path("/broadcast");
    let with =
        async |name: &str, value: &str| ask("POST", &path).header(name, value).body("x").of(n1.api).await;
    let none = ask("POST", &path).body("x").of(n1.api).await;
    sentence(&none, 401);
    assert_eq!(none.header("www-authenticate"), Some("Bearer"));
    let cookie = cookie.split(';').next().unwrap().to_owned();
    assert_eq!(with("Cookie", &cookie).await.status, 200);
    assert_eq!(with("Authorization", &format!("Bearer {}", n2.token)).await.status, 200, "of another node");
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
    let mut forged = n1.token.clone();
    forged.replace_range(forged.len() - 4.., "AAAA");
    for bad in ["x", "", &unsigned, &forged] {
        let answer = with("Authorization", &format!("Bearer {bad}")).await;
        sentence(&answer, 403);
    }
    let foreign =
        ask("POST", &path).header("Cookie", &cookie).header("Origin", "http://evil.example").body("x");
    assert!(sentence(&foreign.of(n1.api).await, 403).contains("evil.example"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_expires() {
    let nodes = Plan::of(1).flags(&["--token-duration", "1s"]).start().await;
    let refused = testkit::eventually("the token to expire", SOON, async || {
        let answer = nodes[0].call("POST", "/broadcast", "x").await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert!(sentence(&refused, 403).contains("expired"));
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_are_counted() {
    let node = Node::start(&Plan::of(1).lone(1), 1).await;
    for _ in 0..5 {
        sentence(&try_login(node.api, "a wrong password of bytes").await, 401);
    }
    let refused = try_login(node.api, SECRET).await;
    assert!(sentence(&refused, 429).contains("wait"));
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(node.call("POST", "/broadcast", "x").await.status, 200, "who is in stays in");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_secret_and_a_token_take_the_place_of_the_cluster_s_secret() {
    let plan = Plan::of(1);
    let secret = private(&plan.dir, "api", "the password of the API");
    let token = private(&plan.dir, "token", "a token for programs");
    let program = plan.lone(1).arg("--api-secret-file").arg(secret).arg("--api-token-file").arg(token);
    let mut process = program.start();
    let api = process.listening("api").await;
    assert_eq!(try_login(api, SECRET).await.status, 401);
    login(api, "the password of the API").await;
    let by = async |token: &str| {
        let ask =
            ask("POST", "/api/v1/cluster/n1/broadcast").header("Authorization", format!("Bearer {token}"));
        ask.body("x").of(api).await.status
    };
    assert_eq!((by("a token for programs").await, by("a token for program").await), (200, 403));
}

/// An address of this host that is not loopback, if it has one.
fn other_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().unwrap().ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then(|| ip.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_an_open_address_nothing_is_given_away() {
    let Some(address) = other_address() else {
        println!("this host has no address but loopback");
        return;
    };
    let plan = Plan::of(1);
    let open = format!("{address}:0");
    let mut process = plan.lone(1).args(["--api", &open]).start();
    let api = process.listening("api").await;
    sentence(&get(api, "/api/v1/cluster").await, 401);
    let login = try_login(api, SECRET).await;
    assert!(sentence(&login, 403).contains("--api-secret-file"));
    let change = ask("POST", "/api/v1/cluster/n1/broadcast").body("x").of(api).await;
    assert!(sentence(&change, 403).contains("--insecure-api"));
    assert_eq!(get(api, "/livez").await.status, 200);
    drop(process);
    let mut process = plan.lone(1).args(["--api", &open, "--insecure-api"]).start();
    let api = process.listening("api").await;
    let change = ask("POST", "/api/v1/cluster/n1/broadcast").body("x").of(api).await;
    assert_eq!((change.status, get(api, "/api/v1/cluster").await.status), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_needs_no_login() {
    let plan = Plan::of(1);
    let pki = Pki::new(&plan.dir);
    let program = plan.lone(1).arg("--tls-cert").arg(&pki.certificate).arg("--tls-key").arg(&pki.key);
    let mut process = program.clone().start();
    let api = process.listening("api").await;
    let body = json!({ "username": "ann", "password": SECRET }).to_string();
    let (answer, _) = pki.ask(api, ask("POST", "/api/v1/login").body(body), false).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.header("set-cookie").unwrap().contains("Secure"));
    drop(process);
    let mut process = program.arg("--tls-client-ca").arg(&pki.authority).start();
    let api = process.listening("api").await;
    let broadcast = || ask("POST", "/api/v1/cluster/n1/broadcast").body("x");
    let (with, _) = pki.ask(api, broadcast(), true).await.unwrap();
    let (without, _) = pki.ask(api, broadcast(), false).await.unwrap();
    assert_eq!((with.status, without.status), (200, 403));
}
