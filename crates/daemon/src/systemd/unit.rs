//! The text of a hardened systemd unit.
use std::time::Duration;

use crate::settings::Program;

/// What the person who installs decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitOptions {
    /// Path of the executable.
    pub executable: String,
    /// Path of the configuration file, where there is one.
    pub config: Option<String>,
    /// More words for the command line, as `--flag=value`.
    pub flags: Vec<String>,
    /// An existing user to run as, instead of one made for the service.
    pub user: Option<String>,
    /// Whether systemd is at least version 253, so that `systemctl reload` can wait for the end of
    /// a reload. An older one would ignore the whole line and not know when the start is over.
    pub notify_reload: bool,
    /// How long the daemon's own orderly end may take.
    pub stop_within: Duration,
}

/// The least time that systemd gives the end, and how much longer than the daemon's own at least, in seconds.
const STOP_LEAST: u64 = 90;
const STOP_MARGIN: u64 = 30;

/// What a daemon that only talks over the network can do without. A program's own lines come
/// behind and win.
const SANDBOX: &str = "\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077
";

/// The unit file of a program.
pub fn unit_text(program: &Program, options: &UnitOptions) -> String {
    let name = program.name;
    let mut command = quoted(&options.executable);
    if let Some(word) = program.unit.subcommand {
        command.push_str(&format!(" {word}"));
    }
    if let Some(config) = &options.config {
        command.push_str(&format!(" --config {}", quoted(config)));
    }
    for flag in &options.flags {
        command.push_str(&format!(" {}", quoted(flag)));
    }
    // The state directory of the unit, unless the person chose another.
    let chosen = |flag: &str| options.flags.iter().any(|given| given.starts_with(&format!("--{flag}=")));
    if let Some(flag) = program.unit.state_flag.filter(|flag| !chosen(flag)) {
        command.push_str(&format!(" --{flag} %S/{name}"));
    }
    let user = match &options.user {
        Some(user) => format!("User={user}"),
        None => "DynamicUser=yes".to_owned(),
    };
    let stop = (options.stop_within.as_secs() + STOP_MARGIN).max(STOP_LEAST);
    let capability = if program.unit.low_ports { "CAP_NET_BIND_SERVICE" } else { "" };
    let kind = match options.notify_reload {
        true => "Type=notify-reload",
        false => "Type=notify\nExecReload=/bin/kill -HUP $MAINPID",
    };
    let extra: String = program.unit.extra.iter().map(|line| format!("{line}\n")).collect();
    format!(
        "[Unit]
Description={about}
After=network-online.target
Wants=network-online.target

[Service]
{kind}
ExecStart={command}
{user}
StateDirectory={name}
StateDirectoryMode=0700
ConfigurationDirectory={name}
Restart=on-failure
RestartSec=1s
# A configuration that is wrong, or state of a newer version, stays wrong: wait for a person.
RestartPreventExitStatus=2 78
# Longer than the daemon's own end may take by its settings when this was written.
TimeoutStopSec={stop}s
WatchdogSec=30s
LimitNOFILE=1048576
AmbientCapabilities={capability}
CapabilityBoundingSet={capability}
{SANDBOX}{extra}
[Install]
WantedBy=multi-user.target
",
        about = program.about.trim_end_matches('.').replace('%', "%%"),
    )
}

/// A word of `ExecStart` as systemd reads it.
fn quoted(word: &str) -> String {
    let word = word.replace('%', "%%").replace('$', "$$");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-%+,:=@$".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word;
    }
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Unit;

    static PROGRAM: Program = Program {
        unit: Unit {
            subcommand: Some("serve"),
            state_flag: Some("data-dir"),
            low_ports: true,
            extra: &["Nice=5"],
            ..Unit::DEFAULT
        },
        ..Program::new("demo", "Shows 100% of it.", "1.0.0")
    };

    #[test]
    fn holds_command_user_and_sandbox() {
        let options = UnitOptions {
            executable: "/opt/my programs/demo".into(),
            config: Some("/etc/demo/demo.toml".into()),
            flags: vec!["--name=a b".into(), "--port=80".into()],
            user: None,
            notify_reload: true,
            stop_within: Duration::from_secs(59),
        };
        let text = unit_text(&PROGRAM, &options);
        for line in [
            "ExecStart=\"/opt/my programs/demo\" serve --config /etc/demo/demo.toml \"--name=a b\" --port=80 --data-dir %S/demo",
            "Type=notify-reload",
            "DynamicUser=yes",
            "Description=Shows 100%% of it",
            "AmbientCapabilities=CAP_NET_BIND_SERVICE",
            "Nice=5",
            "TimeoutStopSec=90s",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        let flags = vec!["--data-dir=/srv/demo".to_owned()];
        let named = unit_text(
            &PROGRAM,
            &UnitOptions {
                user: Some("www".into()),
                notify_reload: false,
                flags,
                stop_within: Duration::from_millis(300_900),
                ..options
            },
        );
        assert!(named.contains(" --data-dir=/srv/demo\n"), "{named}");
        assert!(named.contains("\nType=notify\nExecReload=/bin/kill -HUP $MAINPID\n"), "{named}");
        assert!(named.contains("\nTimeoutStopSec=330s\n"), "{named}");
        assert!(named.contains("\nUser=www\n") && !named.contains("DynamicUser"));
    }

    #[test]
    fn systemd_finds_no_fault() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo.service");
        let options = UnitOptions { executable: "/bin/true".into(), ..UnitOptions::default() };
        std::fs::write(&path, unit_text(&PROGRAM, &options)).unwrap();
        let verify =
            std::process::Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&path).output();
        let Ok(output) = verify else {
            eprintln!("skipped: systemd-analyze is not installed");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("demo.service:")).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}
