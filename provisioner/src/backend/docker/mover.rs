//! Packs a box's two volumes into a tar stream, and unpacks such a stream into them.
//!
//! GNU tar does both, in a container that has the two volumes and nothing else: no network, a root directory that cannot be written, and only
//! the capabilities that files of any kind take. So the provisioner needs no access to where Docker keeps volumes, and an archive that was made
//! by an enemy gets at nothing but the box that is made of it. The container is made from the box's image, whose tar knows what
//! the image's Docker writes, and by runc whatever the box's runtime: owners are to be what they are on the disk.
//!
//! The engine's attach carries the stream. It logs nothing of it, and tar waits when nobody takes or gives any. When the provisioner
//! is killed tar comes to its end by itself, and the container stays until the next [`end_move`](crate::backend::Backend::end_move).

use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error as Fault;
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, ListContainersOptionsBuilder,
    WaitContainerOptionsBuilder,
};
use boxgate_config::{DevBoxId, InstanceName};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Docker;
use crate::backend::Error;
use crate::blueprint::Blueprint;
use crate::failure::one_line;
use crate::objects::{DEVBOX, MOVER};

/// What tar is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    Pack,
    Unpack,
}

/// How long tar may be silent: it may have to seek through a file of terabytes that holds nothing, and at the end the disk
/// gets to write what it was only told.
const SILENCE: Duration = Duration::from_secs(30 * 60);
/// Most bytes of tar's complaints that are kept; its first ones say what went wrong.
const COMPLAINTS_MAX: usize = 4096;
/// tar remembers the names of files that have several; millions of them fit.
const MEMORY: i64 = 1 << 30;
const PIDS: i64 = 16;
/// Where the volumes are in the container, and what is before their names in the archive: nothing.
const HOME: &str = "/boxgate/home";
const DOCKER: &str = "/boxgate/docker";

/// Everything that a file can be: owners by number, extended attributes (overlayfs keeps its own in `trusted.`), ACLs, holes. Sockets are left
/// out, as they are nothing without their listener.
const PACK: &str = "exec tar --create --file=- --directory=/boxgate --format=posix --blocking-factor=128 \
    --numeric-owner --xattrs '--xattrs-include=*' --acls --sparse home docker";
/// No member but of the two trees, and what they hold is on the disk before anyone is told.
const UNPACK: &str = "tar --extract --file=- --directory=/boxgate --numeric-owner --same-owner --same-permissions \
    --xattrs '--xattrs-include=*' --acls --delay-directory-restore home docker \
    && exec sync --file-system /boxgate/home /boxgate/docker";

impl Errand {
    fn command(self) -> &'static str {
        match self {
            Self::Pack => PACK,
            Self::Unpack => UNPACK,
        }
    }

    /// `SYS_ADMIN` is for attributes in `trusted.`, which nobody else may see; the rest is for files of others.
    fn capabilities(self) -> &'static [&'static str] {
        match self {
            Self::Pack => &["DAC_READ_SEARCH", "SYS_ADMIN"],
            Self::Unpack => &["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP", "SYS_ADMIN"],
        }
    }
}

