//! A container engine in memory, for tests: the rules that the provisioner relies on, and faults on demand.

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use boxgate_config::InstanceName;
use ipnet::Ipv4Net;
use tokio::time::{Instant, sleep};

use super::{Backend, Change, Container, Error, Host, Network, State, Surroundings};
use crate::blueprint::Blueprint;
use crate::objects::{self, Labels, Names};

/// The engine. Each call takes [`Fake::CALL`] of the paused clock's time.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    world: Arc<Mutex<World>>,
}

/// All that the engine holds, for tests to set and compare.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct World {
    pub(crate) images: HashSet<String>,
    pub(crate) runtimes: HashSet<String>,
    pub(crate) networks: BTreeMap<String, (Network, Ipv4Net)>,
    pub(crate) volumes: BTreeMap<String, Labels>,
    pub(crate) containers: BTreeMap<String, Container>,
    pub(crate) boot: Boot,
    /// Changes made so far, in order.
    pub(crate) changes: Vec<Change>,
    /// The engine stops answering after this many changes; `Some(0)` is an engine that is down.
    pub(crate) changes_left: Option<usize>,
    /// Whether the change at which the engine stops is made all the same.
    pub(crate) last_change_counts: bool,
    /// Calls so far, changes and questions.
    pub(crate) calls: usize,
    /// Containers that were booting at once, at most.
    pub(crate) most_booting: usize,
    ids: u32,
    started_at: BTreeMap<Ipv4Addr, Instant>,
}

/// What becomes of a container that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Boot {
    /// Its sshd answers after a second.
    #[default]
    Answers,
    /// Its sshd never answers.
    Hangs,
    /// It ends at once.
    Ends,
    /// No container is at fault: the provisioner panics at its next call.
    Panics,
}

impl Fake {
    /// How long each call takes.
    pub(crate) const CALL: Duration = Duration::from_millis(5);
    /// From start to sshd's answer.
    pub(crate) const BOOT: Duration = Duration::from_secs(1);

