//! The rows of `[[spawn]]`, with everything that is wrong with them.

use std::collections::BTreeSet;
use std::path::Path;

use daemon::http::Token;
use daemon::settings::{Kind, Problems, Row, Setting, Values};
use http::Uri;
use http_fetch::Tls;
use reception::Name;

use super::SpawnSpec;
use super::api::Api;
use super::plan::OnLeave;
use crate::render::settings::held_rule;

/// The key of the array of tables.
const KEY: &str = "spawn";

/// The keys of one `[[spawn]]`.
pub static COLUMNS: &[Setting] = &[
    Setting::new("service", Kind::Text, "The service whose instances are nodes"),
    Setting::new("api", Kind::Url, "A spawn-proxy's API: http://HOST:PORT or https://HOST:PORT"),
    Setting::new("token_file", Kind::Path, "File with the bearer token of that API, read at each call"),
    Setting::new("ca_file", Kind::Path, "Authorities (PEM) to trust for https, instead of the system's"),
    Setting::new("cert_file", Kind::Path, "Our own certificate (PEM) for https, where the API asks for one"),
    Setting::new("key_file", Kind::Path, "Its key (PEM)"),
    Setting::new(
        "on_leave",
        Kind::Choice(&["maintenance", "delete"]),
        "What becomes of a node whose instance has left",
    )
    .default("maintenance"),
    Setting::new("delete_after", Kind::DURATION, "How long it rests before it is removed").default("0s"),
    Setting::new(
        "min_instances",
        Kind::Integer { min: 0, max: 1_000_000 },
        "A list with fewer instances does not replace the last good one",
    )
    .default("0"),
    Setting::new(
        "empty_grace",
        Kind::DURATION,
        "How long an empty list has to be confirmed before it replaces a full one",
    )
    .default("30s"),
];

/// The proxies to keep in step; none when `problems` says why.
pub fn specs(values: &Values, problems: &mut Problems) -> Option<Vec<SpawnSpec>> {
    let mut seen = BTreeSet::new();
    let mut specs = Some(Vec::new());
    for row in values.tables(KEY) {
        let Row::Table(row) = row else {
            problems.at(&row.place(), "write it as a table: [[spawn]] with service and api");
            specs = None;
            continue;
        };
        let spec = spec(row, problems).filter(|spec| {
            let first = seen.insert((spec.service.clone(), spec.api.clone()));
            if !first {
                let message = format!("another [[spawn]] keeps {:?} at {} already", spec.service, spec.api);
                problems.report(row, "api", message);
            }
            first
        });
        specs = specs.zip(spec).map(|(mut specs, spec)| {
            specs.push(spec);
            specs
        });
    }
    specs
}

fn spec(row: &Values, problems: &mut Problems) -> Option<SpawnSpec> {
    let service = service(row, problems);
    let api = api(row, problems);
    let tls = tls(row, problems, api.as_deref().is_some_and(|api| api.starts_with("https")));
    let token_file = row.opt_path("token_file");
    let token = token_file.as_deref().map_or(Ok(()), |path| Token::read(path).map(|_| ()));
    if let Err(error) = &token {
        problems.report(row, "token_file", error.clone());
    }
    let on_leave = on_leave(row, problems);
    let held = held_rule(row)?;
    let (api, tls) = (api?, tls?);
    if let Err(error) = Api::new(&api, tls.as_ref(), None) {
        problems.report(row, "api", error.to_string());
        return None;
    }
    token.ok()?;
    Some(SpawnSpec { service: service?, api, token_file, tls, on_leave: on_leave?, held })
}

fn service(row: &Values, problems: &mut Problems) -> Option<String> {
    let Some(name) = row.opt_text("service") else {
        problems.report(row, "service", "'service' is needed: the service whose instances are nodes");
        return None;
    };
    Name::new(&name).map_err(|error| problems.report(row, "service", error.to_string())).ok()?;
    Some(name)
}

fn api(row: &Values, problems: &mut Problems) -> Option<String> {
    let Some(text) = row.opt_text("api") else {
        problems.report(row, "api", "'api' is needed: the address of a spawn-proxy's API, http://HOST:PORT");
        return None;
    };
    let sound = |uri: &Uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && uri.query().is_none()
    };
    match text.parse::<Uri>() {
        Ok(uri) if sound(&uri) => Some(text.trim_end_matches('/').to_owned()),
        _ => {
            problems.report(
                row,
                "api",
                format!("'{text}' is no address of an API: write http://HOST:PORT or https://HOST:PORT"),
            );
            None
        }
    }
}

/// None when there is a problem; `Some(None)` for plain HTTP.
#[expect(clippy::option_option, reason = "the outer one says whether the configuration is usable")]
fn tls(row: &Values, problems: &mut Problems, https: bool) -> Option<Option<Tls>> {
    let mut good = true;
    let mut read = |key: &str| {
        let path = row.opt_path(key)?;
        let bytes = std::fs::read(&path);
        if let Err(error) = &bytes {
            problems.report(row, key, format!("{}: {error}", path.display()));
            good = false;
        }
        bytes.ok()
    };
    let (ca, certificate, key) = (read("ca_file"), read("cert_file"), read("key_file"));
    for (key, other) in [("cert_file", "key_file"), ("key_file", "cert_file")] {
        if row.is_set(key) && !row.is_set(other) {
            problems.report(row, key, format!("goes with '{other}'"));
            good = false;
        }
    }
    if !https {
        for key in ["ca_file", "cert_file", "key_file"].into_iter().filter(|key| row.is_set(key)) {
            problems.report(row, key, "is for an 'api' that begins with https://");
            good = false;
        }
        return good.then_some(None);
    }
    good.then_some(Some(Tls { ca, client: certificate.zip(key) }))
}

fn on_leave(row: &Values, problems: &mut Problems) -> Option<OnLeave> {
    let after = row.opt_duration("delete_after")?;
    if row.opt_choice("on_leave")? == "delete" {
        return Some(OnLeave::Delete { after });
    }
    if row.is_set("delete_after") {
        problems.report(row, "delete_after", "goes with on_leave = \"delete\"");
        return None;
    }
    Some(OnLeave::Maintenance)
}

/// What `--check-config` looks at besides: tokens that everybody on the host can read.
pub fn check(values: &Values, problems: &mut Problems) {
    for row in values.tables(KEY) {
        let Row::Table(row) = row else { continue };
        for key in ["token_file", "key_file"] {
            if row.opt_path(key).is_some_and(|path| is_open(&path)) {
                problems.warn(row, key, "can be read by every user of this host: take that away (chmod 600)");
            }
        }
    }
}

fn is_open(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    path.metadata().is_ok_and(|meta| meta.mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests;
