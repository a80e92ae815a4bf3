//! The smallest daemon with everything in it: an app listener on a thread of its own, an API
//! listener with the admin routes, reload, drain, TLS.
use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use daemon::http::{Limits, Listener, Server, bind};
use daemon::lifecycle::Lifecycle;
use daemon::log::log_listening;
use daemon::settings::{
    Address, Api, Argument, BareUnit, Config, Kind, Problems, Program, Row, Setting, Subcommand, Values,
};
use daemon::tls::{ClientAuth, Tls, TlsFiles};
use daemon::{Failure, Start};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;

static PROGRAM: Program = Program {
    settings: SETTINGS,
    subcommands: &[Subcommand {
        name: "greet",
        about: "Greet somebody and end",
        settings: &[Setting::new("times", Kind::COUNT, "How often").flag("times").default("1").flag_only()],
        arguments: &[Argument::required("name", "Who is greeted")],
    }],
    examples: "daemon-example --listen :8080",
    api: Api::Address { address: "api", certificates: &["tls.cert"] },
    bare_service_words: true,
    ..Program::new("daemon-example", "Greets whoever asks", env!("CARGO_PKG_VERSION"))
};

const NODE: &[Setting] = &[
    Setting::new("host", Kind::Host, "Where the node is"),
    Setting::new("port", Kind::PORT, "Its port").default("80"),
];

static SETTINGS: &[Setting] = &[
    Setting::new("listen", Kind::Address, "Where to greet")
        .flag("listen")
        .default("127.0.0.1:0")
        .at_start()
        .group("Listeners"),
    Setting::new("api", Kind::Address, "Where the admin routes are")
        .flag("api")
        .default("127.0.0.1:0")
        .at_start()
        .group("Listeners"),
    Setting::new("greeting", Kind::Text, "What to say").flag("greeting").default("hello"),
    Setting::new("reload-pause", Kind::WAIT, "Time that a reload takes").flag("reload-pause").default("1ms"),
    Setting::new("health-check.seconds", Kind::WAIT, "Time between checks")
        .flag("check-sec")
        .bare(BareUnit::Seconds)
        .default("10s"),
    Setting::new("health-check.regexp", Kind::Regex, "What a good answer holds").flag("check-regexp"),
    Setting::new("upstream", Kind::Url, "Where updates go").flag("upstream"),
    Setting::new("round-robin", Kind::Switch, "Take turns").flag("round-robin"),
    Setting::new("max-body", Kind::SIZE, "Largest body").flag("max-body").default("64MiB"),
    Setting::new("api-token", Kind::Text, "Token of the API").secret(),
    Setting::new("methods", Kind::Texts, "Methods to take").flag("method"),
    Setting::new("nodes", Kind::Tables(NODE), "Nodes").flag("node").value_name("HOST:PORT"),
    Setting::new("tls.cert", Kind::Path, "Certificate, PEM").flag("tls-cert").group("TLS"),
    Setting::new("tls.key", Kind::Path, "Private key, PEM").flag("tls-key").group("TLS"),
];

struct Settings {
    listen: Address,
    api: Address,
    greeting: String,
    reload_pause: Duration,
    tls: Option<TlsFiles>,
}

impl Config for Settings {
    fn from_values(values: &Values, problems: &mut Problems) -> Option<Self> {
        for row in values.tables("nodes") {
            match row {
                Row::Table(node) if node.opt_text("host").is_none() => {
                    problems.report(node, "host", "a node needs a host");
                }
                Row::Text(text) if text.text().parse::<Address>().is_err() => {
                    problems.at(text.place(), format!("'{}' is not HOST:PORT", text.text()));
                }
                _ => {}
            }
        }
        if values.text("greeting").is_empty() {
            problems.report(values, "greeting", "a greeting has to say something");
        }
        let tls = values.opt_path("tls.cert").zip(values.opt_path("tls.key"));
        Some(Self {
            listen: values.address("listen"),
            api: values.address("api"),
            greeting: values.text("greeting"),
            reload_pause: values.duration("reload-pause"),
            tls: tls.map(|(certificate, key)| TlsFiles { certificate, key, client_auth: ClientAuth::None }),
        })
    }
}

fn main() -> ExitCode {
    daemon::main(&PROGRAM, run)
}

fn run(start: Start<Settings>) -> anyhow::Result<()> {
    if start.subcommand == Some("greet") {
        return greet(&start);
    }
    let life = Lifecycle::new(&start)?;
    let greeting = Arc::new(ArcSwap::from_pointee(start.config.greeting.clone()));
    let tls = start.config.tls.as_ref().map(TlsFiles::load).transpose()?.map(Tls::new);
    let (app, api) = (bind(&start.config.listen)?, bind(&start.config.api)?);
    log_listening("app", app.addr());
    log_listening("api", api.addr());
    let thread = serve_app(app, &life, greeting.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let admin = life.admin.clone();
        let server = Server::new(api, Limits::new(64), life.drain.clone()).with_tls(tls.clone());
        let serving = tokio::spawn(server.serve(move |_| {
            let admin = admin.clone();
            service_fn(move |request: Request<Incoming>| {
                let answer = admin.respond(request.method(), request.uri().path());
                let answer = answer.unwrap_or_else(|| not_found().map(|_| Bytes::new()));
                std::future::ready(Ok::<_, Infallible>(answer.map(Full::new)))
            })
        }));
        life.run(move |new: Settings, _| {
            std::thread::sleep(new.reload_pause);
            let files =
                new.tls.as_ref().map(TlsFiles::load).transpose().map_err(|error| error.to_string())?;
            if let (Some(tls), Some(config)) = (&tls, files) {
                tls.replace(config);
            }
            greeting.store(Arc::new(new.greeting));
            Ok(())
        })
        .await;
        serving.await?.map_err(anyhow::Error::from)
    })?;
    thread.join().map_err(|_| Failure::running("the app's thread broke"))??;
    Ok(())
}

/// The data path: one thread, one runtime, services that never leave it.
fn serve_app(
    listener: Listener,
    life: &Lifecycle,
    greeting: Arc<ArcSwap<String>>,
) -> anyhow::Result<std::thread::JoinHandle<std::io::Result<()>>> {
    let server = Server::new(listener, Limits::new(64), life.drain.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(std::thread::Builder::new().name("app".into()).spawn(move || {
        let serving = server.serve_local(move |_| {
            let greeting = greeting.clone();
            service_fn(move |request: Request<Incoming>| {
                let greeting = greeting.load_full();
                async move {
                    let wait = request.uri().path().strip_prefix("/slow/").and_then(|ms| ms.parse().ok());
                    tokio::time::sleep(Duration::from_millis(wait.unwrap_or(0))).await;
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(greeting.to_string()))))
                }
            })
        });
        tokio::task::LocalSet::new().block_on(&runtime, serving)
    })?)
}

fn greet(start: &Start<Settings>) -> anyhow::Result<()> {
    use std::io::Write;
    let name = start.arguments.get("name").unwrap_or("nobody");
    if name == "nobody" {
        return Err(Failure::running("nobody cannot be greeted").into());
    }
    for _ in 0..start.loaded.values().integer::<u32>("times") {
        writeln!(std::io::stdout(), "{}, {name}", start.config.greeting)?;
    }
    Ok(())
}

fn not_found() -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = http::StatusCode::NOT_FOUND;
    response
}
