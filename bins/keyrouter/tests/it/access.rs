//! Who may ask: everybody, who has the token, who has a certificate.

use testkit::http::{Answer, ask};
use testkit::{Pki, TempDir};

use crate::harness::{Router, error, service};

const TOKEN: &str = "0123456789abcdef";

#[tokio::test]
async fn with_a_token_file_lookups_ask_for_it_and_admin_routes_do_not() {
    let dir = TempDir::new();
    let token = dir.write("token", TOKEN);
    let file = dir.write("services.toml", service("s", &["a:1"]));
    let router = Router::start_in(dir, file, &["--api-token-file", token.to_str().unwrap()]).await;
    for target in ["/service", "/service/s?key=k&min=1&max=1", "/nodes/s"] {
        let refused = router.get(target).await;
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{target}");
        assert!(error(&refused).contains("token"));
        let allowed = ask("GET", target).header("Authorization", format!("Bearer {TOKEN}"));
        assert_eq!(allowed.of(router.addr).await.status, 200, "{target}");
    }
    for target in ["/livez", "/healthz", "/readyz", "/metrics", "/version"] {
        assert_eq!(router.get(target).await.status, 200, "{target}");
    }
    // A new token counts from the reload on.
    std::fs::write(&token, "fedcba9876543210").unwrap();
    router.hup_and_loaded().await;
    let with = |token: &str| ask("GET", "/service").header("Authorization", format!("Bearer {token}"));
    assert_eq!(with(TOKEN).of(router.addr).await.status, 401);
    assert_eq!(with("fedcba9876543210").of(router.addr).await.status, 200);
}

/// A router within TLS, and what made its certificates.
async fn with_tls(flags: &[&str]) -> (Router, Pki) {
    let dir = TempDir::new();
    let pki = Pki::new(&dir);
    let file = dir.write("services.toml", service("s", &["a:1"]));
    let mut all =
        vec!["--tls-cert", pki.certificate.to_str().unwrap(), "--tls-key", pki.key.to_str().unwrap()];
    all.extend(flags);
    (Router::start_in(dir, file, &all).await, pki)
}

const LOOKUP: &str = "/service/s?key=k&min=1&max=1";

async fn lookup(router: &Router, pki: &Pki, with_certificate: bool) -> Answer {
    pki.ask(router.addr, ask("GET", LOOKUP), with_certificate).await.unwrap().0
}

#[tokio::test]
async fn within_tls_a_reload_takes_new_certificates() {
    let (router, pki) = with_tls(&[]).await;
    assert_eq!(lookup(&router, &pki, false).await.text(), "[\"a:1\"]\n");
    let shown = async || pki.ask(router.addr, ask("GET", "/livez"), false).await.unwrap().1;
    let before = shown().await;
    pki.renew();
    assert_eq!(shown().await, before);
    router.process.hup();
    testkit::eventually("the new certificate", crate::harness::SOON, async || {
        (shown().await != before).then_some(())
    })
    .await;
    // One that does not fit its key changes nothing.
    let renewed = shown().await;
    std::fs::write(&pki.key, "no key").unwrap();
    router.process.hup();
    let refused = async || {
        let metrics = pki.ask(router.addr, ask("GET", "/metrics"), false).await.unwrap().0.text();
        metrics.contains("config_reload_failures_total 1").then_some(())
    };
    testkit::eventually("the bad key to be refused", crate::harness::SOON, refused).await;
    assert_eq!(shown().await, renewed);
}

#[tokio::test]
async fn with_an_authority_lookups_ask_for_a_certificate_and_admin_routes_do_not() {
    let dir = TempDir::new();
    let pki = Pki::new(&dir);
    let file = dir.write("services.toml", service("s", &["a:1"]));
    let flag = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (certificate, key, authority) = (flag(&pki.certificate), flag(&pki.key), flag(&pki.authority));
    let flags = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &authority];
    let router = Router::start_in(dir, file, &flags).await;
    assert_eq!(lookup(&router, &pki, true).await.status, 200);
    let refused = lookup(&router, &pki, false).await;
    assert!(refused.status == 403 && error(&refused).contains("certificate"), "{}", refused.text());
    let admin = pki.ask(router.addr, ask("GET", "/readyz"), false).await.unwrap().0;
    assert_eq!(admin.status, 200);
}

#[tokio::test]
async fn tls_begins_and_ends_with_a_restart() {
    let dir = TempDir::new();
    let pki = Pki::new(&dir);
    let tls = format!("tls.cert = {:?}\ntls.key = {:?}\n", pki.certificate, pki.key);
    let file = dir.write("services.toml", service("s", &["a:1"]));
    let config = dir.write("keyrouter.toml", "");
    let router = Router::start_in(dir, file, &["--config", config.to_str().unwrap()]).await;
    std::fs::write(&config, format!("{tls}tls.client-ca = {:?}\n", pki.authority)).unwrap();
    router.hup_and_loaded().await;
    let (status, ok, detail) = router.condition("configuration").await;
    assert!(status == 200 && !ok && detail.contains("restart"), "{detail}");
    assert_eq!(router.nodes("s", "k", 1).await, ["a:1"]);
}
