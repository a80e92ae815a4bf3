//! What is printed and answered: JSON for programs, a line for people.

use std::time::Duration;

use reception::backend::{Leader, Names};
use reception::{Name, Service, Snapshot, View};
use serde_json::{Value, json};

/// `{"name","services":[..],"index","stale","age_ms"}`.
pub fn list(name: &Name, view: &View<Snapshot>) -> Value {
    json!({
        "name": name,
        "services": view.services(),
        "index": view.value.index,
        "stale": view.is_stale(),
        "age_ms": millis(view.age()),
    })
}

/// `{"services":[..],"index"}`; `stale` and `age_ms` only where the store cannot be asked.
pub fn names(view: &View<Names>) -> Value {
    let mut answer = json!({ "services": view.value.names, "index": view.value.index });
    if let (true, Value::Object(fields)) = (view.is_stale(), &mut answer) {
        fields.insert("stale".to_owned(), json!(true));
        fields.insert("age_ms".to_owned(), json!(millis(view.age())));
    }
    answer
}

/// `{"name","leader":{..}|null,"token"}`; the token is 0 where nobody leads.
pub fn leader(name: &Name, leader: Option<&Leader>) -> Value {
    json!({
        "name": name,
        "leader": leader.map(|leader| &leader.service),
        "token": leader.map_or(0, |leader| leader.token),
    })
}

/// A view that was read just now.
pub fn fresh<T>(value: T) -> View<T> {
    View { value: std::sync::Arc::new(value), unsure_since: None, trouble: None }
}

/// `ID ADDRESS:PORT`, and the attributes as JSON where there are any. Candidates may have no address.
pub fn line(service: &Service) -> String {
    let Service { id, address, port, attributes, .. } = service;
    // Whoever wrote the record chose the text: nothing of it reaches a terminal as it is.
    let mut line = id.escape_debug().to_string();
    let shown = address.escape_debug();
    if address.contains(':') {
        line += &format!(" [{shown}]:{port}");
    } else if !address.is_empty() || *port != 0 {
        line += &format!(" {shown}:{port}");
    }
    if !attributes.is_empty() {
        line += &format!(" {}", json!(attributes));
    }
    line
}

/// The lines that tell what is different between two lists: `-` gone, `+` new, `~` changed.
pub fn changes(before: &[Service], now: &[Service]) -> Vec<String> {
    let old = |id: &str| before.iter().find(|service| service.id == id);
    let gone = before.iter().filter(|service| !now.iter().any(|other| other.id == service.id));
    let mut lines: Vec<String> = gone.map(|service| format!("- {}", service.id.escape_debug())).collect();
    for service in now {
        match old(&service.id) {
            None => lines.push(format!("+ {}", line(service))),
            Some(before) if before != service => lines.push(format!("~ {}", line(service))),
            Some(_) => {}
        }
    }
    lines
}

/// In whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use reception::Instance;

    use super::*;

    fn web(id: &str, address: &str, port: u16) -> Service {
        Service::new("web", address, port).unwrap().with_id(id).unwrap()
    }

    #[test]
    fn the_json_is_the_contracts() {
        let name = Name::new("web").unwrap();
        let mut a = web("a", "h", 80);
        a.attributes.insert("k".into(), "v".into());
        let view = fresh(Snapshot { instances: vec![Instance { service: a.clone(), created: 9 }], index: 7 });
        assert_eq!(
            list(&name, &view).to_string(),
            r#"{"name":"web","services":[{"id":"a","address":"h","port":80,"attributes":{"k":"v"}}],"index":7,"stale":false,"age_ms":0}"#
        );
        let led = Leader { service: a, token: 5 };
        assert_eq!(
            leader(&name, Some(&led)).to_string(),
            r#"{"name":"web","leader":{"id":"a","address":"h","port":80,"attributes":{"k":"v"}},"token":5}"#
        );
        assert_eq!(leader(&name, None).to_string(), r#"{"name":"web","leader":null,"token":0}"#);
        let all = fresh(Names { names: vec![name], index: 3 });
        assert_eq!(names(&all).to_string(), r#"{"services":["web"],"index":3}"#);
        let stale = View { unsure_since: Some(supervise::Boottime::now()), ..all };
        assert!(names(&stale).to_string().contains(r#""stale":true,"age_ms":"#));
    }

    #[test]
    fn lines_are_for_terminals() {
        assert_eq!(line(&web("a", "::1", 80)), "a [::1]:80");
        assert_eq!(line(&web("a", "", 0)), "a");
        let mut odd = web("a", "h", 80);
        odd.address = "\u{1b}[2J".into();
        odd.attributes.insert("k".into(), "\u{1b}".into());
        assert_eq!(line(&odd), "a \\u{1b}[2J:80 {\"k\":\"\\u001b\"}");
    }

    #[test]
    fn changes_are_told_by_id() {
        let before = [web("a", "h", 1), web("b", "h", 2)];
        let now = [web("b", "h", 3), web("c", "h", 4)];
        assert_eq!(changes(&before, &now), ["- a", "~ b h:3", "+ c h:4"]);
        assert!(changes(&now, &now).is_empty());
    }
}
