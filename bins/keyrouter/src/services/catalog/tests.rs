use common::ring::Answer;
use daemon::settings::Problems;

use super::*;
use crate::services::changes::Changes;
use crate::services::select::{Shortage, select};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn spec(text: &str) -> Spec {
    let mut problems = Problems::default();
    Spec::parse("f", text.as_bytes(), Algorithm::Ring, &mut problems).unwrap_or_else(|| panic!("{problems}"))
}

/// One line a service: its name, then its nodes, `xN` for the weight.
fn services(lines: &[&str]) -> Spec {
    let service = |line: &&str| {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let node = |word: &str| match word.split_once('x') {
            Some((name, weight)) => (name.into(), weight.parse().unwrap()),
            None => (word.into(), 1.0),
        };
        ServiceSpec { name: name.into(), algorithm: None, nodes: words.map(node).collect(), line: 1 }
    };
    Spec { algorithm: None, services: lines.iter().map(service).collect() }
}

fn build(spec: &Spec, previous: Option<&Catalog>, load: u64) -> Catalog {
    Catalog::build(spec, Algorithm::Ring, previous, load, at(load.cast_signed())).unwrap()
}

#[test]
fn only_what_changed_is_built_and_counted() {
    let first = build(&services(&["s a b", "t c", "u d"]), None, 1);
    assert!(first.services().iter().all(|service| service.generation == 1 && service.loaded_at == at(1)));

    let second = build(&services(&["u d", "s b a", "t cx2"]), Some(&first), 2);
    let (s, t, u) =
        (&second.service("s").unwrap(), &second.service("t").unwrap(), &second.service("u").unwrap());
    assert!(Arc::ptr_eq(u, first.service("u").unwrap()), "what is the same is shared");
    assert!(!Arc::ptr_eq(s, first.service("s").unwrap()), "another order is another list");
    assert_eq!((s.generation, s.loaded_at), (1, at(1)), "and the same generation");
    assert_eq!(s.fragment(0), b"\"b\"");
    assert_eq!((t.generation, t.loaded_at), (2, at(2)), "a weight counts");
    assert_eq!(t.generation_header, "2");
    let changes = Changes::between(Some(&first), &second);
    assert_eq!(changes.changed, [Box::from("t")]);
    assert!(!changes.is_empty());

    let gone = build(&services(&["u d", "s b a"]), Some(&second), 3);
    assert!(gone.service("t").is_none());
    let back = build(&services(&["u d", "s b a", "t cx2"]), Some(&gone), 4);
    assert_eq!(back.service("t").unwrap().generation, 4, "it grows though nothing differs from before");
}

#[test]
fn another_algorithm_is_another_generation() {
    let first = build(&services(&["s a b"]), None, 1);
    let other = Catalog::build(&services(&["s a b"]), Algorithm::Rendezvous, Some(&first), 2, at(2)).unwrap();
    let service = other.service("s").unwrap();
    assert_eq!((service.algorithm, service.generation), (Algorithm::Rendezvous, 2));
    let refused =
        Catalog::build(&services(&["s a bx2"]), Algorithm::Keyrouter02, None, 1, at(1)).unwrap_err();
    assert!(refused.to_string().starts_with(r#"service "s": node "b" has weight 2"#), "{refused}");
}

#[test]
fn changes_are_told_by_name() {
    let first = build(&services(&["a n", "b n", "c n"]), None, 1);
    let between = |old: Option<&Catalog>, lines: &[&str]| {
        let new = build(&services(lines), old, 2);
        Changes::between(old, &new)
    };
    assert!(between(Some(&first), &["a n", "b n", "c n"]).is_empty());
    assert_eq!(between(Some(&first), &["a n", "c n", "b n"]).to_string(), "only their order changed");
    assert_eq!(between(None, &["x n"]).to_string(), r#"added "x""#);
    let told = between(Some(&first), &["b m", "c n", "d n", " n"]).to_string();
    assert_eq!(told, r#"added "d", ""; removed "a"; changed "b""#);
    let many: Vec<_> = (0..30).map(|index| format!("s{index}")).collect();
    let many: Vec<_> = many.iter().map(|name| &**name).collect();
    assert!(between(None, &many).to_string().ends_with(r#""s19" and 10 more"#));
    assert!(between(None, &[]).is_empty());
}

#[test]
fn json_is_as_the_original_writes_it() {
    let spec = spec(
        "[[Services]]\nName='b\"<'\nNodes=['x&y', {Address='é',Weight=2}, {Address='\u{2028}',Weight=0.5}]\n\
         [[Services]]\nName=''",
    );
    let catalog = build(&spec, None, 7);
    assert_eq!(&catalog.names_json()[..], b"[\"b\\\"\\u003c\",\"\"]\n");
    assert_eq!(&build(&Spec::default(), None, 1).names_json()[..], b"[]\n");
    assert_eq!(catalog.node_count(), 3);
    let service = catalog.service("b\"<").unwrap();
    let mut out = b"{".to_vec();
    service.write_nodes(&[2, 0, 1], &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), r#"{["\u2028","x\u0026y","é"]"#);
    assert_eq!(
        String::from_utf8(service.nodes_json()).unwrap(),
        "{\"name\":\"b\\\"\\u003c\",\"algorithm\":\"ring\",\"generation\":7,\"loaded_at\":\"2023-11-14T22:13:27Z\",\
         \"nodes\":[{\"address\":\"x\\u0026y\",\"weight\":1},{\"address\":\"é\",\"weight\":2},\
         {\"address\":\"\\u2028\",\"weight\":0.5}]}\n"
    );
    let empty = catalog.service("").unwrap();
    assert!(String::from_utf8(empty.nodes_json()).unwrap().ends_with("\"nodes\":[]}\n"));
    let mut out = Vec::new();
    empty.write_nodes(&[], &mut out);
    assert_eq!(out, b"[]");
    let mut out = Vec::new();
    service.write_nodes(&[0, 1], &mut out);
    assert_eq!(out.capacity(), out.len() + 1, "reserved at once");
}

#[test]
fn min_and_max_mean_what_they_meant() {
    let catalog = build(&services(&["s a b c", "empty"]), None, 1);
    let three = catalog.service("s").unwrap();
    let empty = catalog.service("empty").unwrap();
    let mut answer = Answer::new();
    for (service, min, max, expected) in [
        (three, 1, 3, Ok(3)),
        (three, 1, 10, Ok(3)),
        (three, 1, i64::MAX, Ok(3)),
        (three, 3, 3, Ok(3)),
        (three, 0, 2, Ok(2)),
        (three, -5, 2, Ok(2)),
        (three, 0, 0, Ok(0)),
        (three, -5, -1, Ok(0)),
        (three, i64::MIN, i64::MIN, Ok(0)),
        (three, 3, 1, Err(Shortage::MaxBelowMin { min: 3, max: 1 })),
        (three, 9, 1, Err(Shortage::MaxBelowMin { min: 9, max: 1 })),
        (three, 4, 9, Err(Shortage::TooFewNodes { min: 4, nodes: 3 })),
        (three, i64::MAX, i64::MAX, Err(Shortage::TooFewNodes { min: i64::MAX, nodes: 3 })),
        (empty, 0, 5, Ok(0)),
        (empty, 1, 1, Err(Shortage::TooFewNodes { min: 1, nodes: 0 })),
    ] {
        let found = select(service, b"key", min, max, &mut answer).map(|()| answer.nodes().len());
        assert_eq!(found, expected, "min {min}, max {max}");
    }
}
