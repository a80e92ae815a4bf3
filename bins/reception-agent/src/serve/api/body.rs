//! What callers send. Pure.

use std::time::Duration;

use daemon::settings::parse_duration;
use reception::{Attributes, Service};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::refusal::Refusal;
use crate::serve::posts::Key;

/// The shortest ttl of what is held for a caller.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(86_400);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutBody {
    address: String,
    port: u16,
    attributes: Option<Attributes>,
    ttl: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StandBody {
    id: String,
    ttl: Option<String>,
    address: Option<String>,
    port: Option<u16>,
    attributes: Option<Attributes>,
}

/// An instance, and until when it has to be repeated.
///
/// # Errors
/// 400.
pub fn put(key: &Key, body: &[u8], default: Duration) -> Result<(Service, Duration), Refusal> {
    let body: PutBody = json(body)?;
    let (name, id) = key;
    let service = Service::new(name.as_str(), &body.address, body.port)
        .and_then(|service| service.with_id(id))
        .and_then(|service| service.with_attributes(body.attributes.unwrap_or_default()))
        .map_err(|error| Refusal::bad(error.to_string()))?;
    if service.address.is_empty() {
        return Err(Refusal::bad("the address is empty: give the host by which others reach the instance"));
    }
    Ok((service, ttl(body.ttl.as_deref(), default)?))
}

/// A candidate, whether only its id was given, and until when it has to be repeated.
///
/// # Errors
/// 400.
pub fn stand(name: &str, body: &[u8], default: Duration) -> Result<(Service, bool, Duration), Refusal> {
    let body: StandBody = json(body)?;
    let brief = body.address.is_none() && body.port.is_none() && body.attributes.is_none();
    let service = Service::new(name, body.address.as_deref().unwrap_or_default(), body.port.unwrap_or(0))
        .and_then(|service| service.with_id(&body.id))
        .and_then(|service| service.with_attributes(body.attributes.unwrap_or_default()))
        .map_err(|error| Refusal::bad(error.to_string()))?;
    Ok((service, brief, ttl(body.ttl.as_deref(), default)?))
}

/// A time of a query or body, such as `10s`.
///
/// # Errors
/// 400.
pub fn time(what: &str, text: &str) -> Result<Duration, Refusal> {
    parse_duration(text, None).map_err(|error| Refusal::bad(format!("{what}: {error}")))
}

fn ttl(text: Option<&str>, default: Duration) -> Result<Duration, Refusal> {
    let ttl = text.map_or(Ok(default), |text| time("ttl", text))?;
    if (SHORTEST..=LONGEST).contains(&ttl) {
        return Ok(ttl);
    }
    Err(Refusal::bad(format!("the ttl {ttl:?} cannot be used: from 1s to 24h")))
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::bad(format!("the body is not the JSON that belongs here: {error}")))
}

#[cfg(test)]
mod tests {
    use reception::Name;

    use super::*;

    const DEFAULT: Duration = Duration::from_secs(10);

    fn key() -> Key {
        (Name::new("web").unwrap(), "a".to_owned())
    }

    #[test]
    fn an_instance_is_read() {
        let (service, ttl) =
            put(&key(), br#"{"address":"h","port":80,"attributes":{"k":"v"},"ttl":"30s"}"#, DEFAULT).unwrap();
        assert_eq!((service.id.as_str(), service.port, &service.attributes["k"]), ("a", 80, &"v".to_owned()));
        assert_eq!(ttl, Duration::from_secs(30));
        let (bare, ttl) = put(&key(), br#"{"address":"h","port":80,"attributes":null}"#, DEFAULT).unwrap();
        assert_eq!((bare.attributes.len(), ttl), (0, DEFAULT));
    }

    #[test]
    fn what_is_wrong_is_400_and_said() {
        for (body, part) in [
            (r#"{"port":80}"#, "address"),
            (r#"{"address":"h","port":65536}"#, "65536"),
            (r#"{"address":"","port":80}"#, "address is empty"),
            (r#"{"address":"a b","port":80}"#, "cannot be used"),
            (r#"{"address":"h","port":80,"ttl":"1"}"#, "ttl"),
            (r#"{"address":"h","port":80,"ttl":"500ms"}"#, "from 1s"),
            (r#"{"address":"h","port":80,"tll":"5s"}"#, "tll"),
            ("", "JSON"),
        ] {
            let refusal = put(&key(), body.as_bytes(), DEFAULT).unwrap_err();
            assert_eq!(refusal.status, 400, "{body}");
            assert!(refusal.sentence.contains(part), "{body}: {}", refusal.sentence);
        }
    }

    #[test]
    fn a_candidate_may_say_only_who_it_is() {
        let (service, brief, _) = stand("job", br#"{"id":"a","ttl":"10s"}"#, DEFAULT).unwrap();
        assert!(brief && service.id == "a" && service.port == 0);
        let (_, brief, _) = stand("job", br#"{"id":"a","port":1}"#, DEFAULT).unwrap();
        assert!(!brief);
        assert_eq!(stand("job", br#"{"id":"a/b"}"#, DEFAULT).unwrap_err().status, 400);
    }
}
