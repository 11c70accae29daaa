//! The Docker engine. This file and those below it are the only ones that name bollard.
//!
//! Every call is bounded in time. The engine may be down when the provisioner starts and may come and go: the
//! API version is agreed on at the first call that reaches it, and again after it was away.

mod capabilities;
mod connection;
mod create;
mod disk;
mod mover;
mod read;
mod report;
mod run;

use std::pin::pin;
use std::time::Duration;

use bollard::models::{NetworkConnectRequest, NetworkDisconnectRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
    ListVolumesOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
    RemoveVolumeOptions, RenameContainerOptionsBuilder, StatsOptionsBuilder, StopContainerOptionsBuilder,
};
use boxgate_config::{DevBoxId, InstanceName, ProvisionerConfig};
use boxgate_provisioner_api::Usage;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tracing::warn;

use super::{Backend, Change, Container, Disk, Error, Host, Image, Inventory, Program, Ran, Surroundings};
use crate::blueprint::Blueprint;
use crate::claims::{self, Claims};
use crate::network::host::routed;
use crate::objects::{self, Names};
use connection::{Connection, found};
pub use report::{Cgroup, EngineReport, ImageReport, NetworkReport};

/// For a question, where a change may take longer: dockerd answers within milliseconds unless the host is in distress.
const ASK_MAX: Duration = Duration::from_secs(10);
/// Inspections at once when all boxes are listed.
const INSPECT_MAX: usize = 16;
/// How long a box may take to shut itself down before it is killed, where a change may take twice as long.
const STOP_MAX: Duration = Duration::from_secs(30);

/// Boxes as containers of the Docker engine behind a Unix socket.
#[derive(Debug)]
pub struct Docker {
    connection: Connection,
    /// For a question.
    ask: Duration,
    /// For a change: a start runs mounts, iptables and the runtime, and a host may be busy.
    change: Duration,
    /// Whether containers must do without `CAP_SYS_RESOURCE`, because this host does.
    drop_sys_resource: bool,
}

impl Docker {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(config: &ProvisionerConfig) -> Self {
        let change = config.docker_timeout;
        Self {
            connection: Connection::new(config.docker_socket.clone(), change),
            ask: change.min(ASK_MAX),
            change,
            drop_sys_resource: !capabilities::has_sys_resource(),
        }
    }

    /// In the whole seconds that the engine counts in, at least one.
    fn stop_seconds(&self) -> i32 {
        let seconds = (self.change / 2).min(STOP_MAX).as_secs().max(1);
        i32::try_from(seconds).unwrap_or(i32::MAX)
    }

    async fn list(&self, instance: &InstanceName) -> Result<Vec<bollard::models::ContainerSummary>, Error> {
        let ours = [("label".to_owned(), vec![format!("{}={instance}", objects::INSTANCE)])].into();
        let options = ListContainersOptionsBuilder::new().all(true).filters(&ours).build();
        self.connection
            .call(
                "list containers",
                self.ask,
                |docker| async move { docker.list_containers(Some(options)).await },
            )
            .await
    }

    async fn inspect(&self, name: &str, network: &str) -> Result<Option<Container>, Error> {
        let inspected = self
            .connection
            .call("inspect container", self.ask, |docker| async move {
                found(docker.inspect_container(name, None).await)
            })
            .await?;
        Ok(inspected.map(|inspected| read::container(inspected, name, network)))
    }

    async fn volume(&self, name: &str) -> Result<Option<objects::Labels>, Error> {
        let volume = self
            .connection
            .call(
                "inspect volume",
                self.ask,
                |docker| async move { found(docker.inspect_volume(name).await) },
            )
            .await?;
        Ok(volume.map(|volume| volume.labels))
    }

    async fn volumes(&self, instance: &InstanceName) -> Result<Vec<bollard::models::Volume>, Error> {
        let ours = [("label".to_owned(), vec![format!("{}={instance}", objects::INSTANCE)])].into();
        let options = ListVolumesOptionsBuilder::new().filters(&ours).build();
        let list = |docker: bollard::Docker| async move { docker.list_volumes(Some(options)).await };
        Ok(self.connection.call("list volumes", self.ask, list).await?.volumes.unwrap_or_default())
    }

