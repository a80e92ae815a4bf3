//! The addresses of locks. What is shown of one never holds its password.

use std::path::PathBuf;

use consul_client::ConsulUrl;
use etcd_gateway::EtcdUrl;
use http_fetch::url::{self, shown};
use redis_link::RedisUrl;

use crate::error::UrlError;

/// Of the keys in Consul and etcd, where the address has no other.
const PREFIX: &str = "gone";

/// What an address names.
#[derive(Debug)]
pub(super) enum Parsed {
    Redis(RedisUrl),
    File(PathBuf),
    Consul(ConsulUrl),
    Etcd(EtcdUrl),
}

pub(super) fn parse(url: &str) -> Result<Parsed, UrlError> {
    let Some((kind, rest)) = url.split_once(':') else { return Err(UrlError::NoKind(shown(url))) };
    match kind {
        "consul" => Ok(Parsed::Consul(ConsulUrl::parse(url, PREFIX)?)),
        "etcd" => Ok(Parsed::Etcd(EtcdUrl::parse(url, PREFIX)?)),
        "redis" | "rediss" => Ok(Parsed::Redis(RedisUrl::parse(url, &mut |_, _| Err(String::new()))?)),
        "file" => {
            let folder = rest.strip_prefix("//").unwrap_or(rest);
            if folder.is_empty() {
                return Err(wrong(url, "it names no directory; write file:DIR").into());
            }
            Ok(Parsed::File(PathBuf::from(folder)))
        }
        _ if kind.chars().all(|c| c.is_ascii_alphanumeric()) && !kind.is_empty() && !kind.contains('.') => {
            // A host without a kind reads the same: `localhost:6379`.
            let host = !rest.starts_with("//") && rest.parse::<u16>().is_ok();
            Err(if host { UrlError::NoKind(shown(url)) } else { UrlError::UnknownKind(kind.to_owned()) })
        }
        _ => Err(UrlError::NoKind(shown(url))),
    }
}

fn wrong(url: &str, what: impl Into<String>) -> url::UrlError {
    url::UrlError::new(url, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis_url(url: &str) -> RedisUrl {
        match parse(url) {
            Ok(Parsed::Redis(redis)) => redis,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn every_form_is_read_and_shown_without_its_password() {
        let plain = redis_url("redis://127.0.0.1");
        assert_eq!((plain.hosts, plain.db, plain.tls), (vec![("127.0.0.1".into(), 6379)], 0, false));
        let full = redis_url("rediss://me:s%40cret@[::1]:7000/3");
        assert_eq!((full.user.as_deref(), full.password.as_deref()), (Some("me"), Some("s@cret")));
        assert_eq!(full.to_string(), "rediss://[::1]:7000/3");
        assert!(!format!("{full:?}").contains("cret"));
        let sentinel = redis_url("redis://:pw@a,b:5000/1?sentinel=mymaster");
        assert_eq!(sentinel.hosts, [("a".into(), 26379), ("b".into(), 5000)]);
        assert_eq!(sentinel.to_string(), "redis://a:26379,b:5000/1?sentinel=mymaster");
        let Ok(Parsed::Consul(consul)) = parse("consul://h/team/jobs?dc=east&tls=1") else { panic!() };
        assert_eq!(consul.to_string(), "consul://h:8500/team/jobs?dc=east&tls=1");
        let Ok(Parsed::Consul(consul)) = parse("consul://[::1]:80") else { panic!() };
        assert_eq!(consul.to_string(), "consul://[::1]:80/gone");
        let Ok(Parsed::Etcd(etcd)) = parse("etcd://a,b:99,[::1]/p/q/?tls=1") else { panic!() };
        assert_eq!(etcd.to_string(), "etcd://a:2379,b:99,[::1]:2379/p/q?tls=1");
        assert!(url::has_password("redis://:pw@host") && !url::has_password("redis://me@host:1/"));
        assert!(
            matches!(parse("file:/var/lib/gone"), Ok(Parsed::File(path)) if path.as_os_str() == "/var/lib/gone")
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_sentence_and_without_the_password() {
        for (url, part) in [
            ("127.0.0.1:6379", "is no lock"),
            ("localhost:6379", "is no lock"),
            ("localhost", "is no lock"),
            ("zk://h:2181", "no lock of the kind \"zk\""),
            ("consul:h:8500", "//HOST:PORT"),
            ("consul://", "no HOST:PORT"),
            ("consul://a,b", "one agent"),
            ("consul://u:topsecret@a", "token-file"),
            ("consul://a?ca=/dev/null", "tls=1"),
            ("consul://a?tls=1&cert=/dev/null", "go together"),
            ("consul://a?token=topsecret", "the option \"token\""),
            ("consul://a?token-file=/nonexistent", "reading /nonexistent"),
            ("consul://a/x//y", "empty part"),
            ("etcd://", "no HOST:PORT"),
            ("etcd://a,,b", "no HOST:PORT"),
            ("etcd://u:topsecret@a", "etcd's users"),
            ("etcd://a?tls=2", "tls=1"),
            ("etcd://a?ca=/dev/null", "tls=1"),
            ("etcd://a?frob", "the option \"frob\""),
            ("redis:host", "//HOST:PORT"),
            ("redis://u:topsecret@host:x", "no HOST:PORT"),
            ("redis://u:topsecret@a,b", "sentinel=NAME"),
            ("redis://u:topsecret@a/x", "no database's number"),
            ("redis://u:topsecret@a?frob=1", "the option \"frob\""),
            ("redis://a?ca=/dev/null", "rediss://"),
            ("rediss://a?cert=/dev/null", "go together"),
            ("rediss://a?ca=/nonexistent/ca.pem", "reading /nonexistent/ca.pem"),
            ("redis://", "no HOST:PORT"),
            ("redis://[::1", "no HOST:PORT"),
            ("file:", "names no directory"),
        ] {
            let error = parse(url).expect_err(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("topsecret"), "{url}: {error}");
        }
    }
}
