//! Settings from flags, environment and file: precedence, every problem at once, reload.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
use std::path::PathBuf;
use std::time::Duration;

use daemon::cli::parse;
use daemon::settings::{
    BareUnit, Config, Environment, Kind, Loaded, Problems, Program, Row, Setting, Source, Values,
    print_config, reference_table,
};

const NODE: &[Setting] = &[
    Setting::new("host", Kind::Host, "Where it is"),
    Setting::new("port", Kind::PORT, "Its port").default("80"),
];

static PROGRAM: Program = Program {
    settings: &[
        Setting::new("host", Kind::Host, "Host").flag("host").default("0.0.0.0"),
        Setting::new("port", Kind::PORT, "Port").flag("port").default("7117"),
        Setting::new("health-check.seconds", Kind::WAIT, "Check")
            .flag("check-sec")
            .bare(BareUnit::Seconds)
            .default("10s"),
        Setting::new("health-check.url", Kind::Text, "Path").flag("check-url"),
        Setting::new("query-mode.round-robin", Kind::Switch, "Take turns").flag("round-robin"),
        Setting::new("log", Kind::Url, "Log").flag("log"),
        Setting::new("max-body", Kind::SIZE, "Body").flag("max-body").default("64MiB"),
        Setting::new("ack", Kind::Choice(&["first", "all"]), "Ack").flag("ack").default("first"),
        Setting::new("methods", Kind::Texts, "Methods").flag("method"),
        Setting::new("token", Kind::Text, "Token").secret(),
        Setting::new("nodes", Kind::Tables(NODE), "Nodes").flag("node"),
    ],
    ..Program::new("spawn-proxy", "Test", "1.0.0")
};

struct Checked;

impl Config for Checked {
    fn from_values(values: &Values, problems: &mut Problems) -> Option<Self> {
        for row in values.tables("nodes") {
            if let Row::Table(node) = row
                && node.opt_text("host").is_none()
            {
                problems.report(node, "host", "a node needs a host");
            }
        }
        if values.integer::<u16>("port") == 7118 {
            problems.report(values, "port", "this is the API's port");
        }
        Some(Self)
    }
}

struct Given {
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    environment: Environment,
}

impl Given {
    fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self { folder, arguments, environment: Environment::new() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("conf")
    }

