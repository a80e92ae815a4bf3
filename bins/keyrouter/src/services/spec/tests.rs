use std::fmt::Write as _;

use super::*;

/// What reading `content` gives: the spec, the problems and the warnings.
fn read(content: impl AsRef<[u8]>, default: Algorithm) -> (Option<Spec>, Vec<String>, Vec<String>) {
    let mut problems = Problems::default();
    let spec = Spec::parse("f", content.as_ref(), default, &mut problems);
    assert_eq!(spec.is_some(), problems.is_empty());
    let warnings = problems.warnings().map(ToString::to_string).collect();
    (spec, problems.iter().map(ToString::to_string).collect(), warnings)
}

fn good(content: impl AsRef<[u8]>) -> (Spec, Vec<String>) {
    let (spec, problems, warnings) = read(content, Algorithm::Ring);
    (spec.unwrap_or_else(|| panic!("{problems:?}")), warnings)
}

const WHOLE: &str = r#"# a comment
Algorithm = "rendezvous"

[[Services]]
Name = "foo"
Nodes = ["a:1", { Address = "b:1", Weight = 2 },
  {Address = "c:1"}, { Weight = 0.5, Address = 'd"1' }, ]

[[Services]]
  Name = ""
  Algorithm = "Keyrouter-0.2"
  Nodes = [
    "x",
    "y ",
  ]
[[Services]]
Name = "no nodes"
[[Services]]
Name = "empty"
Nodes = []
"#;

