//! The Docker engine. This file and those below it are the only ones that name bollard.
//!
//! Every call is bounded in time. The engine may be down when the provisioner starts and may come and go: the
//! API version is agreed on at the first call that reaches it, and again after it was away.

mod capabilities;
mod connection;
mod create;
mod read;

use std::path::PathBuf;
use std::time::Duration;

use bollard::models::{NetworkConnectRequest, NetworkDisconnectRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
};
use boxgate_config::InstanceName;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Backend, Change, Container, Error, Host, Surroundings};
use crate::blueprint::Blueprint;
use crate::network::host::routed;
use crate::objects::{self, Names};
use connection::{Connection, found};

/// For a question: dockerd answers within milliseconds unless the host is in distress.
const ASK: Duration = Duration::from_secs(10);
/// For a change: a start runs mounts, iptables and the runtime, and a host may be busy.
const CHANGE: Duration = Duration::from_secs(60);
/// Inspections at once when all boxes are listed.
const INSPECT_MAX: usize = 16;
/// Lines of a failed boot that are worth reading.
const LAST_WORDS: &str = "20";

/// Boxes as containers of the Docker engine behind a Unix socket.
#[derive(Debug)]
pub struct Docker {
    connection: Connection,
    /// Whether containers must do without `CAP_SYS_RESOURCE`, because this host does.
    drop_sys_resource: bool,
}

impl Docker {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        let drop_sys_resource = !capabilities::has_sys_resource();
        Self { connection: Connection::new(socket), drop_sys_resource }
    }

    async fn list(&self, instance: &InstanceName) -> Result<Vec<bollard::models::ContainerSummary>, Error> {
        let ours = [("label".to_owned(), vec![format!("{}={instance}", objects::INSTANCE)])].into();
        let options = ListContainersOptionsBuilder::new().all(true).filters(&ours).build();
        self.connection
            .call("list containers", ASK, |docker| async move { docker.list_containers(Some(options)).await })
            .await
    }

    async fn inspect(&self, name: &str, network: &str) -> Result<Option<Container>, Error> {
        let inspected = self
            .connection
            .call("inspect container", ASK, |docker| async move {
                found(docker.inspect_container(name, None).await)
            })
            .await?;
        Ok(inspected.map(|inspected| read::container(inspected, name, network)))
    }

    async fn volume(&self, name: &str) -> Result<Option<objects::Labels>, Error> {
        let volume = self
            .connection
            .call("inspect volume", ASK, |docker| async move { found(docker.inspect_volume(name).await) })
            .await?;
        Ok(volume.map(|volume| volume.labels))
    }

    async fn attach(&self, names: &Names) -> Result<(), Error> {
        // What the container is attached to may be a network that is gone: only its name is left of it.
        let detach = NetworkDisconnectRequest { container: names.container.clone(), force: Some(true) };
        let attach = NetworkConnectRequest { container: names.container.clone(), endpoint_config: None };
        let network = &names.network;
        let detached = self
            .connection
            .call("detach network", CHANGE, |docker| async move {
                docker.disconnect_network(network, detach).await
            })
            .await;
        if let Err(Error::Unreachable(_) | Error::TimedOut { .. }) = detached {
            return detached;
        }
        self.connection
            .call(
                "attach network",
                CHANGE,
                |docker| async move { docker.connect_network(network, attach).await },
            )
            .await
    }
}

impl Backend for Docker {
    async fn container(&self, names: &Names) -> Result<Option<Container>, Error> {
        self.inspect(&names.container, &names.network).await
    }

    async fn host(&self, devbox: &Blueprint) -> Result<Host, Error> {
        let connection = &self.connection;
        let (image, info) = tokio::try_join!(
            connection.call("inspect image", ASK, |docker| async move {
                found(docker.inspect_image(&devbox.image).await)
            }),
            connection.call("info", ASK, |docker| async move { docker.info().await }),
        )?;
        Ok(Host { image: image.is_some(), runtimes: info.runtimes.unwrap_or_default().into_keys().collect() })
    }

    async fn surroundings(&self, devbox: &Blueprint) -> Result<Surroundings, Error> {
        let list = |docker: bollard::Docker| async move { docker.list_networks(None).await };
        let (networks, home, docker, containers) = tokio::try_join!(
            self.connection.call("list networks", ASK, list),
            self.volume(&devbox.names.home),
            self.volume(&devbox.names.docker),
            self.list(&devbox.instance),
        )?;
        let routes = routed()
            .map_err(|fault| Error::Refused { call: "read the host's routes", message: fault.to_string() })?;
        Ok(Surroundings {
            subnets: networks.iter().flat_map(read::subnets).chain(routes).collect(),
            network: read::network(networks, &devbox.names.network),
            home,
            docker,
            owners: containers
                .into_iter()
                .filter_map(|container| read::owner(container, &devbox.instance))
                .collect(),
        })
    }

    async fn perform(&self, devbox: &Blueprint, change: &Change) -> Result<(), Error> {
        let connection = &self.connection;
        let names = &devbox.names;
        match change {
            Change::CreateNetwork { subnet } => {
                let network = create::network(devbox, *subnet);
                let create = |docker: bollard::Docker| async move { docker.create_network(network).await };
                connection.call("create network", CHANGE, create).await.map(drop)
            }
            Change::CreateVolume(volume) => {
                let volume = create::volume(devbox, volume.name(names));
                let create = |docker: bollard::Docker| async move { docker.create_volume(volume).await };
                connection.call("create volume", CHANGE, create).await.map(drop)
            }
            Change::CreateContainer => {
                let container = create::container(devbox, self.drop_sys_resource);
                let options = CreateContainerOptionsBuilder::new().name(&names.container).build();
                let create = |docker: bollard::Docker| async move {
                    docker.create_container(Some(options), container).await
                };
                connection.call("create container", CHANGE, create).await.map(drop)
            }
            Change::Attach => self.attach(names).await,
            Change::Start => {
                let start = |docker: bollard::Docker| async move {
                    docker.start_container(&names.container, None).await
                };
                connection.call("start container", CHANGE, start).await
            }
        }
    }

    async fn containers(&self, instance: &InstanceName) -> Result<Vec<Container>, Error> {
        let names = self.list(instance).await?.into_iter().filter_map(read::name);
        stream::iter(names)
            .map(|name| async move { self.inspect(&name, &name).await })
            .buffer_unordered(INSPECT_MAX)
            .try_filter_map(async |container| Ok(container))
            .try_collect()
            .await
    }

    async fn last_words(&self, names: &Names) -> Result<Vec<String>, Error> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(LAST_WORDS).build();
        let read = |docker: bollard::Docker| async move {
            docker.logs(&names.container, Some(options)).try_collect::<Vec<_>>().await
        };
        Ok(read::lines(self.connection.call("read logs", ASK, read).await?))
    }

    async fn ping(&self) -> Result<(), Error> {
        self.connection.call("ping", ASK, |docker| async move { docker.ping().await }).await.map(drop)
    }
}
