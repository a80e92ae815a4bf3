//! The stores under test.

use std::sync::Arc;
use std::time::Duration;

use reception::backend::Backend;
use reception::{Options, Service};
use testkit::{ConsulServer, EtcdServer, Exhibitor, TempDir, ZooKeeperServer, http};

/// Every wait that has no bound of its own: far above what is needed, so that only what never comes fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A store that a test can treat badly.
pub(crate) trait Store: Send + Sync + Sized {
    /// Whether a restart leaves the records there, as long as their sessions last.
    const KEEPS: bool;
    /// How long the dead may be seen.
    const TTL: Duration;

    async fn start() -> Self;

    /// A client of its own, as in another process.
    fn dial(&self) -> Arc<dyn Backend>;

    /// Takes a record away behind its owner's back.
    async fn lose(&self, service: &Service);

    /// Stops it at once, does this, and starts it again.
    async fn restart(&mut self, while_down: impl AsyncFnOnce());
}

fn options(ttl: Duration) -> Options {
    Options { ttl, prefix: Some("test/suite".to_owned()), ..Options::default() }
}

/// A directory. Its "restart" takes it away whole.
pub(crate) struct FileDirectory {
    folder: TempDir,
}

impl Store for FileDirectory {
    const KEEPS: bool = false;
    const TTL: Duration = Duration::from_secs(1);

    async fn start() -> Self {
        Self { folder: TempDir::new() }
    }

    fn dial(&self) -> Arc<dyn Backend> {
        let url = format!("file:{}", self.folder.join("services").display());
        reception::backend::file::dial(&url, &options(Self::TTL)).unwrap()
    }

    async fn lose(&self, service: &Service) {
        let folder = self.folder.join(format!("services/test/suite/{}", service.name));
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_str().unwrap().ends_with(&format!("-{}.json", service.id)) {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }

    async fn restart(&mut self, while_down: impl AsyncFnOnce()) {
        std::fs::remove_dir_all(self.folder.join("services")).unwrap();
        while_down().await;
    }
}

impl Store for EtcdServer {
    const KEEPS: bool = true;
    const TTL: Duration = Duration::from_secs(3);

    async fn start() -> Self {
        Self::start().await
    }

    fn dial(&self) -> Arc<dyn Backend> {
        reception::backend::etcd::dial(&self.url(), &options(Self::TTL)).unwrap()
    }

    async fn lose(&self, service: &Service) {
        let endpoints = vec![self.addr().to_string()];
        let (timeout, limits) = (LIMIT, Default::default());
        let etcd =
            etcd_gateway::Etcd::new(etcd_gateway::Config { endpoints, tls: None, timeout, limits }).unwrap();
        let key = format!("/test/suite/{}/{}", service.name, service.id);
        let record = etcd.get(key.as_bytes()).await.unwrap().expect("the record is there");
        etcd.revoke(etcd_gateway::LeaseId(record.lease)).await.unwrap();
    }

    async fn restart(&mut self, while_down: impl AsyncFnOnce()) {
        self.process().kill9();
        while_down().await;
        self.restart().await;
    }
}

impl Store for ConsulServer {
    const KEEPS: bool = true;
    /// The shortest that it can do.
    const TTL: Duration = Duration::from_secs(10);

    async fn start() -> Self {
        Self::start().await
    }

    fn dial(&self) -> Arc<dyn Backend> {
        reception::backend::consul::dial(&self.url(), &options(Self::TTL)).unwrap()
    }

    async fn lose(&self, service: &Service) {
        let target = format!("/v1/agent/service/deregister/{}", service.id);
        assert_eq!(http::ask("PUT", &target).of(self.addr()).await.status, 200);
    }

    async fn restart(&mut self, while_down: impl AsyncFnOnce()) {
        self.process().kill9();
        while_down().await;
        self.restart().await;
    }
}

impl Store for ZooKeeperServer {
    const KEEPS: bool = true;
    const TTL: Duration = Duration::from_secs(4);

    async fn start() -> Self {
        Self::with_tick(Duration::from_millis(500)).await
    }

    fn dial(&self) -> Arc<dyn Backend> {
        reception::backend::zookeeper::dial(&self.url(), &options(Self::TTL)).unwrap()
    }

    async fn lose(&self, service: &Service) {
        let client = zookeeper_client::Client::connect(&self.addr().to_string()).await.unwrap();
        let folder = format!("/test/suite/{}", service.name);
        for node in client.list_children(&folder).await.unwrap() {
            if node.contains(&format!("-{}-", service.id)) {
                client.delete(&format!("{folder}/{node}"), None).await.unwrap();
            }
        }
    }

    async fn restart(&mut self, while_down: impl AsyncFnOnce()) {
        self.process().kill9();
        while_down().await;
        self.restart().await;
    }
}

/// A ZooKeeper server that Exhibitor names.
pub(crate) struct BehindExhibitor {
    server: ZooKeeperServer,
    exhibitor: Exhibitor,
}

impl Store for BehindExhibitor {
    const KEEPS: bool = true;
    const TTL: Duration = ZooKeeperServer::TTL;

    async fn start() -> Self {
        let server = <ZooKeeperServer as Store>::start().await;
        let exhibitor = Exhibitor::start(&["127.0.0.1"], server.addr().port());
        Self { server, exhibitor }
    }

    fn dial(&self) -> Arc<dyn Backend> {
        reception::backend::zookeeper::dial(&self.exhibitor.url(), &options(Self::TTL)).unwrap()
    }

    async fn lose(&self, service: &Service) {
        self.server.lose(service).await;
    }

    async fn restart(&mut self, while_down: impl AsyncFnOnce()) {
        Store::restart(&mut self.server, while_down).await;
    }
}
