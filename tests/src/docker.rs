//! What Docker has of a place, and images made here: no registry is asked for anything.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::Value;

use crate::run::Run;

/// The client that came with the engine, when another one stands before it on PATH.
pub fn program() -> &'static str {
    if Path::new("/usr/bin/docker").exists() { "/usr/bin/docker" } else { "docker" }
}

/// Asks Docker, which must do as it is told.
#[track_caller]
pub fn docker<'a>(args: impl IntoIterator<Item = &'a str>) -> String {
    Run::new(program()).args(args).ok().text()
}

/// What `docker inspect` says of one object.
#[track_caller]
pub fn inspect(object: &str) -> Value {
    let mut found: Value = serde_json::from_str(&docker(["inspect", object])).unwrap();
    found[0].take()
}

/// The names of every object of an installation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    pub containers: Vec<String>,
    pub volumes: Vec<String>,
    pub networks: Vec<String>,
}

impl Objects {
    #[track_caller]
    pub fn of(instance: &str) -> Self {
        let ours = format!("label=io.boxgate.instance={instance}");
        let names = |kind: &[&str], field: &str| {
            let args = kind.iter().copied().chain(["--filter", &ours, "--format", field]);
            let mut names: Vec<_> = docker(args).lines().map(str::to_owned).collect();
            names.sort();
            names
        };
        Self {
            containers: names(&["ps", "--all"], "{{.Names}}"),
            volumes: names(&["volume", "ls"], "{{.Name}}"),
            networks: names(&["network", "ls"], "{{.Name}}"),
        }
    }
}

/// A root file system of nothing but busybox, as a tar file's bytes; with `script` as the entry point that
/// boxes have under runc.
#[track_caller]
pub fn busybox_root(script: Option<&str>) -> Vec<u8> {
    let root = tempfile::tempdir().unwrap();
    let bin = root.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::copy("/bin/busybox", bin.join("busybox"))
        .expect("/bin/busybox is needed: ./devhost test installs it, or apt-get install busybox-static");
    symlink("busybox", bin.join("sh")).unwrap();
    if let Some(script) = script {
        let init = root.path().join("usr/lib/boxgate/init-runc");
        fs::create_dir_all(init.parent().unwrap()).unwrap();
        fs::write(&init, script).unwrap();
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    }
    Run::new("tar").arg("-C").arg(root.path()).args(["-cf", "-", "."]).ok().stdout
}

/// An image that the keeper of `instance` removes: instead of booting, a box made from it runs `script`.
#[track_caller]
pub fn image_that_runs(script: &str, instance: &str, name: &str) -> String {
    let image = format!("{instance}/{name}:latest");
    let label = format!("LABEL io.boxgate.instance={instance}");
    let import = Run::new(program()).args(["import", "--change", &label, "-", &image]);
    import.input(busybox_root(Some(script))).ok();
    image
}
