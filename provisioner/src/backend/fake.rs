//! A container engine in memory, for tests: the rules that the provisioner relies on, and faults on demand.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use boxgate_config::{DevBoxId, InstanceName};
use boxgate_provisioner_api::Usage;
use bytes::Bytes;
use ipnet::Ipv4Net;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::{
    Backend, Change, Container, Disk, Error, Host, Image, Inventory, Network, Program, Ran, Resident, State,
    Surroundings,
};
use crate::blueprint::Blueprint;
use crate::claims::{self, Claims};
use crate::objects::{self, Labels, Names};

/// The engine. Each call takes [`Fake::CALL`] of the paused clock's time.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    world: Arc<Mutex<World>>,
}

/// All that the engine holds, for tests to set and compare.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct World {
    /// How often each image was built.
    pub(crate) images: BTreeMap<String, u32>,
    pub(crate) runtimes: HashSet<String>,
    /// Bytes.
    pub(crate) memory: u64,
    pub(crate) networks: BTreeMap<String, (Network, Ipv4Net)>,
    pub(crate) volumes: BTreeMap<String, Labels>,
    pub(crate) containers: BTreeMap<String, Container>,
    /// The names of volumes and networks that are in use, by the ids of containers.
    used: BTreeMap<String, [String; 3]>,
    /// Containers in which a program ran and succeeded, by their ids.
    pub(crate) ran_in: BTreeSet<String>,
    pub(crate) boot: Boot,
    /// Changes made so far, in order.
    pub(crate) changes: Vec<Change>,
    pub(crate) disk: Disk,
    /// How long measuring the disk takes.
    pub(crate) disk_takes: Duration,
    /// How often it was measured.
    pub(crate) measured: usize,
    pub(crate) nameless_images: Vec<String>,
    /// What is in the volumes of boxes, by the names of their homes.
    pub(crate) contents: BTreeMap<String, Vec<u8>>,
    /// Containers that pack or unpack, by their names, with the boxes that they are of.
    pub(crate) movers: BTreeMap<String, DevBoxId>,
    /// Why tar fails.
    pub(crate) tar_fails: Option<Error>,
    /// The engine stops answering after this many changes; `Some(0)` is an engine that is down.
    pub(crate) changes_left: Option<usize>,
    /// Whether the change at which the engine stops is made all the same.
    pub(crate) last_change_counts: bool,
    /// Calls so far, changes and questions.
    pub(crate) calls: usize,
    /// Containers that were booting at once, at most.
    pub(crate) most_booting: usize,
    /// What comes of programs that are run in containers.
    pub(crate) run: Ran,
    /// Whether spare boxes do not hear that they are somebody's.
    pub(crate) deaf: bool,
    ids: u32,
    started_at: BTreeMap<Ipv4Addr, Instant>,
}

enum Thing {
    Container(String),
    Network(String),
    Volume(String),
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
    /// Room for a thousand boxes, unless a test says otherwise.
    pub(crate) const MEMORY: u64 = 2048 * bytesize::GIB;
    /// From start to sshd's answer.
    pub(crate) const BOOT: Duration = Duration::from_secs(1);