    /// An engine with the image and the runtimes and nothing else.
    pub(crate) fn new() -> Self {
        let images = ["boxgate/box:latest".to_owned()].into();
        let runtimes = ["runc", "sysbox-runc"].map(str::to_owned).into();
        Self { world: Arc::new(Mutex::new(World { images, runtimes, ..World::default() })) }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    async fn call(&self) -> Result<(), Error> {
        sleep(Self::CALL).await;
        self.world().calls += 1;
        assert!(self.world().boot != Boot::Panics, "a fault in the provisioner");
        if self.world().changes_left == Some(0) { Err(unreachable()) } else { Ok(()) }
    }
}

fn unreachable() -> Error {
    Error::Unreachable("connection refused".to_owned())
}

fn refused(call: &'static str, message: &str) -> Error {
    Error::Refused { call, message: message.to_owned() }
}

impl World {
    fn change(&mut self, devbox: &Blueprint, change: &Change) -> Result<(), Error> {
        match self.changes_left.as_mut() {
            Some(1) if !self.last_change_counts => {
                self.changes_left = Some(0);
                return Err(unreachable());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.make(devbox, change)?;
        self.changes.push(change.clone());
        if self.changes_left == Some(0) { Err(unreachable()) } else { Ok(()) }
    }

    fn make(&mut self, devbox: &Blueprint, change: &Change) -> Result<(), Error> {
        let names = &devbox.names;
        match change {
            Change::CreateNetwork { subnet } => self.create_network(devbox, *subnet),
            Change::CreateVolume(volume) => {
                // An engine gives whoever asks for a volume the one that is there.
                self.volumes.entry(volume.name(names).to_owned()).or_insert_with(|| devbox.labels.clone());
                Ok(())
            }
            Change::CreateContainer => self.create_container(devbox),
            Change::Attach => {
                let (network, _) =
                    self.networks.get(&names.network).ok_or(refused("attach", "no network"))?;
                let id = network.id.clone();
                let on_network = self.address(&names.network)?;
                let container = self.containers.get_mut(&names.container).ok_or(refused("attach", "none"))?;
                container.network = Some(id);
                if let State::Running { address, .. } = &mut container.state {
                    *address = Some(on_network);
                    self.started_at.insert(on_network, Instant::now());
                }
                Ok(())
            }
            Change::Start => self.start(names),
        }
    }

    fn create_network(&mut self, devbox: &Blueprint, subnet: Ipv4Net) -> Result<(), Error> {
        let name = &devbox.names.network;
        if self.networks.contains_key(name) || self.networks.values().any(|(_, used)| *used == subnet) {
            return Err(Error::Conflict { call: "create network", message: "pool overlaps".to_owned() });
        }
        let network = Network { id: self.id("n"), labels: devbox.labels.clone() };
        self.networks.insert(name.clone(), (network, subnet));
        Ok(())
    }

    fn create_container(&mut self, devbox: &Blueprint) -> Result<(), Error> {
        let names = &devbox.names;
        if self.containers.contains_key(&names.container) {
            return Err(Error::Conflict { call: "create container", message: "name in use".to_owned() });
        }
        assert!(self.volumes.contains_key(&names.home) && self.volumes.contains_key(&names.docker));
        let container = Container {
            name: names.container.clone(),
            id: self.id("c"),
            labels: devbox.labels.clone(),
            image: devbox.image.clone(),
            runtime: devbox.runtime.docker_name().to_owned(),
            state: State::Created,
            network: Some(String::new()),
        };
        self.containers.insert(names.container.clone(), container);
        Ok(())
    }

    fn start(&mut self, names: &Names) -> Result<(), Error> {
        let address = self.address(&names.network)?;
        let since = self.id("boot ");
        let network = self.networks.get(&names.network).map(|(network, _)| network.id.clone());
        let container = self.containers.get_mut(&names.container).ok_or(refused("start", "no container"))?;
        if container.network.as_ref().is_some_and(|id| !id.is_empty() && Some(id) != network.as_ref()) {
            return Err(refused("start", "network not found"));
        }
        container.network = network;
        container.state = match self.boot {
            Boot::Ends => State::Stopped { since, exit_code: 1 },
            _ => State::Running { since, address: Some(address) },
        };
        self.started_at.insert(address, Instant::now());
        let booting = self.started_at.values().filter(|at| at.elapsed() < Fake::BOOT).count();
        self.most_booting = self.most_booting.max(booting);
        Ok(())
    }

    fn address(&self, network: &str) -> Result<Ipv4Addr, Error> {
        let (_, subnet) = self.networks.get(network).ok_or(refused("start", "network not found"))?;
        subnet.hosts().nth(1).ok_or(refused("start", "no address"))
    }

    fn id(&mut self, prefix: &str) -> String {
        self.ids += 1;
        format!("{prefix}{}", self.ids)
    }
}

impl Backend for Fake {
    async fn container(&self, names: &Names) -> Result<Option<Container>, Error> {
        self.call().await?;
        Ok(self.world().containers.get(&names.container).cloned())
    }

    async fn host(&self, devbox: &Blueprint) -> Result<Host, Error> {
        self.call().await?;
        let world = self.world();
        Ok(Host { image: world.images.contains(&devbox.image), runtimes: world.runtimes.clone() })
    }

    async fn surroundings(&self, devbox: &Blueprint) -> Result<Surroundings, Error> {
        self.call().await?;
        let world = self.world();
        let names = &devbox.names;
        let owner = |container: &Container| {
            objects::devbox_of(&container.labels, &devbox.instance).map(|id| id.owner.to_string())
        };
        Ok(Surroundings {
            network: world.networks.get(&names.network).map(|(network, _)| network.clone()),
            home: world.volumes.get(&names.home).cloned(),
            docker: world.volumes.get(&names.docker).cloned(),
            owners: world.containers.values().filter_map(owner).collect(),
            subnets: world.networks.values().map(|(_, subnet)| *subnet).collect(),
        })
    }

    async fn perform(&self, devbox: &Blueprint, change: &Change) -> Result<(), Error> {
        self.call().await?;
        self.world().change(devbox, change)
    }

    async fn containers(&self, instance: &InstanceName) -> Result<Vec<Container>, Error> {
        self.call().await?;
        let world = self.world();
        let ours = |container: &&Container| objects::devbox_of(&container.labels, instance).is_some();
        Ok(world.containers.values().filter(ours).cloned().collect())
    }

    async fn last_words(&self, _names: &Names) -> Result<Vec<String>, Error> {
        self.call().await?;
        Ok(vec!["booting".to_owned(), "init: nothing to run".to_owned()])
    }

    async fn ping(&self) -> Result<(), Error> {
        self.call().await
    }

    async fn answers(&self, address: SocketAddr) -> bool {
        sleep(Self::CALL).await;
        let world = self.world();
        let SocketAddr::V4(address) = address else { return false };
        let up = world.started_at.get(address.ip()).is_some_and(|at| at.elapsed() >= Self::BOOT);
        up && world.boot == Boot::Answers
    }
}