#[test]
fn a_whole_file_is_read() {
    let (spec, warnings) = good(WHOLE);
    assert_eq!(warnings, [r#"f:14: node "y " begins or ends with white space"#]);
    assert_eq!(spec.algorithm, Some(Algorithm::Rendezvous));
    let service = |name: &str, line, algorithm, nodes: &[(&str, f64)]| ServiceSpec {
        name: name.into(),
        algorithm,
        nodes: nodes.iter().map(|&(name, weight)| (name.into(), weight)).collect(),
        line,
    };
    let expected = [
        service("foo", 4, None, &[("a:1", 1.0), ("b:1", 2.0), ("c:1", 1.0), ("d\"1", 0.5)]),
        service("", 9, Some(Algorithm::Keyrouter02), &[("x", 1.0), ("y ", 1.0)]),
        service("no nodes", 16, None, &[]),
        service("empty", 18, None, &[]),
    ];
    assert_eq!(spec.services, expected);
    assert_eq!(spec.node_count(), 6);
    assert_eq!(spec.algorithm_of(&spec.services[0], Algorithm::Ring), Algorithm::Rendezvous);
    assert_eq!(spec.algorithm_of(&spec.services[1], Algorithm::Ring), Algorithm::Keyrouter02);
}

#[test]
fn other_ways_to_write_the_same_are_the_same() {
    let (spec, _) = good(WHOLE);
    assert_eq!(good(WHOLE.replace('\n', "\r\n")).0, spec);
    assert_eq!(good(format!("\u{feff}{WHOLE}")).0, spec);
    let lower = WHOLE.replace("Services", "SERVICES").replace("Name", "name").replace("Nodes", "nodes");
    assert_eq!(good(lower.replace("Address", "address").replace("Weight", "weight")).0, spec);
    let inline = good("services = [{Name = 'a', Nodes = ['b']},\n {Name = 'c'}]").0;
    assert_eq!(inline.services.iter().map(|service| service.line).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(good("").0, Spec::default());
    assert_eq!(good("Services = []").0, Spec::default());
}

#[test]
fn each_problem_is_told_with_its_line() {
    let table: &[(&str, &[&str])] = &[
        ("[[Services]]\nName = 7", &["f:2: 'Name' has to be a text, not a whole number"]),
        (
            "\n[[Services]]\nNodes = []",
            &["f:2: a service without a name: write Name = \"...\" (Name = \"\" is allowed)"],
        ),
        (
            "[Services]\nName = 'a'",
            &["f:1: 'Services' has to be a list of tables, each begun by [[Services]], not a table"],
        ),
        (
            "Services = 'a'",
            &["f:1: 'Services' has to be a list of tables, each begun by [[Services]], not a text"],
        ),
        ("Services = [\n1, {Name = 'a'}]", &["f:2: 'Services' holds tables, not a whole number"]),
        ("[[Services]]\nName = 'a'\nNodes = 'b'", &["f:3: 'Nodes' has to be a list, not a text"]),
        (
            "[[Services]]\nName = 'a'\nNodes = ['b',\n1.5, true]",
            &[
                "f:4: 'Nodes' holds addresses, not a number with decimals",
                "f:4: 'Nodes' holds addresses, not true or false",
            ],
        ),
        (
            "[[Services]]\nName = 'a'\nNodes = [\n{Weight = 2}]",
            &["f:4: a node without an address: write { Address = \"...\" }"],
        ),
        (
            "[[Services]]\nName = 'a'\nNodes = [{Address = 2}]",
            &["f:3: 'Address' has to be a text, not a whole number"],
        ),
        (
            "[[Services]]\nName = 'a'\nNodes = [{Address = 'a', Weight = '2'}]",
            &["f:3: 'Weight' has to be a number, not a text"],
        ),
        ("Algorithm = 1", &["f:1: 'Algorithm' has to be a text, not a whole number"]),
        (
            "\nAlgorithm = 'rung'",
            &["f:2: \"rung\" is no algorithm: choose ring, keyrouter-0.2 or rendezvous"],
        ),
        ("[[Services]]\nName = 'a'\nNode = []", &["f:3: unknown key 'Node': did you mean 'Nodes'?"]),
        ("[[Servces]]\nName = 'a'", &["f:1: unknown key 'Servces': did you mean 'Services'?"]),
        (
            "[[Services]]\nName = 'a'\nNodes=[\n{address='b', weigth=1}]",
            &["f:4: unknown key 'weigth': did you mean 'Weight'?"],
        ),
        ("colour = 1", &["f:1: unknown key 'colour'"]),
        (
            "[[Services]]\nName = 'a'\nname = 'a'",
            &["f:3: 'name' is 'Name' of line 2 in another spelling: keep one"],
        ),
        (
            "[[services]]\nName = 'a'\n[[Services]]\nName = 'b'",
            &["f:3: 'Services' is 'services' of line 1 in another spelling: keep one"],
        ),
        (
            "[[Services]]\nName = 'a'\n\n[[Services]]\nName = 'a'",
            &["f:4: service \"a\" stands on line 1 already: merge the two"],
        ),
        (
            "[[Services]]\nName='a'\nNodes = ['x',\n'y', {Address='x',\nWeight=2}]",
            &["f:4: node \"x\" of service \"a\" has weight 2, and weight 1 on line 3: keep one"],
        ),
        ("[[Services]]\nName='a'\nNodes = ['']", &["f:3: a node with an empty address"]),
        ("a = = 1\n[[Services]]\nName = 3\n", &["f:1: ", "f:3: 'Name' has to be a text, not a whole number"]),
        ("a = 1\na = 2\nb = [", &["f:1: unknown key 'a'", "f:2: duplicate key", "f:3: "]),
    ];
    for (content, expected) in table {
        let (_, problems, _) = read(content, Algorithm::Ring);
        assert!(!problems.is_empty(), "{content}");
        let fits = expected.iter().all(|start| problems.iter().any(|problem| problem.starts_with(start)));
        let no_others =
            problems.iter().all(|problem| expected.iter().any(|start| problem.starts_with(start)));
        assert!(fits && no_others, "{content}\n{problems:#?}");
    }
}

#[test]
fn weights_have_limits() {
    let with = |weight: &str, algorithm| {
        read(format!("[[Services]]\nName='a'\nNodes=[\n{{Address='x',Weight={weight}}}]"), algorithm)
    };
    for weight in ["0", "-1", "0.0009", "1000.1", "inf", "nan", "1e300", "99999999999999999999", "0xffff"] {
        let (_, problems, _) = with(weight, Algorithm::Ring);
        let found = problems.iter().all(|problem| problem.starts_with("f:4: "));
        assert!(found && !problems.is_empty(), "{weight}: {problems:?}");
    }
    for (weight, number) in [("1", 1.0), ("0.001", 0.001), ("1_000", 1000.0), ("0x10", 16.0), ("2.5e1", 25.0)]
    {
        let (spec, ..) = with(weight, Algorithm::Ring);
        assert_eq!(spec.unwrap().services[0].nodes, [("x".into(), number)], "{weight}");
    }
    assert_eq!(
        with("2", Algorithm::Keyrouter02).1,
        [
            "f:4: node \"x\" has weight 2, and keyrouter-0.2 knows no weights: leave it out, or choose ring or rendezvous"
        ]
    );
    assert!(with("1.0", Algorithm::Keyrouter02).0.is_some());
}

#[test]
fn what_depends_on_the_algorithm_follows_the_one_in_force() {
    let service = "[[Services]]\nName='a'\nNodes=['']";
    for (content, default, fine) in [
        (service.to_owned(), Algorithm::Keyrouter02, true),
        (service.to_owned(), Algorithm::Rendezvous, false),
        (format!("Algorithm='keyrouter-0.2'\n{service}"), Algorithm::Ring, true),
        (format!("{service}\nAlgorithm='keyrouter-0.2'"), Algorithm::Ring, true),
        (format!("Algorithm='keyrouter-0.2'\n{service}\nAlgorithm='ring'"), Algorithm::Ring, false),
    ] {
        let (spec, problems, warnings) = read(&content, default);
        assert_eq!(spec.is_some(), fine, "{content} {problems:?}");
        assert_eq!(warnings.len(), usize::from(fine));
    }
    // What is not known is not held against anything.
    assert_eq!(read(format!("Algorithm='x'\n{service}"), Algorithm::Ring).1.len(), 1);
}

#[test]
fn a_node_that_stands_twice_counts_once() {
    let (spec, warnings) = good("[[Services]]\nName='a'\nNodes=['x', 'y',\n'x', 'x ']");
    let names: Vec<_> = spec.services[0].nodes.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["x", "y", "x "]);
    assert_eq!(
        warnings,
        [
            "f:4: node \"x\" of service \"a\" stands on line 3 already: it counts once",
            "f:4: node \"x \" begins or ends with white space"
        ]
    );
}

#[test]
fn too_many_nodes_are_refused() {
    let content = |count: usize| {
        let mut text = "[[Services]]\nName='a'\nNodes=[".to_owned();
        (0..count).for_each(|index| write!(text, "'n{index}',").unwrap());
        text + "]"
    };
    assert!(read(content(15_739), Algorithm::Keyrouter02).0.is_some());
    assert_eq!(
        read(content(15_740), Algorithm::Keyrouter02).1,
        ["f:3: service \"a\" has more nodes than the 15739 that its algorithm can hold"]
    );
    assert!(read(content(65_535), Algorithm::Ring).0.is_some());
    assert_eq!(read(content(65_536), Algorithm::Ring).1.len(), 1);
}

#[test]
fn what_is_no_text_is_told_by_line() {
    assert_eq!(
        read(b"a\nb\nc\xff\xfe\nd", Algorithm::Ring).1,
        ["f:3: byte 0xff is not UTF-8: save the file as UTF-8"]
    );
    assert_eq!(
        read(b"a\n\0\0", Algorithm::Ring).1,
        ["f:2: a byte 0, which no text has: the file is damaged"]
    );
}

#[test]
fn of_many_problems_the_first_are_told() {
    let mut text = String::new();
    (0..5000).for_each(|index| writeln!(text, "colour{index} = 1").unwrap());
    let (_, problems, _) = read(&text, Algorithm::Ring);
    assert_eq!(problems.len(), 101);
    assert_eq!(problems[0], "f:1: unknown key 'colour0'");
    assert_eq!(problems[100], "f:100: and at least 900 more from here on");
    let (_, problems, _) = read(text.lines().take(1000).collect::<Vec<_>>().join("\n"), Algorithm::Ring);
    assert_eq!(problems[100], "f:100: and 900 more from here on");
    let long = "x".repeat(100_000);
    let (_, problems, _) = read(format!("{long} = 1\nAlgorithm = '{long}'"), Algorithm::Ring);
    assert!(problems.iter().all(|problem| problem.len() < 200), "{problems:?}");
}

#[test]
fn a_large_file_with_errors_costs_little() {
    // Each line is an error.
    let text = "=\n".repeat(1 << 20);
    let (_, problems, _) = read(text, Algorithm::Ring);
    assert!(problems[0].starts_with("f:1: ") && problems.len() == 1);
    let (_, problems, _) = read("[".repeat(1 << 19), Algorithm::Ring);
    assert!(problems.len() <= 101);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[\\[\\]{}a-cSNA=\",'.0-9\n\r #:-]{0,60}") {
        read(text, Algorithm::Ring);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(0u8.., 0..60)) {
        read(bytes, Algorithm::Keyrouter02);
    }

    #[test]
    fn a_good_file_after_an_accident_is_read_or_refused(
        at in 0..WHOLE.len(), length in 0usize..20, insert in "[\\[\\]{}=\"',\n\\PC]{0,3}",
    ) {
        let mut content = WHOLE.as_bytes().to_vec();
        let end = (at + length).min(content.len());
        content.splice(at..end, insert.bytes());
        let (spec, problems, _) = read(&content, Algorithm::Ring);
        for problem in problems {
            let line = problem.strip_prefix("f:").and_then(|rest| rest.split(':').next()?.parse().ok());
            let lines = content.split(|byte| *byte == b'\n').count();
            proptest::prop_assert!(line.is_some_and(|line: usize| (1..=lines).contains(&line)), "{}", problem);
        }
        if let Some(spec) = spec {
            // All that `ring` could refuse was refused here.
            for service in &spec.services {
                let algorithm = spec.algorithm_of(service, Algorithm::Ring);
                proptest::prop_assert!(common::ring::Rings::build(algorithm, &service.nodes).is_ok());
            }
        }
    }

    #[test]
    fn what_is_written_is_read(names in proptest::collection::hash_set("\\PC{0,12}", 0..8)) {
        let names: Vec<_> = names.into_iter().collect();
        let mut text = String::new();
        for name in &names {
            let mut quoted = Vec::new();
            super::super::json::escape_into(name, &mut quoted);
            let quoted = String::from_utf8(quoted).unwrap();
            writeln!(text, "[[Services]]\nName = {quoted}\nNodes = [\"a\", {{Address = \"n\", Weight = 3}}]").unwrap();
        }
        let (spec, _) = good(text);
        let read: Vec<_> = spec.services.iter().map(|service| service.name.to_string()).collect();
        proptest::prop_assert_eq!(read, names);
    }
}