    /// An engine with the image and the runtimes and nothing else.
    pub(crate) fn new() -> Self {
        let images = [("boxgate/box:latest".to_owned(), 1)].into();
        let runtimes = ["runc", "sysbox-runc"].map(str::to_owned).into();
        Self {
            world: Arc::new(Mutex::new(World { images, runtimes, memory: Self::MEMORY, ..World::default() })),
        }
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
            Change::RemoveSurplus { .. } => Err(refused("remove network", "no such network")),
            Change::CreateVolume(volume) => {
                // An engine gives whoever asks for a volume the one that is there.
                self.volumes.entry(volume.name(names).to_owned()).or_insert_with(|| devbox.labels.clone());
                Ok(())
            }
            Change::CreateContainer => self.create_container(devbox),
            Change::Claim { spare } => {
                let mut labels = devbox.labels.clone();
                labels.insert(objects::CLAIMS.to_owned(), spare.to_string());
                let made = self.volumes.entry(names.claim.clone()).or_insert(labels);
                match claims::claimed(made) {
                    Some(claimed) if claimed == *spare => Ok(()),
                    _ => Err(Error::Conflict { call: "create claim", message: "another claim".to_owned() }),
                }
            }
            Change::Adopt => {
                let former = self.former(devbox).ok_or(refused("rename", "no container"))?;
                let adopted = self.containers.remove(&former).ok_or(refused("rename", "no container"))?;
                let adopted = Container { name: names.container.clone(), ..adopted };
                self.containers.insert(names.container.clone(), adopted);
                Ok(())
            }
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
            Change::Limit => {
                self.container(names)?.limits = devbox.limits.into();
                Ok(())
            }
            Change::Stop => {
                let since = self.id("stop ");
                let container =
                    self.containers.get_mut(&names.container).ok_or(refused("stop", "no container"))?;
                if let State::Running { .. } = container.state {
                    container.state = State::Stopped { since, exit_code: 130 };
                }
                Ok(())
            }
            Change::RemoveContainer => self.discard(&Thing::Container(names.container.clone())),
            Change::RemoveVolume(volume) => self.discard(&Thing::Volume(volume.name(names).to_owned())),
            Change::RemoveNetwork => self.discard(&Thing::Network(names.network.clone())),
            Change::RemoveClaim => self.discard(&Thing::Volume(names.claim.clone())),
            Change::BeginRestore => {
                self.volumes.insert(names.restoring.clone(), devbox.labels.clone());
                Ok(())
            }
            Change::EndRestore => self.discard(&Thing::Volume(names.restoring.clone())),
        }
    }

    fn container(&mut self, names: &Names) -> Result<&mut Container, Error> {
        self.containers.get_mut(&names.container).ok_or(refused("update", "no container"))
    }

    /// The name that the container of the spare which the box lives in has, if it has not the box's own.
    fn former(&self, devbox: &Blueprint) -> Option<String> {
        let former = Names::of(&devbox.instance, devbox.spare.as_ref()?).container;
        self.containers.contains_key(&former).then_some(former)
    }

    /// As an engine does: what a container has cannot go, and what is gone is no fault.
    fn discard(&mut self, thing: &Thing) -> Result<(), Error> {
        let in_use = |name: &str| {
            let used = self.containers.values().filter_map(|container| self.used.get(&container.id));
            used.flatten().any(|used| used == name)
        };
        match thing {
            Thing::Container(name) => drop(self.containers.remove(name)),
            Thing::Volume(name) if in_use(name) => return Err(refused("remove volume", "volume is in use")),
            Thing::Volume(name) => {
                self.volumes.remove(name);
                self.contents.remove(name);
            }
            Thing::Network(name) if in_use(name) => {
                return Err(refused("remove network", "active endpoints"));
            }
            Thing::Network(name) => drop(self.networks.remove(name)),
        }
        Ok(())
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
            image_id: self.image_id(&devbox.image).unwrap_or_default(),
            limits: devbox.limits.into(),
            runtime: devbox.runtime.docker_name().to_owned(),
            state: State::Created,
            network: Some(String::new()),
        };
        let used = [&names.home, &names.docker, &names.network].map(String::clone);
        self.used.insert(container.id.clone(), used);
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

    fn claims(&self, instance: &InstanceName) -> Claims {
        Claims::among(self.volumes.iter().map(|(name, labels)| (name.as_str(), labels)), instance)
    }

    /// The same for as long as nobody builds the image anew.
    fn image_id(&self, image: &str) -> Option<String> {
        self.images.get(image).map(|built| format!("sha256:{image} {built}"))
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

impl Fake {
    /// Puts the container that moves a box's volumes there, which runs when the box does not.
    async fn begin_move(&self, devbox: &Blueprint) -> Result<(), Error> {
        self.call().await?;
        let mut world = self.world();
        let running = world.containers.get(&devbox.names.container);
        let running = running.is_some_and(|container| matches!(container.state, State::Running { .. }));
        assert!(!running, "the box's own programs write to its volumes");
        assert!(world.volumes.contains_key(&devbox.names.home), "the engine would make a volume");
        match world.movers.insert(devbox.names.mover.clone(), devbox.id.clone()) {
            None => Ok(()),
            Some(_) => Err(Error::Conflict { call: "create container", message: "name in use".to_owned() }),
        }
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
        let (image_id, runtimes) = (world.image_id(&devbox.image), world.runtimes.clone());
        Ok(Host { image_id, runtimes, memory: world.memory })
    }

    async fn surroundings(&self, devbox: &Blueprint) -> Result<Surroundings, Error> {
        self.call().await?;
        let world = self.world();
        let names = &devbox.names;
        let claims = world.claims(&devbox.instance);
        let homes = world.volumes.iter().filter_map(|(name, labels)| {
            let id = claims.devbox_of(labels, &devbox.instance)?;
            (*name == claims.names(&devbox.instance, &id).home).then_some(id)
        });
        let mut boxes: BTreeMap<_, _> = homes.map(|id| (id, (false, false))).collect();
        for container in world.containers.values() {
            if let Some(id) = claims.devbox_of(&container.labels, &devbox.instance) {
                boxes.insert(id, (true, matches!(container.state, State::Running { .. })));
            }
        }
        let resident = |(id, (has_container, running))| Resident { id, has_container, running };
        Ok(Surroundings {
            network: world.networks.get(&names.network).map(|(network, _)| network.clone()),
            surplus: Vec::new(),
            home: world.volumes.get(&names.home).cloned(),
            docker: world.volumes.get(&names.docker).cloned(),
            claim: world.volumes.get(&names.claim).cloned(),
            restoring: world.volumes.get(&names.restoring).cloned(),
            unadopted: world.former(devbox).is_some(),
            boxes: boxes.into_iter().map(resident).collect(),
            subnets: world.networks.values().map(|(_, subnet)| *subnet).collect(),
        })
    }

    async fn perform(&self, devbox: &Blueprint, change: &Change) -> Result<(), Error> {
        self.call().await?;
        self.world().change(devbox, change)
    }

    async fn claims(&self, instance: &InstanceName) -> Result<Claims, Error> {
        self.call().await?;
        Ok(self.world().claims(instance))
    }

    async fn inventory(&self, _instance: &InstanceName) -> Result<Inventory, Error> {
        self.call().await?;
        let world = self.world();
        Ok(Inventory {
            containers: world.containers.values().cloned().collect(),
            networks: world
                .networks
                .iter()
                .map(|(name, (of, _))| (name.clone(), of.labels.clone()))
                .collect(),
            volumes: world.volumes.iter().map(|(name, labels)| (name.clone(), labels.clone())).collect(),
        })
    }

    async fn usage(&self, names: &Names) -> Result<Option<Usage>, Error> {
        self.call().await?;
        let used = Usage { cpus: 0.5, memory_bytes: 60 << 20, pids: 30 };
        Ok(self.world().containers.contains_key(&names.container).then_some(used))
    }

    async fn disk(&self) -> Result<Disk, Error> {
        let takes = self.world().disk_takes;
        sleep(takes).await;
        self.call().await?;
        self.world().measured += 1;
        Ok(self.world().disk.clone())
    }

    async fn nameless_images(&self) -> Result<Vec<Image>, Error> {
        self.call().await?;
        let image = |id: &String| Image { id: id.clone(), bytes: 1 << 30 };
        Ok(self.world().nameless_images.iter().map(image).collect())
    }

    async fn remove_image(&self, id: &str) -> Result<(), Error> {
        self.call().await?;
        self.world().nameless_images.retain(|image| image != id);
        Ok(())
    }

    async fn console(
        &self,
        _names: &Names,
        _lines: u32,
        _follow: bool,
        into: mpsc::Sender<String>,
    ) -> Result<(), Error> {
        self.call().await?;
        for line in ["booting", "init: nothing to run"] {
            drop(into.send(line.to_owned()).await);
        }
        Ok(())
    }

    async fn run(&self, names: &Names, _program: &Program<'_>) -> Result<Option<Ran>, Error> {
        self.call().await?;
        let world = &mut *self.world();
        let container = world.containers.get(&names.container);
        let running = |container: &&Container| matches!(container.state, State::Running { .. });
        let Some(container) = container.filter(running) else { return Ok(None) };
        if world.run.exit_code == 0 {
            world.ran_in.insert(container.id.clone());
        }
        Ok(Some(world.run.clone()))
    }

    async fn pack(&self, devbox: &Blueprint, into: mpsc::Sender<Bytes>) -> Result<(), Error> {
        self.begin_move(devbox).await?;
        let content = self.world().contents.get(&devbox.names.home).cloned().unwrap_or_default();
        for piece in content.chunks(1000) {
            sleep(Self::CALL).await;
            drop(into.send(Bytes::copy_from_slice(piece)).await);
        }
        self.world().tar_fails.clone().map_or(Ok(()), Err)
    }

    async fn unpack(&self, devbox: &Blueprint, mut from: mpsc::Receiver<Bytes>) -> Result<(), Error> {
        self.begin_move(devbox).await?;
        while let Some(piece) = from.recv().await {
            let mut world = self.world();
            if let Some(error) = world.tar_fails.clone() {
                return Err(error);
            }
            world.contents.entry(devbox.names.home.clone()).or_default().extend_from_slice(&piece);
        }
        Ok(())
    }

    async fn end_move(&self, names: &Names) -> Result<(), Error> {
        self.call().await?;
        self.world().movers.remove(&names.mover);
        Ok(())
    }

    async fn moves(&self, _instance: &InstanceName) -> Result<Vec<DevBoxId>, Error> {
        self.call().await?;
        Ok(self.world().movers.values().cloned().collect())
    }

    async fn ping(&self) -> Result<(), Error> {
        self.call().await
    }

    async fn move_in(&self, address: Ipv4Addr) -> Option<Ran> {
        sleep(Self::CALL).await;
        let world = &mut *self.world();
        let is_there = |container: &&Container| match container.state {
            State::Running { address: at, .. } => at == Some(address),
            _ => false,
        };
        let container = world.containers.values().find(is_there).filter(|_| !world.deaf)?;
        if world.run.exit_code == 0 {
            world.ran_in.insert(container.id.clone());
        }
        Some(world.run.clone())
    }

    async fn answers(&self, address: SocketAddr) -> bool {
        sleep(Self::CALL).await;
        let world = self.world();
        let SocketAddr::V4(address) = address else { return false };
        let up = world.started_at.get(address.ip()).is_some_and(|at| at.elapsed() >= Self::BOOT);
        up && world.boot == Boot::Answers
    }
}
