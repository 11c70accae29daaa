//! Shapes as written → types as used. Every setting is looked at, whatever the others were.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::Ipv4Net;

use crate::raw::{self, Field, Number, line_of};
use crate::{
    BoxLimits, Config, DestinationError, DevBoxConfig, Egress, Fault, FirewallSwitch, InstanceName,
    ProvisionerConfig, Runtime,
};

mod gateway;
mod users;

/// Below this neither systemd nor an inner Docker engine starts.
const MEMORY_MIN: ByteSize = ByteSize::mib(256);
const PIDS_MIN: i64 = 4096;
/// Prefix length of one box's network: a gateway address, the box, and room for its own bridges.
const BOX_PREFIX: u8 = 28;

/// Each spare connection is two processes of the box's sshd.
const MAX_SPARES: usize = 16;

/// Where a fault is reported while settings are read.
struct Check<'a> {
    text: &'a str,
    faults: &'a mut Vec<Fault>,
}

impl Check<'_> {
    fn fault(&mut self, line: usize, setting: &str, problem: impl Display, remedy: impl Display) {
        self.faults.push(Fault {
            line,
            setting: setting.to_owned(),
            problem: problem.to_string(),
            remedy: remedy.to_string(),
        });
    }

    fn line<T>(&self, field: &Field<T>) -> usize {
        line_of(self.text, field.span.start)
    }

    /// The setting's value after `parse`, its default when it is not set. A fault leaves the default too: no
    /// [`Config`] is made then, but reading goes on and finds the next fault.
    fn read<T: Clone, U>(
        &mut self,
        setting: &str,
        field: Option<&Field<T>>,
        default: U,
        remedy: &str,
        parse: impl FnOnce(T) -> Result<U, String>,
    ) -> U {
        let Some(field) = field else { return default };
        match field.value.clone().and_then(parse) {
            Ok(value) => value,
            Err(problem) => {
                self.fault(self.line(field), setting, problem, remedy);
                default
            }
        }
    }

    fn path(&mut self, setting: &str, field: Option<&Field<String>>, default: &str) -> PathBuf {
        let remedy = format!("write an absolute path, for example \"{default}\"");
        self.read(setting, field, PathBuf::from(default), &remedy, |path| {
            let path = PathBuf::from(path);
            if path.is_absolute() {
                Ok(path)
            } else {
                Err(format!("{} is not an absolute path", path.display()))
            }
        })
    }

    fn optional_path(
        &mut self,
        setting: &str,
        field: Option<&Field<String>>,
        example: &str,
    ) -> Option<PathBuf> {
        field.map(|field| self.path(setting, Some(field), example))
    }

    fn duration(&mut self, setting: &str, field: Option<&Field<String>>, default: Duration) -> Duration {
        let remedy = "write a time of at least one second with its unit, for example \"60s\" or \"2m\"";
        self.read(setting, field, default, remedy, |text| match humantime::parse_duration(&text) {
            Ok(duration) if duration >= Duration::from_secs(1) => Ok(duration),
            Ok(_) => Err(format!("{text} is too short")),
            Err(fault) => Err(format!("{text:?} is not a time: {fault}")),
        })
    }

    fn count(&mut self, setting: &str, field: Option<&Field<i64>>, default: usize) -> usize {
        let remedy = format!("write a whole number of at least 1, for example {default}");
        self.read(setting, field, default, &remedy, |number| match usize::try_from(number) {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(format!("{number} is out of range")),
        })
    }

    fn spares(&mut self, setting: &str, field: Option<&Field<i64>>) -> usize {
        let remedy = format!("write a whole number from 0 to {MAX_SPARES}, for example 1");
        self.read(setting, field, 1, &remedy, |number| match usize::try_from(number) {
            Ok(count @ 0..=MAX_SPARES) => Ok(count),
            _ => Err(format!("{number} is out of range")),
        })
    }

    fn flag(&mut self, setting: &str, field: Option<&Field<bool>>) -> bool {
        self.read(setting, field, false, "write true or false", Ok)
    }
}

/// `None` never happens without a fault, but a fault may leave `Some`: the caller looks at both.
pub(crate) fn validate(file: &raw::File, text: &str, faults: &mut Vec<Fault>) -> Option<Config> {
    let mut check = Check { text, faults };
    let gateway = gateway::gateway(&file.gateway, &mut check);
    let provisioner = provisioner(&file.provisioner, &mut check)?;
    let devbox = devbox(&file.devbox, &mut check);
    let users = users::users(&file.users, !gateway.user_ca_keys.is_empty(), &mut check);
    Some(Config { gateway, provisioner, devbox, users })
}

fn provisioner(raw: &raw::Provisioner, check: &mut Check<'_>) -> Option<ProvisionerConfig> {
    let instance = check.read(
        "provisioner.instance",
        raw.instance.as_ref(),
        InstanceName::parse("boxgate").ok(),
        "write a short name of a-z, 0-9, '-' and '_', for example \"boxgate\"",
        |name| InstanceName::parse(&name).map(Some).map_err(|fault| format!("{name:?} {fault}")),
    );
    let gateway_user = check.read(
        "provisioner.gateway_user",
        raw.gateway_user.as_ref(),
        "boxgate".to_owned(),
        "write the name or the number of the Unix user that runs the gateway, for example \"boxgate\"",
        |user| if user.is_empty() { Err("is empty".to_owned()) } else { Ok(user) },
    );
    let network_pool = network_pool(raw, check)?;
    Some(ProvisionerConfig {
        instance: instance?,
        socket: check.path("provisioner.socket", raw.socket.as_ref(), "/run/boxgate/provisioner.sock"),
        gateway_user,
        state_dir: check.path(
            "provisioner.state_dir",
            raw.state_dir.as_ref(),
            "/var/lib/boxgate/provisioner",
        ),
        docker_socket: check.path(
            "provisioner.docker_socket",
            raw.docker_socket.as_ref(),
            "/var/run/docker.sock",
        ),
        network_pool,
        firewall: firewall(raw, check),
    })
}