fn container(devbox: &Blueprint, errand: Errand) -> ContainerCreateBody {
    let list = |items: &[&str]| Some(items.iter().map(|item| (*item).to_owned()).collect());
    let unpacks = errand == Errand::Unpack;
    let volume = |name: &str, target: &str| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.to_owned()),
        target: Some(target.to_owned()),
        read_only: Some(!unpacks),
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            labels: Some(devbox.labels.clone()),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    };
    ContainerCreateBody {
        image: Some(devbox.image.clone()),
        entrypoint: list(&["/bin/sh", "-c", errand.command()]),
        user: Some("0:0".to_owned()),
        labels: Some(
            [(MOVER, devbox.instance.to_string()), (DEVBOX, devbox.id.to_string())]
                .map(|(label, value)| (label.to_owned(), value))
                .into(),
        ),
        attach_stdin: Some(unpacks),
        open_stdin: Some(unpacks),
        stdin_once: Some(unpacks),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        network_disabled: Some(true),
        host_config: Some(HostConfig {
            runtime: Some("runc".to_owned()),
            // An engine that renumbers users by itself would do so here, and not in the box.
            userns_mode: Some("host".to_owned()),
            network_mode: Some("none".to_owned()),
            readonly_rootfs: Some(true),
            cap_drop: list(&["ALL"]),
            cap_add: list(errand.capabilities()),
            security_opt: list(&["no-new-privileges"]),
            mounts: Some(vec![volume(&devbox.names.home, HOME), volume(&devbox.names.docker, DOCKER)]),
            memory: Some(MEMORY),
            memory_swap: Some(MEMORY),
            pids_limit: Some(PIDS),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// What tar says on its standard error, as far as it is kept.
#[derive(Debug, Default)]
struct Complaints {
    text: Vec<u8>,
}

impl Complaints {
    fn push(&mut self, piece: &[u8]) {
        let room = COMPLAINTS_MAX - self.text.len();
        self.text.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn told(&self) -> String {
        one_line(&String::from_utf8_lossy(&self.text))
    }
}

impl Docker {
    /// Sends what is in the volumes to `into`.
    pub(super) async fn pack_into(&self, devbox: &Blueprint, into: mpsc::Sender<Bytes>) -> Result<(), Error> {
        let AttachContainerResults { mut output, .. } = self.begin(devbox, Errand::Pack).await?;
        let mut complaints = Complaints::default();
        while let Some(piece) = listen(&mut output).await? {
            match piece {
                // Whoever wants no more ends tar with its container.
                LogOutput::StdOut { message } => drop(into.send(message).await),
                LogOutput::StdErr { message } => complaints.push(&message),
                _ => {}
            }
        }
        self.await_end(devbox, &complaints).await
    }

    /// Fills the volumes with what comes from `from`.
    pub(super) async fn unpack_from(
        &self,
        devbox: &Blueprint,
        mut from: mpsc::Receiver<Bytes>,
    ) -> Result<(), Error> {
        let AttachContainerResults { mut output, mut input } = self.begin(devbox, Errand::Unpack).await?;
        let mut complaints = Complaints::default();
        let write = async {
            while let Some(piece) = from.recv().await {
                // A tar that reads no more has said why.
                if input.write_all(&piece).await.is_err() {
                    return;
                }
            }
            drop(input.shutdown().await);
        };
        let listen = async {
            while let Some(piece) = output.next().await.transpose().map_err(|fault| broken(&fault))? {
                if let LogOutput::StdErr { message } = piece {
                    complaints.push(&message);
                }
            }
            Ok(())
        };
        tokio::pin!(listen);
        tokio::select! {
            heard = &mut listen => heard?,
            // From here on tar has all that it gets.
            () = write => match timeout(SILENCE, listen).await {
                Ok(heard) => heard?,
                Err(_) => return Err(Error::TimedOut { call: TAR, after: SILENCE }),
            },
        }
        self.await_end(devbox, &complaints).await
    }

    /// Starts the container, and is connected to it from its first byte on.
    async fn begin(&self, devbox: &Blueprint, errand: Errand) -> Result<AttachContainerResults, Error> {
        let name = &devbox.names.mover;
        let body = container(devbox, errand);
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let create =
            |docker: bollard::Docker| async move { docker.create_container(Some(options), body).await };
        self.connection.call("create container for tar", self.change, create).await?;
        let unpacks = errand == Errand::Unpack;
        let options = AttachContainerOptionsBuilder::new()
            .stream(true)
            .stdin(unpacks)
            .stdout(true)
            .stderr(true)
            .build();
        let attach =
            |docker: bollard::Docker| async move { docker.attach_container(name, Some(options)).await };
        let attached = self.connection.call("attach to tar", self.change, attach).await?;
        let start = |docker: bollard::Docker| async move { docker.start_container(name, None).await };
        self.connection.call("start tar", self.change, start).await?;
        Ok(attached)
    }

    async fn await_end(&self, devbox: &Blueprint, complaints: &Complaints) -> Result<(), Error> {
        let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
        let wait = |docker: bollard::Docker| async move {
            match docker.wait_container(&devbox.names.mover, Some(options)).try_next().await {
                Ok(ended) => Ok(ended.map_or(-1, |ended| ended.status_code)),
                Err(Fault::DockerContainerWaitError { code, .. }) => Ok(code),
                Err(fault) => Err(fault),
            }
        };
        match self.connection.call("wait for tar", self.change, wait).await? {
            0 => Ok(()),
            exit_code => Err(Error::Tar { exit_code, said: complaints.told() }),
        }
    }

    /// The boxes that have such a container.
    pub(super) async fn movers(&self, instance: &InstanceName) -> Result<Vec<DevBoxId>, Error> {
        let ours = [("label".to_owned(), vec![format!("{MOVER}={instance}")])].into();
        let options = ListContainersOptionsBuilder::new().all(true).filters(&ours).build();
        let list = |docker: bollard::Docker| async move { docker.list_containers(Some(options)).await };
        let found = self.connection.call("list containers", self.ask, list).await?;
        let of = |found: bollard::models::ContainerSummary| DevBoxId::parse(found.labels?.get(DEVBOX)?).ok();
        Ok(found.into_iter().filter_map(of).collect())
    }
}

const TAR: &str = "tar";

type Output = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<LogOutput, Fault>> + Send>>;

async fn listen(output: &mut Output) -> Result<Option<LogOutput>, Error> {
    let heard = timeout(SILENCE, output.try_next()).await;
    heard.map_err(|_| Error::TimedOut { call: TAR, after: SILENCE })?.map_err(|fault| broken(&fault))
}

fn broken(fault: &Fault) -> Error {
    Error::NoAnswer { call: TAR, cause: fault.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, id};

    #[test]
    fn it_has_the_two_volumes_and_little_else() {
        let devbox = Blueprint::new(&testing::config(), id("alice"));
        for errand in [Errand::Pack, Errand::Unpack] {
            let body = container(&devbox, errand);
            let host = body.host_config.unwrap();
            assert_eq!((host.network_mode.as_deref(), host.readonly_rootfs), (Some("none"), Some(true)));
            assert_eq!((host.privileged, host.binds, host.devices), (None, None, None));
            assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
            let mounts = host.mounts.unwrap();
            let sources: Vec<_> = mounts.iter().filter_map(|mount| mount.source.as_deref()).collect();
            assert_eq!(sources, ["boxgate.alice.home", "boxgate.alice.docker"]);
            let read_only = mounts.iter().all(|mount| mount.read_only == Some(errand == Errand::Pack));
            assert!(read_only);
            // Nothing takes it for the box's own container.
            assert!(!devbox.owns(&body.labels.unwrap()));
        }
    }

    #[test]
    fn complaints_are_bounded() {
        let mut complaints = Complaints::default();
        for _ in 0..1000 {
            complaints.push(b"tar: no space left\n");
        }
        assert_eq!(complaints.text.len(), COMPLAINTS_MAX);
    }
}