    async fn containers(&self, instance: &InstanceName) -> Result<Vec<Container>, Error> {
        let listed = self.list(instance).await?;
        let names = listed.iter().filter_map(read::name);
        stream::iter(names)
            .map(|name| async move { self.inspect(&name, &name).await })
            .buffer_unordered(INSPECT_MAX)
            .try_filter_map(async |container| Ok(container))
            .try_collect()
            .await
    }

    async fn create_volume(&self, devbox: &Blueprint, name: &str) -> Result<(), Error> {
        let ask = |limited| {
            let volume = create::volume(devbox, name, limited);
            let create = |docker: bollard::Docker| async move { docker.create_volume(volume).await };
            self.connection.call("create volume", self.change, create)
        };
        match ask(true).await {
            // moby's volume/local says so of a file system without project quotas.
            Err(Error::Refused { message, .. })
                if message.contains("quota") && devbox.limits.disk.is_some() =>
            {
                warn!("box.disk cannot limit {name}: {message}");
                ask(false).await.map(drop)
            }
            created => created.map(drop),
        }
    }

    /// An engine gives whoever asks for a volume the one that is there: then it says who came first.
    async fn claim(&self, devbox: &Blueprint, spare: &DevBoxId) -> Result<(), Error> {
        const CALL: &str = "create claim";
        let claim = create::claim(devbox, spare);
        let create = |docker: bollard::Docker| async move { docker.create_volume(claim).await };
        let made = self.connection.call(CALL, self.change, create).await?;
        match claims::claimed(&made.labels) {
            Some(claimed) if claimed == *spare && devbox.owns(&made.labels) => Ok(()),
            _ => Err(Error::Conflict { call: CALL, message: format!("{} is another claim", made.name) }),
        }
    }

    async fn adopt(&self, devbox: &Blueprint) -> Result<(), Error> {
        let Some(spare) = &devbox.spare else { return Ok(()) };
        let former = Names::of(&devbox.instance, spare).container;
        let options = RenameContainerOptionsBuilder::new().name(&devbox.names.container).build();
        let rename = |docker: bollard::Docker| async move { docker.rename_container(&former, options).await };
        self.connection.call("rename container", self.change, rename).await
    }

