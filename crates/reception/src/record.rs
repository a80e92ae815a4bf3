//! The value of a record in etcd, ZooKeeper and directories: the original's JSON.

use serde::{Deserialize, Serialize};

use crate::service::{Attributes, Name, Service};

#[derive(Serialize, Deserialize)]
struct Value {
    address: String,
    port: u16,
    /// The original writes `null` for none.
    #[serde(default)]
    attributes: Option<Attributes>,
}

/// `{"address":"127.0.0.1","port":1000,"attributes":{"k":"v"}}`.
pub(crate) fn encode(service: &Service) -> Vec<u8> {
    let value = Value {
        address: service.address.clone(),
        port: service.port,
        attributes: Some(service.attributes.clone()),
    };
    serde_json::to_vec(&value).expect("strings and a number are always JSON")
}

/// None for a value that is none of ours.
pub(crate) fn decode(name: &Name, id: &str, value: &[u8]) -> Option<Service> {
    let value: Value = serde_json::from_slice(value).ok()?;
    Some(Service {
        name: name.clone(),
        id: id.to_owned(),
        address: value.address,
        port: value.port,
        attributes: value.attributes.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_the_originals() {
        let name = Name::new("web").unwrap();
        let web = Service::new("web", "127.0.0.1", 1000).unwrap().with_id("a").unwrap();
        let web = web.with_attributes([("k".to_owned(), "v\u{1F600}\n".to_owned())].into()).unwrap();
        let value = encode(&web);
        assert_eq!(
            String::from_utf8(value.clone()).unwrap(),
            "{\"address\":\"127.0.0.1\",\"port\":1000,\"attributes\":{\"k\":\"v\u{1F600}\\n\"}}"
        );
        assert_eq!(decode(&name, "a", &value), Some(web));
        let bare = decode(&name, "a", br#"{"address":"h","port":1,"attributes":null}"#).unwrap();
        assert!(bare.attributes.is_empty());
        assert_eq!(decode(&name, "a", b"something else"), None);
    }
}