fn firewall(raw: &raw::Provisioner, check: &mut Check<'_>) -> FirewallSwitch {
    check.read(
        "provisioner.firewall",
        raw.firewall.as_ref(),
        FirewallSwitch::On,
        "write \"on\", or \"off\" where something else keeps boxes from each other and from this host",
        |switch| match switch.as_str() {
            "on" => Ok(FirewallSwitch::On),
            "off" => Ok(FirewallSwitch::Off),
            other => Err(format!("is neither on nor off but {other:?}")),
        },
    )
}

fn network_pool(raw: &raw::Provisioner, check: &mut Check<'_>) -> Option<Ipv4Net> {
    check.read(
        "provisioner.network_pool",
        raw.network_pool.as_ref(),
        "10.201.0.0/16".parse().ok(),
        "write a private IPv4 range of at least a /28 that nothing else uses, for example \"10.201.0.0/16\"",
        |text| {
            let net: Ipv4Net = text.parse().map_err(|_| format!("{text:?} is not an IPv4 range"))?;
            if !net.addr().is_private() {
                return Err(format!("{net} is not a private range (RFC 1918)"));
            }
            if net.prefix_len() > BOX_PREFIX {
                return Err(format!("{net} is smaller than one box's network"));
            }
            Ok(Some(net.trunc()))
        },
    )
}

fn devbox(raw: &raw::DevBox, check: &mut Check<'_>) -> DevBoxConfig {
    let image = check.read(
        "box.image",
        raw.image.as_ref(),
        "boxgate/box:latest".to_owned(),
        "write the name of a local Docker image, for example \"boxgate/box:latest\"",
        |image| if image.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(image) },
    );
    let accepted = check.flag(
        "box.i_understand_boxes_are_root_on_this_host",
        raw.i_understand_boxes_are_root_on_this_host.as_ref(),
    );
    let runtime = check.read(
        "box.runtime",
        raw.runtime.as_ref(),
        Runtime::Sysbox,
        "write \"sysbox\", or \"runc\" for a trial without isolation",
        |name| match name.as_str() {
            "sysbox" | "sysbox-runc" => Ok(Runtime::Sysbox),
            "runc" => Ok(Runtime::Runc { boxes_are_root_on_this_host: accepted }),
            other => Err(format!("{other:?} is not a runtime that boxes can use")),
        },
    );
    DevBoxConfig {
        image,
        runtime,
        limits: limits(raw, check),
        egress: egress(raw, check),
        boot_timeout: check.duration("box.boot_timeout", raw.boot_timeout.as_ref(), Duration::from_secs(60)),
        shell: check.path("box.shell", raw.shell.as_ref(), "/bin/bash"),
    }
}

fn egress(raw: &raw::DevBox, check: &mut Check<'_>) -> Egress {
    check.read(
        "box.egress",
        raw.egress.as_ref(),
        Egress::Open,
        "write IPv4 networks or addresses, with a port or without, for example [\"203.0.113.0/24\", \
         \"198.51.100.7:443\"]; without this setting boxes may connect to anywhere",
        |items| {
            let parsed: Result<Vec<_>, DestinationError> = items.iter().map(|item| item.parse()).collect();
            parsed.map(Egress::Only).map_err(|fault| fault.to_string())
        },
    )
}

fn limits(raw: &raw::DevBox, check: &mut Check<'_>) -> BoxLimits {
    let cpus = check.read(
        "box.cpus",
        raw.cpus.as_ref(),
        2.0,
        "write a number of cores of at least 0.1, for example 2 or 1.5",
        |number| {
            let cpus = match number {
                Number::Integer(cores) => f64::from(cores),
                Number::Float(cores) => cores,
            };
            if cpus.is_finite() && cpus >= 0.1 { Ok(cpus) } else { Err(format!("{cpus} is too few")) }
        },
    );
    let memory = check.read(
        "box.memory",
        raw.memory.as_ref(),
        ByteSize::gib(4),
        "write a size with its unit, at least \"256MiB\", for example \"4GiB\"",
        |text| match text.parse::<ByteSize>() {
            Ok(size) if size >= MEMORY_MIN => Ok(size),
            Ok(size) => Err(format!("{size} is too little to boot a box")),
            Err(_) => Err(format!("{text:?} is not a size")),
        },
    );
    let pids = check.read(
        "box.pids",
        raw.pids.as_ref(),
        16_384,
        "write a whole number of at least 4096: systemd, Docker and an IDE need them",
        |pids| if pids >= PIDS_MIN { Ok(pids) } else { Err(format!("{pids} is too few")) },
    );
    BoxLimits { cpus, memory, pids }
}
