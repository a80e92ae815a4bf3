//! Consul and etcd as one, for what both have to bear.
#![allow(dead_code, clippy::allow_attributes, reason = "each test program uses a part of it")]

use std::net::SocketAddr;
use std::time::Duration;

use consul_client::kv::Put;
use consul_client::{Consul, Query};
use etcd_gateway::{Etcd, LeaseId, Txn};
use testkit::{ConsulServer, EtcdServer};

/// A real server of either kind.
pub(crate) enum Server {
    Etcd(EtcdServer),
    Consul(ConsulServer),
}

impl Server {
    pub(crate) async fn etcd() -> Self {
        Self::Etcd(EtcdServer::start().await)
    }

    pub(crate) async fn consul() -> Self {
        Self::Consul(ConsulServer::start().await)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        match self {
            Self::Etcd(server) => server.addr(),
            Self::Consul(server) => server.addr(),
        }
    }

    pub(crate) fn url(&self) -> String {
        self.url_at(self.addr())
    }

    pub(crate) fn url_at(&self, addr: SocketAddr) -> String {
        let kind = if matches!(self, Self::Etcd(_)) { "etcd" } else { "consul" };
        format!("{kind}://{addr}/jobs")
    }

    /// The shortest expiry that it can do and that outlives its restart.
    pub(crate) fn expiry(&self) -> Duration {
        Duration::from_secs(if matches!(self, Self::Etcd(_)) { 4 } else { 10 })
    }

    pub(crate) async fn restart(&mut self, empty: bool) {
        match (self, empty) {
            (Self::Etcd(server), false) => server.restart().await,
            (Self::Etcd(server), true) => server.restart_empty().await,
            (Self::Consul(server), false) => server.restart().await,
            (Self::Consul(server), true) => server.restart_empty().await,
        }
    }

    pub(crate) fn consul_client(&self) -> Consul {
        Consul::new(consul_client::Config::at(self.addr().to_string())).unwrap()
    }

    pub(crate) fn etcd_client(&self) -> Etcd {
        let endpoints = vec![self.addr().to_string()];
        let (timeout, limits) = (Duration::from_secs(5), Default::default());
        Etcd::new(etcd_gateway::Config { endpoints, tls: None, timeout, limits }).unwrap()
    }

    /// Ends the holder's session or lease, if somebody holds, as an operator can.
    pub(crate) async fn kill_the_holders_anchor(&self) {
        match self {
            Self::Etcd(_) => {
                let etcd = self.etcd_client();
                let found = etcd.range(b"jobs/it/holder").await.unwrap();
                if let Some(holder) = found.entries.first() {
                    etcd.revoke(LeaseId(holder.lease)).await.unwrap();
                }
            }
            Self::Consul(_) => {
                let consul = self.consul_client();
                let entry = consul.kv_get("jobs/it", Query::consistent()).await.unwrap().value;
                if let Some(session) = entry.and_then(|entry| entry.session) {
                    consul.destroy_session(&session).await.unwrap();
                }
            }
        }
    }

    pub(crate) async fn write_nonsense(&self, text: &str) {
        match self {
            Self::Etcd(_) => {
                let (key, value) = (b"jobs/it/record".to_vec(), text.as_bytes().to_vec());
                let put = vec![etcd_gateway::Put { key, value, lease: None }];
                self.etcd_client().commit(&Txn { put, ..Txn::default() }).await.unwrap();
            }
            Self::Consul(_) => {
                assert!(self.consul_client().kv_put("jobs/it", text.to_owned(), Put::Always).await.unwrap());
            }
        }
    }
}
