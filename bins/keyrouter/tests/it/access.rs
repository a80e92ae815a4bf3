//! Who may ask: everybody, who has the token, who has a certificate.

use testkit::TempDir;
use testkit::http::ask;

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
