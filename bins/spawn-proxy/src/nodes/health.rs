//! Background checks: one task per node, never inside a client's request.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use tokio::sync::watch;
use tokio::time::Instant;

use super::live::Live;
use crate::config::HealthConfig;
use crate::proxy::body::OutBody;
use crate::proxy::upstream::Pool;
use crate::proxy::worker::Worker;

/// How much of an answer is looked at for the regexp.
const MAX_LOOKED_AT: usize = 1024 * 1024;
/// How often a name is resolved anew.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

/// Checks a node until told to stop.
pub async fn watch(worker: Rc<Worker>, live: Arc<Live>, mut stop: watch::Receiver<bool>) {
    let resolving = resolve(&live);
    let checking = async {
        loop {
            let begun = Instant::now();
            let config = worker.shared.config.load().health.clone();
            let error = check(&live, &config).await.err();
            report(&live, error);
            tokio::select! {
                () = tokio::time::sleep_until(begun + config.interval) => {}
                () = live.check_wanted() => {}
            }
        }
    };
    tokio::select! {
        () = checking => {}
        () = resolving => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

fn report(live: &Live, error: Option<String>) {
    let text = error.clone();
    if live.checked(error) {
        match text {
            None => tracing::info!(node = %live.id, "node is healthy"),
            Some(error) => {
                tracing::warn!(node = %live.id, %error, "node failed its health check: no more traffic")
            }
        }
    }
}

/// One check, over a connection of its own: that new ones are accepted is part of it.
async fn check(live: &Live, config: &HealthConfig) -> Result<(), String> {
    let mut request = Request::new(OutBody::empty());
    *request.uri_mut() = config.url.parse().map_err(|error| format!("{}: {error}", config.url))?;
    request.headers_mut().insert(header::HOST, live.header.clone());
    request
        .headers_mut()
        .insert(header::USER_AGENT, header::HeaderValue::from_static("spawn-proxy health check"));
    let verdict = async {
        let answer = Pool::default()
            .exchange(live, request, config.timeout)
            .await
            .map_err(|error| error.to_string())?;
        judge_status(answer.status(), config.strict)?;
        let Some(regexp) = &config.regexp else { return Ok(()) };
        let body = Limited::new(answer.into_body(), MAX_LOOKED_AT)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        if regexp.is_match(&body.to_bytes()) {
            Ok(())
        } else {
            Err(format!("the answer does not match '{regexp}'"))
        }
    };
    tokio::time::timeout(config.timeout, verdict)
        .await
        .unwrap_or_else(|_| Err(format!("no whole answer within {:?}", config.timeout)))
}

/// With a url of its own a check asks for success; else the node need only not be failing.
fn judge_status(status: StatusCode, strict: bool) -> Result<(), String> {
    let fine = if strict { status.is_success() || status.is_redirection() } else { status.as_u16() < 500 };
    if fine { Ok(()) } else { Err(format!("answered {status}")) }
}

/// Keeps the addresses of a node's name current, so that pools drop those it no longer has.
async fn resolve(live: &Live) {
    if live.id.host().parse::<IpAddr>().is_ok() {
        return std::future::pending().await;
    }
    loop {
        match tokio::net::lookup_host((live.id.host(), live.id.port())).await {
            Ok(addresses) => {
                live.addresses.store(Some(Arc::new(addresses.map(|address| address.ip()).collect())))
            }
            Err(error) => tracing::debug!(node = %live.id, %error, "cannot resolve the node's name"),
        }
        tokio::time::sleep(RESOLVE_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_url_asks_for_success_and_the_default_only_for_no_server_error() {
        let fine = |status: u16, strict| judge_status(StatusCode::from_u16(status).unwrap(), strict).is_ok();
        assert!(fine(200, true) && fine(302, true) && !fine(404, true) && !fine(500, true));
        assert!(fine(200, false) && fine(404, false) && !fine(500, false) && !fine(503, false));
    }
}
