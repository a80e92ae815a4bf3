use super::*;
use proptest::prelude::*;

fn parse(method: &str, target: &str) -> Result<Call, Fault> {
    Call::parse(&method.parse().unwrap(), &target.parse().unwrap())
}

fn message(method: &str, target: &str) -> (u16, String, String) {
    let fault = parse(method, target).unwrap_err();
    let data = fault.data();
    (fault.status().as_u16(), data["message"].as_str().unwrap().into(), data["info"].as_str().unwrap().into())
}

#[test]
fn a_slash_at_the_end_and_escapes_make_no_difference() {
    for target in ["/nodes/h/80", "/nodes/h/80/", "/n%6fdes/%68/8%30", "/nodes/h/80?pretty=true"] {
        let Ok(Call::Nodes(Select::One(id))) = parse("GET", target) else { panic!("{target}") };
        assert_eq!(id.as_str(), "h:80");
    }
    for target in ["/", "/nope", "/nodes/h/80/x", "/nodes//", "/nodes//80", "/Nodes", "/login", "/nodesx"] {
        assert!(matches!(parse("GET", target), Err(Fault::UnknownPath(_))), "{target}");
    }
}

#[test]
fn ipv6_hosts_stand_in_brackets_or_without() {
    for target in ["/nodes/[::1]/80", "/nodes/%5B::1%5D/80", "/nodes/::1/80"] {
        let Ok(Call::Nodes(Select::One(id))) = parse("GET", target) else { panic!("{target}") };
        assert_eq!(id.as_str(), "[::1]:80");
    }
    let Ok(Call::DeleteNodes(select)) = parse("DELETE", "/nodes/[::1]") else { panic!() };
    assert!(select.takes(&"[::1]:80".parse().unwrap()) && !select.takes(&"h:80".parse().unwrap()));
    let Ok(Call::DiscardQueue(id)) = parse("DELETE", "/queues/[::1]:80") else { panic!() };
    assert_eq!(id.as_str(), "[::1]:80");
}

#[test]
fn hosts_and_ports_in_the_url_are_checked() {
    for port in ["abc", "-1", "+80", "65536", "99999", "99999999999999999999", "8_0"] {
        let (status, message, info) = message("PUT", &format!("/nodes/h/{port}"));
        assert_eq!((status, message.as_str()), (400, "Could not recognize :port parameter"), "{port}");
        assert!(info.contains(port) && !info.contains("strconv"), "{info}");
    }
    let zero = (
        400,
        "The parameter ':port' could not be zero value".into(),
        "Please apply a non-zero value to the data".into(),
    );
    assert_eq!(message("GET", "/nodes/h/0"), zero);
    let host =
        (400, "Could not recognize ho st parameter".into(), "ho st parameter is not alpha-numeric".into());
    assert_eq!(message("PUT", "/nodes/ho%20st/80"), host);
    assert_eq!(message("GET", "/nodes/ho%20st"), host);
}

#[test]
fn another_method_is_405_with_what_there_is_in_order() {
    let allow = |method: &str, target: &str| match parse(method, target) {
        Err(Fault::Method(route)) => route.allow(),
        other => panic!("{method} {target}: {other:?}"),
    };
    assert_eq!(allow("PATCH", "/nodes"), "DELETE, GET, HEAD, OPTIONS, PUT");
    assert_eq!(allow("PUT", "/nodes/h"), "DELETE, GET, HEAD, OPTIONS");
    assert_eq!(allow("OPTIONS", "/info"), "GET, HEAD");
    assert_eq!(allow("GET", "/queues/h:1"), "DELETE, OPTIONS");
    assert!(matches!(parse("HEAD", "/nodes"), Ok(Call::Nodes(Select::All))));
    assert!(matches!(parse("OPTIONS", "/nodes/h/80/"), Ok(Call::Options(_))));
}

#[test]
fn lists_are_filtered_and_bounded() {
    let filter = |target: &str| match parse("GET", target) {
        Ok(Call::Updates(filter)) => (filter.node.map(|id| id.to_string()), filter.state, filter.limit),
        other => panic!("{target}: {other:?}"),
    };
    assert_eq!(filter("/updates"), (None, None, 100));
    assert_eq!(filter("/updates?node=&state=&limit="), (None, None, 100));
    let node = Some("[::1]:80".to_owned());
    assert_eq!(
        filter("/updates?node=%5B::1%5D:80&state=dead&limit=5000"),
        (node, Some(DeliveryState::Dead), 1000)
    );
    for target in [
        "/updates?limit=0",
        "/updates?limit=x",
        "/updates?state=lost",
        "/updates?node=h",
        "/updates/x",
        "/updates/+1",
    ] {
        assert_eq!(message("GET", target).0, 400, "{target}");
    }
    assert_eq!(message("GET", "/dead-letters?node=h:0").1, "Could not recognize node parameter");
    assert_eq!(message("GET", "/metrics?format=xml").1, "Could not recognize format parameter");
}

proptest! {
    #[test]
    fn any_target_is_a_call_or_a_fault_that_can_be_shown(method in "GET|HEAD|PUT|DELETE|OPTIONS|POST", target in "/[a-z0-9:%\\[\\]/?=&-]{0,40}") {
        if let Ok(uri) = target.parse::<http::Uri>() {
            let method: Method = method.parse().unwrap();
            match Call::parse(&method, &uri) {
                Ok(call) => prop_assert!(!call.changes() || method == Method::PUT || method == Method::DELETE),
                Err(fault) => prop_assert!(fault.status().is_client_error() && fault.data().is_object()),
            }
        }
    }
}