    /// What is gone already is no failure.
    async fn remove_container(&self, name: &str) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::new().force(true).build();
        let remove = |docker: bollard::Docker| async move {
            found(docker.remove_container(name, Some(options)).await)
        };
        self.connection.call("remove container", self.change, remove).await.map(drop)
    }

    async fn remove_volume(&self, name: &str) -> Result<(), Error> {
        let remove = |docker: bollard::Docker| async move {
            found(docker.remove_volume(name, None::<RemoveVolumeOptions>).await)
        };
        self.connection.call("remove volume", self.change, remove).await.map(drop)
    }

    async fn remove_network(&self, name: &str) -> Result<(), Error> {
        let remove = |docker: bollard::Docker| async move { found(docker.remove_network(name).await) };
        self.connection.call("remove network", self.change, remove).await.map(drop)
    }

    async fn attach(&self, names: &Names) -> Result<(), Error> {
        // What the container is attached to may be a network that is gone: only its name is left of it.
        let detach = NetworkDisconnectRequest { container: names.container.clone(), force: Some(true) };
        let attach = NetworkConnectRequest { container: names.container.clone(), endpoint_config: None };
        let network = &names.network;
        let detached = self
            .connection
            .call("detach network", self.change, |docker| async move {
                docker.disconnect_network(network, detach).await
            })
            .await;
        if let Err(Error::Unreachable(_) | Error::NoAnswer { .. } | Error::TimedOut { .. }) = detached {
            return detached;
        }
        self.connection
            .call("attach network", self.change, |docker| async move {
                docker.connect_network(network, attach).await
            })
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
            connection.call("inspect image", self.ask, |docker| async move {
                found(docker.inspect_image(&devbox.image).await)
            }),
            connection.call("info", self.ask, |docker| async move { docker.info().await }),
        )?;
        Ok(Host {
            image_id: image.and_then(|image| image.id),
            runtimes: info.runtimes.unwrap_or_default().into_keys().collect(),
            memory: info.mem_total.and_then(|bytes| bytes.try_into().ok()).unwrap_or_default(),
        })
    }

    async fn surroundings(&self, devbox: &Blueprint) -> Result<Surroundings, Error> {
        let list = |docker: bollard::Docker| async move { docker.list_networks(None).await };
        let (networks, home, docker, containers, volumes) = tokio::try_join!(
            self.connection.call("list networks", self.ask, list),
            self.volume(&devbox.names.home),
            self.volume(&devbox.names.docker),
            self.list(&devbox.instance),
            self.volumes(&devbox.instance),
        )?;
        let routes = routed()
            .map_err(|fault| Error::Refused { call: "read the host's routes", message: fault.to_string() })?;
        let subnets = networks.iter().flat_map(read::subnets).chain(routes).collect();
        let claim = volumes.iter().find(|volume| volume.name == devbox.names.claim);
        let restoring = volumes.iter().find(|volume| volume.name == devbox.names.restoring);
        let mut networks = read::networks(networks, &devbox.names.network, &devbox.labels).into_iter();
        Ok(Surroundings {
            subnets,
            network: networks.next(),
            surplus: networks.map(|network| network.id).collect(),
            home,
            docker,
            claim: claim.map(|volume| volume.labels.clone()),
            restoring: restoring.map(|volume| volume.labels.clone()),
            unadopted: read::is_unadopted(&containers, devbox),
            boxes: read::residents(containers, &volumes, &devbox.instance),
        })
    }

    async fn perform(&self, devbox: &Blueprint, change: &Change) -> Result<(), Error> {
        let connection = &self.connection;
        let names = &devbox.names;
        match change {
            Change::CreateNetwork { subnet } => {
                let network = create::network(devbox, *subnet);
                let create = |docker: bollard::Docker| async move { docker.create_network(network).await };
                connection.call("create network", self.change, create).await.map(drop)
            }
            Change::CreateVolume(volume) => self.create_volume(devbox, volume.name(names)).await,
            Change::CreateContainer => {
                let container = create::container(devbox, self.drop_sys_resource);
                let options = CreateContainerOptionsBuilder::new().name(&names.container).build();
                let create = |docker: bollard::Docker| async move {
                    docker.create_container(Some(options), container).await
                };
                connection.call("create container", self.change, create).await.map(drop)
            }
            Change::Claim { spare } => self.claim(devbox, spare).await,
            Change::Adopt => self.adopt(devbox).await,
            Change::BeginRestore => {
                let mark = create::restoring(devbox);
                let create = |docker: bollard::Docker| async move { docker.create_volume(mark).await };
                connection.call("create volume", self.change, create).await.map(drop)
            }
            Change::EndRestore => self.remove_volume(&names.restoring).await,
            Change::RemoveSurplus { network } => self.remove_network(network).await,
            Change::Attach => self.attach(names).await,
            Change::Start => {
                let start = |docker: bollard::Docker| async move {
                    docker.start_container(&names.container, None).await
                };
                connection.call("start container", self.change, start).await
            }
            Change::Limit => {
                let limits = create::limits(devbox);
                let update = |docker: bollard::Docker| async move {
                    docker.update_container(&names.container, limits).await
                };
                connection.call("update container", self.change, update).await
            }
            Change::Stop => {
                let options = StopContainerOptionsBuilder::new().t(self.stop_seconds()).build();
                let stop = |docker: bollard::Docker| async move {
                    found(docker.stop_container(&names.container, Some(options)).await)
                };
                connection.call("stop container", self.change, stop).await.map(drop)
            }
            Change::RemoveContainer => self.remove_container(&names.container).await,
            Change::RemoveVolume(volume) => self.remove_volume(volume.name(names)).await,
            Change::RemoveNetwork => self.remove_network(&names.network).await,
            Change::RemoveClaim => self.remove_volume(&names.claim).await,
        }
    }

    async fn claims(&self, instance: &InstanceName) -> Result<Claims, Error> {
        Ok(read::claims(&self.volumes(instance).await?, instance))
    }

    async fn inventory(&self, instance: &InstanceName) -> Result<Inventory, Error> {
        let list = |docker: bollard::Docker| async move { docker.list_networks(None).await };
        let (containers, networks, volumes) = tokio::try_join!(
            self.containers(instance),
            self.connection.call("list networks", self.ask, list),
            self.volumes(instance),
        )?;
        let ours = |labels: &objects::Labels| {
            labels.get(objects::INSTANCE).is_some_and(|of| *of == instance.as_str())
        };
        let network = |network: bollard::models::Network| Some((network.name?, network.labels?));
        let networks = networks.into_iter().filter_map(network).filter(|(_, labels)| ours(labels)).collect();
        let volumes = volumes.into_iter().map(|volume| (volume.name, volume.labels)).collect();
        Ok(Inventory { containers, networks, volumes })
    }

    async fn usage(&self, names: &Names) -> Result<Option<Usage>, Error> {
        // Two samples, a second apart.
        let options = StatsOptionsBuilder::new().stream(false).build();
        let name = &names.container;
        let ask = |docker: bollard::Docker| async move {
            found(docker.stats(name, Some(options)).try_next().await)
        };
        let stats = self.connection.call("container stats", self.ask, ask).await?;
        Ok(stats.flatten().map(read::usage))
    }

    async fn disk(&self) -> Result<Disk, Error> {
        disk::measure(self.connection.socket()).await
    }

    async fn nameless_images(&self) -> Result<Vec<Image>, Error> {
        let filters = [
            ("label".to_owned(), vec![objects::RECIPE.to_owned()]),
            ("dangling".to_owned(), vec!["true".to_owned()]),
        ];
        let images = ListImagesOptionsBuilder::new().filters(&filters.into()).build();
        let containers = ListContainersOptionsBuilder::new().all(true).build();
        let list_images = |docker: bollard::Docker| async move { docker.list_images(Some(images)).await };
        let list_containers =
            |docker: bollard::Docker| async move { docker.list_containers(Some(containers)).await };
        let (images, containers) = tokio::try_join!(
            self.connection.call("list images", self.ask, list_images),
            self.connection.call("list containers", self.ask, list_containers),
        )?;
        Ok(read::nameless(images, &containers))
    }

    /// Not by force: the engine refuses when a container or another image was made from it after all.
    async fn remove_image(&self, id: &str) -> Result<(), Error> {
        let options = RemoveImageOptionsBuilder::new().force(false).noprune(true).build();
        let remove = |docker: bollard::Docker| async move {
            found(docker.remove_image(id, Some(options), None).await)
        };
        self.connection.call("remove image", self.change, remove).await.map(drop)
    }

    async fn console(
        &self,
        names: &Names,
        lines: u32,
        follow: bool,
        into: mpsc::Sender<String>,
    ) -> Result<(), Error> {
        let tail = lines.to_string();
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&tail).follow(follow).build();
        let read = |docker: bollard::Docker| async move {
            let mut output = pin!(docker.logs(&names.container, Some(options)));
            let mut console = read::Console::default();
            while let Some(chunk) = output.try_next().await? {
                for line in console.push(chunk) {
                    if into.send(line).await.is_err() {
                        return Ok(());
                    }
                }
            }
            for line in console.finish() {
                drop(into.send(line).await);
            }
            Ok(())
        };
        // What is followed has pauses of any length.
        let after = if follow { Duration::MAX } else { self.change };
        self.connection.call("read logs", after, read).await
    }

    async fn run(&self, names: &Names, program: &Program<'_>) -> Result<Option<Ran>, Error> {
        self.run_in(&names.container, program).await
    }

    async fn pack(&self, devbox: &Blueprint, into: mpsc::Sender<Bytes>) -> Result<(), Error> {
        self.pack_into(devbox, into).await
    }

    async fn unpack(&self, devbox: &Blueprint, from: mpsc::Receiver<Bytes>) -> Result<(), Error> {
        self.unpack_from(devbox, from).await
    }

    async fn end_move(&self, names: &Names) -> Result<(), Error> {
        self.remove_container(&names.mover).await
    }

    async fn moves(&self, instance: &InstanceName) -> Result<Vec<DevBoxId>, Error> {
        self.movers(instance).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.connection.call("ping", self.ask, |docker| async move { docker.ping().await }).await.map(drop)
    }
}