    fn file(mut self, text: &str) -> Self {
        std::fs::write(self.path(), text).unwrap();
        self.arguments.extend(["--config".into(), self.path().display().to_string()]);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    fn load(&self) -> Result<Loaded, Problems> {
        let arguments = std::iter::once("spawn-proxy".to_owned()).chain(self.arguments.clone());
        let call = parse(&PROGRAM, arguments.map(Into::into)).unwrap();
        Loaded::load::<Checked>(&PROGRAM, call.subcommand, call.flags, self.environment.clone())
            .map(|(loaded, _)| loaded)
    }

    fn good(&self) -> Values {
        self.load().unwrap().values().clone()
    }

    /// The problems, with the file called `F`.
    fn bad(&self) -> Vec<String> {
        let problems = self.load().expect_err("problems");
        let name = self.path().display().to_string();
        problems.to_string().replace(&name, "F").lines().map(str::to_owned).collect()
    }
}

#[test]
fn flags_win_over_environment_over_file_over_default() {
    let file = "host = \"file\"\nport = 1\n[health-check]\nseconds = 3\n";
    let given = Given::new(&["--host", "flag"])
        .file(file)
        .env("SPAWN_PROXY_HOST", "env")
        .env("SPAWN_PROXY_PORT", "2");
    let values = given.good();
    assert_eq!((values.text("host"), values.source("host")), ("flag".into(), Source::Flag));
    assert_eq!((values.integer::<u16>("port"), values.source("port")), (2, Source::Env));
    let seconds = values.duration("health-check.seconds");
    assert_eq!(
        (seconds, values.source("health-check.seconds")),
        (Duration::from_secs(3), Source::File { line: 4 })
    );
    assert_eq!((values.size("max-body"), values.source("max-body")), (64 << 20, Source::Default));
    assert!(values.is_set("host") && !values.is_set("max-body") && values.opt_text("log").is_none());
}

#[test]
fn both_forms_of_a_flag_and_both_forms_of_seconds() {
    for arguments in [["--check-sec=5", "--round-robin"], ["--check-sec=5s", "--round-robin=true"]] {
        let values = Given::new(&arguments).good();
        assert_eq!(values.duration("health-check.seconds"), Duration::from_secs(5));
        assert!(values.switch("query-mode.round-robin"));
    }
    let off = Given::new(&["--round-robin=false"]).file("[query-mode]\nround-robin = true\n").good();
    assert!(!off.switch("query-mode.round-robin"));
}

#[test]
fn every_problem_of_a_toml_file_comes_with_its_line() {
    let file = r#"host = 5
helth-check = 1
port = 70000
ack = "most"
methods = ["GET", 1]

[health-check]
seconds = 0
secnds = 1

[[nodes]]
host = "a"

[[nodes]]
port = "x"
"#;
    assert_eq!(
        Given::new(&[]).file(file).bad(),
        [
            "F:1: 'host' has to be a text in quotes, not a whole number",
            "F:2: unknown key 'helth-check': did you mean 'health-check'?",
            "F:3: 70000 is not a whole number between 0 and 65535",
            "F:4: 'most' is none of first, all",
            "F:5: 'methods' holds texts, not a whole number",
            "F:8: 0s is too short, the least is 1ms",
            "F:9: unknown key 'health-check.secnds': did you mean 'health-check.seconds'?",
            "F:14: a node needs a host",
            "F:15: 'port' has to be a whole number, not a text",
        ]
    );
}

#[test]
fn a_json_file_has_lines_and_warns_of_unknown_keys() {
    let json = "{\n\"Host\": \"h\",\n\"health-check\": {\"seconds\": 7},\n\"testMode\": true,\n\"ack\": null,\n\"nodes\": [{\"host\": \"a\", \"port\": 1}]\n}";
    let given = Given::new(&[]).file(json);
    let loaded = given.load().unwrap();
    let values = loaded.values();
    assert_eq!(values.text("host"), "h");
    assert_eq!(values.duration("health-check.seconds"), Duration::from_secs(7));
    assert_eq!(values.text("ack"), "first");
    assert!(matches!(values.tables("nodes"), [Row::Table(node)] if node.integer::<u16>("port") == 1));
    assert_eq!(loaded.warnings().len(), 1);
    assert!(loaded.warnings()[0].ends_with("conf:4: unknown key 'testMode'"), "{:?}", loaded.warnings());

    let bad = Given::new(&[]).file("{\n\"port\": \"x\",\n\"nodes\": [\n{\"port\": 1}]\n}").bad();
    assert_eq!(bad, ["F:2: 'port' has to be a whole number, not a text", "F:4: a node needs a host"]);
    let broken = Given::new(&[]).file("{\n\"port\": 1,\n}").bad();
    assert!(broken.len() == 1 && broken[0].starts_with("F:"), "{broken:?}");
}

#[test]
fn problems_of_flags_environment_and_file_come_together() {
    let given =
        Given::new(&["--port", "x", "--node", "a"]).file("ack = 1\n").env("SPAWN_PROXY_MAX_BODY", "lots");
    let mut bad = given.bad();
    bad.sort();
    assert_eq!(
        bad,
        [
            "--port: 'x' is not a whole number between 0 and 65535",
            "F:1: 'ack' has to be a text in quotes, not a whole number",
            "SPAWN_PROXY_MAX_BODY: 'lots' is not a size; write one such as 64KiB, 8GiB or 1048576",
        ]
    );
}

#[test]
fn cross_checks_name_the_place_of_the_value() {
    assert_eq!(Given::new(&["--port", "7118"]).bad(), ["--port: this is the API's port"]);
    assert_eq!(Given::new(&[]).file("\nport = 7118\n").bad(), ["F:2: this is the API's port"]);
    let env = Given::new(&[]).env("SPAWN_PROXY_PORT", "7118");
    assert_eq!(env.bad(), ["SPAWN_PROXY_PORT: this is the API's port"]);
}

#[test]
fn duplicates_and_syntax_errors_are_all_told() {
    let bad = Given::new(&[]).file("port = 1\nport = 2\nhost = \n[nodes\n").bad();
    for line in ["F:2: ", "F:3: ", "F:4: "] {
        assert!(bad.iter().any(|problem| problem.starts_with(line)), "{line} in {bad:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    let bad = Given::new(&["--config", "/nonexistent/conf"]).bad();
    assert_eq!(bad, ["/nonexistent/conf: cannot be read: No such file or directory"]);
    let named = Given::new(&[]).env("SPAWN_PROXY_CONFIG", "/nonexistent/other").bad();
    assert_eq!(named, ["/nonexistent/other: cannot be read: No such file or directory"]);
}

#[test]
fn passwords_and_secrets_stay_out_of_flags_and_prints() {
    let bad = Given::new(&["--log", "redis://:pw@h/0"]).bad();
    assert!(
        bad[0].starts_with("--log: has a password in it") && bad[0].contains("SPAWN_PROXY_LOG"),
        "{bad:?}"
    );
    assert!(parse(&PROGRAM, ["spawn-proxy".into(), "--token=x".into()]).is_err());
    let given = Given::new(&[]).env("SPAWN_PROXY_LOG", "redis://:pw@h/0").env("SPAWN_PROXY_TOKEN", "s3cret");
    let printed = print_config(&given.good());
    assert!(!printed.contains("pw") && !printed.contains("s3cret"), "{printed}");
    assert!(printed.contains("log = \"redis://:***@h/0\"  # SPAWN_PROXY_LOG"), "{printed}");
    assert!(printed.contains("token = \"(hidden)\"  # SPAWN_PROXY_TOKEN"), "{printed}");
}

#[test]
fn what_is_printed_can_be_loaded_again() {
    let arguments =
        ["--port", "5", "--node", "a:1,priority=2", "--node", "b:2", "--method", "GET", "--check-sec", "90"];
    let printed = print_config(&Given::new(&arguments).good());
    let again = Given::new(&[]).file(&printed).good();
    assert_eq!(again.integer::<u16>("port"), 5);
    assert_eq!(again.duration("health-check.seconds"), Duration::from_secs(90));
    assert_eq!(again.texts("methods"), ["GET"]);
    let rows: Vec<_> = again
        .tables("nodes")
        .iter()
        .map(|row| match row {
            Row::Text(row) => row.text().to_owned(),
            Row::Table(_) => panic!("a text was written"),
        })
        .collect();
    assert_eq!(rows, ["a:1,priority=2", "b:2"]);
    assert!(printed.contains("port = 5  # --port\n"), "{printed}");
    assert!(printed.contains("health-check.seconds = \"1m30s\"  # --check-sec\n"), "{printed}");
}

#[test]
fn what_kubernetes_sets_for_a_service_is_no_port() {
    let loaded = Given::new(&[]).env("SPAWN_PROXY_PORT", "tcp://10.0.0.1:7117").load().unwrap();
    assert_eq!(loaded.values().integer::<u16>("port"), 7117);
    assert!(loaded.warnings()[0].starts_with("SPAWN_PROXY_PORT: "));
}

#[test]
fn lists_in_the_environment_are_separated_by_spaces() {
    let values = Given::new(&[])
        .env("SPAWN_PROXY_NODE", "a:1,priority=1 b:2")
        .env("SPAWN_PROXY_METHOD", "GET PUT")
        .good();
    assert_eq!(values.tables("nodes").len(), 2);
    assert_eq!(values.texts("methods"), ["GET", "PUT"]);
}

#[test]
fn a_reload_reads_the_file_again_and_changes_nothing_on_problems() {
    let given = Given::new(&["--host", "flag"]).file("host = \"a\"\nport = 1\n");
    let loaded = given.load().unwrap();
    std::fs::write(given.path(), "host = \"a\"\nprot = 2\n").unwrap();
    let problems = loaded.reload::<Checked>().map(|_| ()).unwrap_err().to_string();
    assert!(problems.ends_with("conf:2: unknown key 'prot': did you mean 'port'?"), "{problems}");
    assert_eq!(loaded.values().integer::<u16>("port"), 1);
    std::fs::write(given.path(), "host = \"a\"\nport = 2\n").unwrap();
    let (reloaded, _) = loaded.reload::<Checked>().map_err(|problems| problems.to_string()).unwrap();
    assert_eq!(reloaded.values().integer::<u16>("port"), 2);
    assert_eq!(reloaded.values().text("host"), "flag");
}

#[test]
fn the_reference_table_has_every_setting() {
    let table = reference_table(&PROGRAM);
    let row = "| `health-check.seconds` | `--check-sec` | `SPAWN_PROXY_CHECK_SEC` | `10s` | Check |";
    assert!(table.contains(row), "{table}");
    assert!(table.contains("| `nodes[].port` |") && table.contains("| `log-level` |"), "{table}");
}

#[test]
#[should_panic(expected = "setting 'prot' is not in the table")]
fn asking_for_an_unknown_key_is_a_mistake_of_the_daemon() {
    Given::new(&[]).good().text("prot");
}
