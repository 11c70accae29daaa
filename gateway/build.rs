//! Refuses to build against a russh whose patches are not the ones in `patches/russh`.

use std::fs;
use std::path::Path;

fn main() {
    let patches = Path::new("../patches");
    println!("cargo::rerun-if-changed=../patches/russh");
    println!("cargo::rerun-if-changed=../patches/made-by-devhost-setup/stamp");
    let mut files: Vec<_> = fs::read_dir(patches.join("russh"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "patch"));
    files.sort();
    let wanted: Vec<u8> = files.iter().flat_map(|file| fs::read(file).unwrap_or_default()).collect();
    let applied = fs::read(patches.join("made-by-devhost-setup/stamp")).unwrap_or_default();
    if wanted != applied {
        println!("cargo::error=the patched russh is not the one in patches/russh: run ./devhost setup");
    }
}
