use daemon::settings::{Config, Environment, Flags, Loaded, Program};

use super::*;

static SETTINGS: &[Setting] = &[Setting::new(KEY, Kind::Tables(COLUMNS), "")];
static PROGRAM: Program = Program { settings: SETTINGS, ..Program::new("agent", "", "1") };

struct Specs(Vec<RenderSpec>);

impl Config for Specs {
    fn from_values(values: &Values, problems: &mut Problems) -> Option<Self> {
        check(values, problems);
        specs(values, problems).map(Self)
    }
}

fn load(text: &str) -> Result<Vec<RenderSpec>, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("t.conf"), "one\n{{ services.\n").unwrap();
    std::fs::write(dir.path().join("good.conf"), "{{ index }}\n").unwrap();
    let file = dir.path().join("agent.toml");
    let here = dir.path().display().to_string();
    std::fs::write(&file, text.replace("HERE", &here)).unwrap();
    let flags = Flags { config: Some(file.display().to_string()), ..Flags::default() };
    let loaded = Loaded::load::<Specs>(&PROGRAM, None, flags, Environment::new());
    loaded.map(|(_, specs)| specs.0).map_err(|problems| problems.to_string().replace(&here, "HERE"))
}

#[test]
fn the_least_is_path_services_and_format() {
    let specs = load("[[render]]\npath = 'HERE/a'\nservices = ['*']\nformat = 'keyrouter'\n").unwrap();
    let [spec] = &specs[..] else { panic!("{specs:?}") };
    assert_eq!(
        (&spec.rule.wanted, &spec.format, &spec.on_change),
        (&Wanted::All, &Format::Keyrouter, &OnChange::None)
    );
    assert_eq!(
        (spec.rule.debounce, spec.rule.debounce_max),
        (Duration::from_millis(100), Duration::from_secs(2))
    );
    assert_eq!(spec.rule.held, held::Rule { min_instances: 0, empty_grace: Duration::from_secs(30) });
}

#[test]
fn everything_can_be_said() {
    let specs = load(
        "[[render]]\npath = 'HERE/a'\nservices = ['web', 'db']\ntemplate = 'HERE/good.conf'\ndebounce = '5s'\n\
         min_instances = 2\nempty_grace = '1m'\non_change = 'signal'\npid_file = 'HERE/pid'\nsignal = 'SIGUSR1'\n\
         [[render]]\npath = 'HERE/b'\nservices = ['web']\nformat = 'keyrouter'\ndebounce_max = '100ms'\n\
         on_change = 'command'\ncommand = ['sh', '-c', 'true']\ncommand_timeout = '5s'\n",
    );
    let specs = specs.unwrap();
    assert_eq!(specs[0].rule.wanted, Wanted::Named(vec!["web".into(), "db".into()]));
    assert_eq!(
        (specs[0].rule.debounce, specs[0].rule.debounce_max),
        (Duration::from_secs(5), Duration::from_secs(5))
    );
    assert!(matches!(specs[0].on_change, OnChange::Signal { signal: "USR1", .. }), "{specs:?}");
    let OnChange::Command { words, timeout } = &specs[1].on_change else { panic!("{specs:?}") };
    assert_eq!((words.len(), *timeout), (3, Duration::from_secs(5)));
}

#[test]
fn all_problems_are_told_at_once_with_their_lines() {
    let problems = load(
        "[[render]]\nservices = ['*', 'a/b']\n\
         [[render]]\npath = 'HERE/none/a'\nservices = ['a']\ntemplate = 'HERE/t.conf'\ndebounce = '1s'\ndebounce_max = '1ms'\n\
         [[render]]\npath = 'HERE/a'\nservices = ['a', 'a']\nformat = 'nginx'\non_change = 'signal'\nsignal = 'KILL'\n\
         [[render]]\npath = 'HERE/a'\nservices = ['a']\nformat = 'keyrouter'\ncommand = ['no-such-program']\n\
         [[render]]\npath = 'HERE/b'\nservices = ['a']\nformat = 'keyrouter'\n\
         [[render]]\npath = 'HERE/b'\nservices = ['a']\nformat = 'keyrouter'\npaht = 1\n",
    )
    .unwrap_err();
    for line in [
        "HERE/agent.toml:1: 'path' is needed",
        "HERE/agent.toml:2: \"*\" means all services",
        "HERE/agent.toml:2: the name \"a/b\" cannot be used",
        "HERE/agent.toml:1: 'format' or 'template' is needed",
        "HERE/agent.toml:4: there is no directory HERE/none",
        "HERE/t.conf:2: ",
        "HERE/agent.toml:8: is shorter than 'debounce'",
        "HERE/agent.toml:11: \"a\" is there twice",
        "HERE/agent.toml:12: ",
        "HERE/agent.toml:14: ",
        "HERE/agent.toml:9: 'pid_file' is needed",
        "HERE/agent.toml:19: 'command' goes with on_change = \"command\", and that is \"none\"",
        "HERE/agent.toml:19: there is no program \"no-such-program\"",
        "HERE/agent.toml:25: HERE/b is kept by another [[render]] already",
        "HERE/agent.toml:28: unknown key 'paht': did you mean 'path'?",
    ] {
        assert!(problems.lines().any(|problem| problem.starts_with(line)), "{line} not in\n{problems}");
    }
}
