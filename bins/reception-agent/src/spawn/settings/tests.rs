use std::time::Duration;

use daemon::settings::{Config, Environment, Flags, Loaded, Program};

use super::*;

static SETTINGS: &[Setting] = &[Setting::new(KEY, Kind::Tables(COLUMNS), "")];
static PROGRAM: Program = Program { settings: SETTINGS, ..Program::new("agent", "", "1") };

struct Specs(Vec<SpawnSpec>);

impl Config for Specs {
    fn from_values(values: &Values, problems: &mut Problems) -> Option<Self> {
        check(values, problems);
        specs(values, problems).map(Self)
    }
}

fn load(text: &str) -> Result<(Vec<SpawnSpec>, Vec<String>), String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "0123456789abcdef\n").unwrap();
    std::fs::write(dir.path().join("short"), "short\n").unwrap();
    let ca_dir = testkit::TempDir::new();
    let ca = testkit::Pki::new(&ca_dir).authority;
    let file = dir.path().join("agent.toml");
    let here = dir.path().display().to_string();
    let text = text.replace("HERE", &here).replace("CA", &ca.display().to_string());
    std::fs::write(&file, text).unwrap();
    let flags = Flags { config: Some(file.display().to_string()), ..Flags::default() };
    let loaded = Loaded::load::<Specs>(&PROGRAM, None, flags, Environment::new());
    loaded
        .map(|(loaded, specs)| (specs.0, loaded.warnings().to_vec()))
        .map_err(|problems| problems.to_string().replace(&here, "HERE"))
}

#[test]
fn the_least_is_service_and_api() {
    let (specs, _) = load("[[spawn]]\nservice = 'web'\napi = 'http://[::1]:7118/'\n").unwrap();
    let [spec] = &specs[..] else { panic!("{specs:?}") };
    assert_eq!((spec.service.as_str(), spec.api.as_str()), ("web", "http://[::1]:7118"));
    assert_eq!((spec.on_leave, &spec.token_file, &spec.tls), (OnLeave::Maintenance, &None, &None));
    assert_eq!(spec.held.empty_grace, Duration::from_secs(30));
}

#[test]
fn everything_can_be_said() {
    let (specs, warnings) = load(
        "[[spawn]]\nservice = 'web'\napi = 'https://h:7118'\ntoken_file = 'HERE/token'\nca_file = 'CA'\n\
         on_leave = 'delete'\ndelete_after = '5m'\nmin_instances = 1\nempty_grace = '1m'\n\
         [[spawn]]\nservice = 'api'\napi = 'https://h:7118'\nca_file = 'CA'\n",
    )
    .unwrap();
    assert_eq!(specs[0].on_leave, OnLeave::Delete { after: Duration::from_secs(300) });
    assert!(specs[0].tls.as_ref().is_some_and(|tls| tls.ca.is_some()) && specs[0].token_file.is_some());
    assert!(warnings.iter().any(|warning| warning.contains("every user of this host")), "{warnings:?}");
}

#[test]
fn all_problems_are_told_at_once_with_their_lines() {
    let problems = load(
        "[[spawn]]\ndelete_after = '1s'\n\
         [[spawn]]\nservice = 'a/b'\napi = 'ftp://h:1'\ntoken_file = 'HERE/short'\n\
         [[spawn]]\nservice = 'a'\napi = 'http://u:p@h:1'\nca_file = 'HERE/none'\ncert_file = 'HERE/token'\n\
         [[spawn]]\nservice = 'a'\napi = 'https://h:1'\nca_file = 'HERE/token'\n\
         [[spawn]]\nservice = 'a'\napi = 'http://h:1'\n[[spawn]]\nservice = 'a'\napi = 'http://h:1/'\n",
    )
    .unwrap_err();
    for line in [
        "HERE/agent.toml:1: 'service' is needed",
        "HERE/agent.toml:1: 'api' is needed",
        "HERE/agent.toml:2: goes with on_leave",
        "HERE/agent.toml:4: the name \"a/b\" cannot be used",
        "HERE/agent.toml:5: 'ftp://h:1' is no address of an API",
        "HERE/agent.toml:6: HERE/short: a token has at least 16 characters",
        "HERE/agent.toml:9: 'http://u:p@h:1' is no address of an API",
        "HERE/agent.toml:10: HERE/none: No such file",
        "HERE/agent.toml:11: goes with 'key_file'",
        "HERE/agent.toml:14: TLS: no certificate",
        "HERE/agent.toml:21: another [[spawn]] keeps \"a\" at http://h:1 already",
    ] {
        assert!(problems.lines().any(|problem| problem.starts_with(line)), "{line} not in\n{problems}");
    }
}
