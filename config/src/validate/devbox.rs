//! `[box]`, and the same settings where a group, a user or one of her boxes has them otherwise.

use std::time::Duration;

use bytesize::ByteSize;

use super::Check;
use crate::raw::{self, Field, Number};
use crate::{
    BoxLimits, BoxSettings, Cluster, Comfort, DestinationError, DevBoxConfig, Dotfiles, DotfilesUrl, Egress,
    IdleStop, Locale, Overrides, RegistryMirror, RegistryMirrorError, Runtime, TimeZone,
};

/// Below this neither systemd nor an inner Docker engine starts.
const MEMORY_MIN: ByteSize = ByteSize::mib(256);
/// Below this a home cannot hold an IDE's server.
const DISK_MIN: ByteSize = ByteSize::gib(1);
/// A night: what somebody left running in the evening is there in the morning.
const IDLE_STOP: Duration = Duration::from_secs(12 * 3600);
/// The gateway says every two seconds which boxes are in use.
const IDLE_STOP_MIN: Duration = Duration::from_secs(5);
const PIDS_MIN: i64 = 4096;
const CPUS_MIN: f64 = 0.1;

pub(super) fn devbox(raw: &raw::DevBox, check: &mut Check<'_>) -> DevBoxConfig {
    let accepted = check.flag(
        "box.i_understand_boxes_are_root_on_this_host",
        raw.i_understand_boxes_are_root_on_this_host.as_ref(),
        false,
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
    let mut read = Reader { table: "box", check };
    let settings = BoxSettings {
        image: read.image(raw.image.as_ref()).unwrap_or_else(|| "boxgate/box:latest".to_owned()),
        limits: BoxLimits {
            cpus: read.cpus(raw.cpus.as_ref()).unwrap_or(2.0),
            memory: read.memory(raw.memory.as_ref()).unwrap_or(ByteSize::gib(4)),
            pids: read.pids(raw.pids.as_ref()).unwrap_or(16_384),
            disk: read.disk(raw.disk.as_ref()),
        },
        idle_stop: read.idle_stop(raw.idle_stop.as_ref()).unwrap_or(IdleStop::After(IDLE_STOP)),
        max_boxes: read.max_boxes(raw.max_boxes.as_ref()).unwrap_or(3),
        cluster: read.cluster(raw.cluster.as_ref()).unwrap_or(Cluster::OnDemand),
        comfort: Comfort {
            timezone: read.timezone(raw.timezone.as_ref()),
            locale: read.locale(raw.locale.as_ref()),
            dotfiles: read.dotfiles(raw.dotfiles.as_ref()),
            persist: read.persist(raw.persist.as_ref()).or(Some(false)),
        },
    };
    DevBoxConfig {
        runtime,
        new_on_login: check.flag("box.new_on_login", raw.new_on_login.as_ref(), true),
        settings,
        egress: egress(raw, check),
        registry_mirrors: registry_mirrors(raw, check),
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

fn registry_mirrors(raw: &raw::DevBox, check: &mut Check<'_>) -> Vec<RegistryMirror> {
    check.read(
        "box.registry_mirrors",
        raw.registry_mirrors.as_ref(),
        Vec::new(),
        "write URLs of a scheme, a host and perhaps a port, for example [\"https://mirror.example.org\"]",
        |items| {
            let parse = |item: &String| {
                RegistryMirror::parse(item).map_err(|fault: RegistryMirrorError| format!("{item:?} {fault}"))
            };
            items.iter().map(parse).collect()
        },
    )
}

/// What `table`, such as `users.alice.box`, has otherwise than `[box]`.
pub(super) fn overrides(table: &str, raw: &raw::Override, check: &mut Check<'_>) -> Overrides {
    let mut read = Reader { table, check };
    Overrides {
        image: read.image(raw.image.as_ref()),
        cpus: read.cpus(raw.cpus.as_ref()),
        memory: read.memory(raw.memory.as_ref()),
        pids: read.pids(raw.pids.as_ref()),
        disk: read.disk(raw.disk.as_ref()),
        idle_stop: read.idle_stop(raw.idle_stop.as_ref()),
        max_boxes: read.max_boxes(raw.max_boxes.as_ref()),
        cluster: read.cluster(raw.cluster.as_ref()),
        comfort: Comfort {
            timezone: read.timezone(raw.timezone.as_ref()),
            locale: read.locale(raw.locale.as_ref()),
            dotfiles: read.dotfiles(raw.dotfiles.as_ref()),
            persist: read.persist(raw.persist.as_ref()),
        },
    }
}

/// Reads settings of one table: none where one is not set, or is at fault.
struct Reader<'a, 'b> {
    table: &'a str,
    check: &'a mut Check<'b>,
}

impl Reader<'_, '_> {
    fn read<T: Clone, U>(
        &mut self,
        name: &str,
        field: Option<&Field<T>>,
        remedy: &str,
        parse: impl FnOnce(T) -> Result<U, String>,
    ) -> Option<U> {
        let setting = format!("{}.{name}", self.table);
        self.check.read(&setting, field, None, remedy, |value| parse(value).map(Some))
    }

    fn image(&mut self, field: Option<&Field<String>>) -> Option<String> {
        let remedy = "write the name of a local Docker image, for example \"boxgate/box:latest\"";
        self.read("image", field, remedy, |image| {
            if image.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(image) }
        })
    }

    fn cpus(&mut self, field: Option<&Field<Number>>) -> Option<f64> {
        let remedy = "write a number of cores of at least 0.1, for example 2 or 1.5";
        self.read("cpus", field, remedy, |number| match number.as_f64() {
            cpus if cpus.is_finite() && cpus >= CPUS_MIN => Ok(cpus),
            cpus => Err(format!("{cpus} is too few")),
        })
    }

    fn memory(&mut self, field: Option<&Field<String>>) -> Option<ByteSize> {
        let remedy = "write a size with its unit, at least \"256MiB\", for example \"4GiB\"";
        self.read("memory", field, remedy, |text| size(&text, MEMORY_MIN, "to boot a box"))
    }

    fn disk(&mut self, field: Option<&Field<String>>) -> Option<ByteSize> {
        let remedy = "write a size with its unit, at least \"1GiB\", for example \"50GiB\"";
        self.read("disk", field, remedy, |text| size(&text, DISK_MIN, "for a home"))
    }

    fn pids(&mut self, field: Option<&Field<i64>>) -> Option<i64> {
        let remedy = "write a whole number of at least 4096: systemd, Docker and an IDE need them";
        self.read("pids", field, remedy, |pids| {
            if pids >= PIDS_MIN { Ok(pids) } else { Err(format!("{pids} is too few")) }
        })
    }

    fn idle_stop(&mut self, field: Option<&Field<String>>) -> Option<IdleStop> {
        let remedy = "write a time of at least 5s with its unit, for example \"12h\", or \"never\"";
        self.read("idle_stop", field, remedy, |text| match humantime::parse_duration(&text) {
            _ if text == "never" => Ok(IdleStop::Never),
            Ok(duration) if duration >= IDLE_STOP_MIN => Ok(IdleStop::After(duration)),
            Ok(_) => Err(format!("{text} is too short")),
            Err(fault) => Err(format!("{text:?} is not a time: {fault}")),
        })
    }

    fn max_boxes(&mut self, field: Option<&Field<i64>>) -> Option<usize> {
        let remedy = "write a whole number of at least 1, for example 3";
        self.read("max_boxes", field, remedy, |number| match usize::try_from(number) {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(format!("{number} is out of range")),
        })
    }

    fn cluster(&mut self, field: Option<&Field<String>>) -> Option<Cluster> {
        const ALL: [Cluster; 3] = [Cluster::OnFirstLogin, Cluster::OnDemand, Cluster::Never];
        let remedy = "write \"on-first-login\", \"on-demand\" or \"never\"";
        self.read("cluster", field, remedy, |text| {
            let found = ALL.into_iter().find(|cluster| cluster.name() == text);
            found.ok_or_else(|| format!("{text:?} is no time to make a cluster"))
        })
    }

    fn timezone(&mut self, field: Option<&Field<String>>) -> Option<TimeZone> {
        let remedy = "write a name of the IANA time zone database, for example \"Europe/Berlin\" or \"UTC\"";
        self.read("timezone", field, remedy, |text| {
            TimeZone::parse(&text).map_err(|fault| format!("{text:?} {fault}"))
        })
    }

    fn locale(&mut self, field: Option<&Field<String>>) -> Option<Locale> {
        let remedy = "write a locale with UTF-8, for example \"de_DE.UTF-8\" or \"C.UTF-8\"";
        self.read("locale", field, remedy, |text| {
            Locale::parse(&text).map_err(|fault| format!("{text:?} {fault}"))
        })
    }

    fn dotfiles(&mut self, field: Option<&Field<String>>) -> Option<Dotfiles> {
        let remedy = "write the URL of a git repository, for example \"https://git.example.org/dotfiles.git\", \
                      \"file:///DIRECTORY\" for one in the box image, or \"none\"";
        self.read("dotfiles", field, remedy, |text| match DotfilesUrl::parse(&text) {
            _ if text == "none" => Ok(Dotfiles::None),
            Ok(url) => Ok(Dotfiles::From(url)),
            Err(fault) => Err(format!("{text:?} {fault}")),
        })
    }

    fn persist(&mut self, field: Option<&Field<bool>>) -> Option<bool> {
        self.read("persist", field, "write true or false", Ok)
    }
}

fn size(text: &str, least: ByteSize, too_little_for: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>() {
        Ok(size) if size >= least => Ok(size),
        Ok(size) => Err(format!("{size} is too little {too_little_for}")),
        Err(_) => Err(format!("{text:?} is not a size")),
    }
}
