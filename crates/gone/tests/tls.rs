//! Consul and etcd over TLS: the given authority is trusted, and no other.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use gone::keeper::look;
use gone::lease::rules::Standing;
use gone::lock::{Id, dial};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use support::{LIMIT, PATIENCE};
use testkit::{ConsulServer, Program, TempDir, eventually, free_port};

/// An authority with a certificate for loopback, as files.
struct Files {
    folder: TempDir,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

fn files() -> Files {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let cert = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
    let folder = TempDir::new();
    Files {
        ca: folder.write("ca.pem", ca.pem()),
        cert: folder.write("cert.pem", cert.pem()),
        key: folder.write("key.pem", key.serialize_pem()),
        folder,
    }
}

async fn works_with_its_authority_only(url: &str, files: &Files, extra: &str) {
    let ask = async |url: String| look(&*dial(&url).unwrap(), &Id::new("it").unwrap(), false, PATIENCE).await;
    let good = format!("{url}?tls=1&ca={}{extra}", files.ca.display());
    let view = eventually("an answer over TLS", LIMIT, async || ask(good.clone()).await.ok()).await;
    assert_eq!(view.standing, Standing::Unknown);
    let other = self::files();
    let error = ask(format!("{url}?tls=1&ca={}{extra}", other.ca.display())).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    assert!(ask(url.to_owned()).await.is_err(), "plain text to a port with TLS");
}

#[tokio::test]
async fn etcd() {
    let (files, port) = (files(), free_port());
    let (client, peer) = (format!("https://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()));
    let _etcd = Program::new("etcd")
        .args(["--name", "one", "--initial-cluster", &format!("one={peer}"), "--data-dir"])
        .arg(files.folder.join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .arg("--cert-file")
        .arg(&files.cert)
        .arg("--key-file")
        .arg(&files.key)
        .start();
    works_with_its_authority_only(&format!("etcd://127.0.0.1:{port}"), &files, "").await;
}

#[tokio::test]
async fn consul_that_asks_for_a_certificate() {
    let (files, port) = (files(), free_port());
    let configuration = format!(
        "ports {{ https = {port} }} ca_file = {:?} cert_file = {:?} key_file = {:?} verify_incoming_https = true",
        files.ca, files.cert, files.key
    );
    let _consul = ConsulServer::with(&configuration).await;
    let url = format!("consul://127.0.0.1:{port}");
    let own = format!("&cert={}&key={}", files.cert.display(), files.key.display());
    works_with_its_authority_only(&url, &files, &own).await;
    let bare = format!("{url}?tls=1&ca={}", files.ca.display());
    let refused = look(&*dial(&bare).unwrap(), &Id::new("it").unwrap(), false, Duration::from_secs(2)).await;
    assert!(refused.is_err(), "it was let in without a certificate");
}
