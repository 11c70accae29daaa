//! The two ends of a box's archive, and what is between them. Pure.
//!
//! ```text
//! boxgate.json            what it is of          head
//! home/… docker/…         GNU tar's, as it is    ─── passes through
//! boxgate-complete.json   that this was all      tail, always of one size
//! ```
//!
//! An archive is a tar stream that `tar` reads. Whoever reads it here keeps back its last [`TAIL`] bytes until it has ended: only then
//! is it known whether these are a tail. Nothing between the ends is looked at: GNU tar alone reads it, in a container
//! that has nothing but the two volumes.

use std::io::{self, Read};

use boxgate_config::DevBoxId;
use boxgate_provisioner_api::{ARCHIVE_FORMAT, Completion, Manifest};
use bytes::{Bytes, BytesMut};
use tar::{EntryType, Header};

use crate::blueprint::Blueprint;

const HEAD_NAME: &str = "boxgate.json";
const TAIL_NAME: &str = "boxgate-complete.json";
/// What tar counts in.
const BLOCK: usize = 512;
/// Bytes of a tail: a header, and a block for a [`Completion`], which is less.
pub const TAIL: usize = 2 * BLOCK;
/// Most bytes of a manifest: a dozen short texts.
const MANIFEST_MAX: usize = 16 * 1024;

/// Why something is no archive, or not one for this box.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("this is no archive of a box: it does not begin with {HEAD_NAME}")]
    NoHead,
    #[error("the archive's {HEAD_NAME} cannot be read: {0}")]
    Garbled(String),
    #[error("the archive is of format {0}, and this version reads format {ARCHIVE_FORMAT}")]
    Format(u32),
    #[error("the archive ends before its {TAIL_NAME}: it was cut short")]
    CutShort,
    #[error("the archive lacks {missing} bytes or has that many too many")]
    WrongSize { missing: u64 },
    #[error(
        "the archive holds the home of {user} (uid {uid}), and the box would be {wanted}'s (uid {wanted_uid})"
    )]
    OfAnother { user: String, uid: u32, wanted: String, wanted_uid: u32 },
}

/// What an archive of this box begins with.
#[must_use]
pub fn head(devbox: &Blueprint, made_at: String) -> Bytes {
    let manifest = Manifest {
        format: ARCHIVE_FORMAT,
        devbox: devbox.id.clone(),
        user: devbox.user.name.clone(),
        uid: devbox.user.uid,
        image: devbox.image.clone(),
        instance: devbox.instance.to_string(),
        made_at,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    member(HEAD_NAME, &manifest)
}

/// What an archive ends with that has so many bytes after its head.
#[must_use]
pub fn tail(bytes: u64) -> Bytes {
    member(TAIL_NAME, &Completion { bytes })
}

fn member(name: &str, content: &impl serde::Serialize) -> Bytes {
    // Plain data of ours is always JSON.
    let content = serde_json::to_vec(content).unwrap_or_default();
    let mut header = Header::new_ustar();
    let named = header.set_path(name);
    debug_assert!(named.is_ok(), "{name} is short");
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut member = BytesMut::with_capacity(BLOCK + content.len().next_multiple_of(BLOCK));
    member.extend_from_slice(header.as_bytes());
    member.extend_from_slice(&content);
    member.resize(BLOCK + content.len().next_multiple_of(BLOCK), 0);
    member.freeze()
}

/// The size of the content of the member that this block begins, if it has this name.
fn size_of(block: &[u8; BLOCK], name: &str) -> Option<usize> {
    let header = Header::from_byte_slice(block);
    let sound = header.path_bytes().as_ref() == name.as_bytes() && header.entry_type() == EntryType::Regular;
    let mut again = header.clone();
    again.set_cksum();
    let size = header.entry_size().ok().and_then(|size| usize::try_from(size).ok());
    size.filter(|_| sound && header.cksum().ok() == again.cksum().ok())
}

fn manifest(content: &[u8]) -> Result<Manifest, Unfit> {
    // The version first: another one's may have other fields.
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    let garbled = |fault: serde_json::Error| Unfit::Garbled(fault.to_string());
    let Version { format } = serde_json::from_slice(content).map_err(garbled)?;
    if format != ARCHIVE_FORMAT {
        return Err(Unfit::Format(format));
    }
    serde_json::from_slice(content).map_err(garbled)
}

/// Whether this box can be made of an archive: whoever's home it is stays its owner.
///
/// # Errors
/// [`Unfit::OfAnother`]
pub fn fits(manifest: &Manifest, devbox: &Blueprint) -> Result<(), Unfit> {
    let wanted = &devbox.user;
    if (&manifest.user, manifest.uid) == (&wanted.name, wanted.uid) {
        return Ok(());
    }
    Err(Unfit::OfAnother {
        user: manifest.user.clone(),
        uid: manifest.uid,
        wanted: wanted.name.clone(),
        wanted_uid: wanted.uid,
    })
}

/// Whose box an archive would be under this name.
#[must_use]
pub fn is_hers(manifest: &Manifest, id: &DevBoxId) -> bool {
    manifest.user == id.owner.as_str()
}

/// An archive in pieces → its manifest, what is between its ends, and whether it is whole.
#[derive(Debug, Default)]
pub struct Reader {
    pending: BytesMut,
    manifest: Option<Manifest>,
    /// Bytes after the head that were given out.
    passed: u64,
}

impl Reader {
    pub fn push(&mut self, piece: &[u8]) {
        self.pending.extend_from_slice(piece);
    }

    /// The manifest, as soon as all of it has come.
    ///
    /// # Errors
    /// Why this is no archive.
    pub fn manifest(&mut self) -> Result<Option<&Manifest>, Unfit> {
        if self.manifest.is_none() {
            let Some(block) = self.pending.first_chunk::<BLOCK>() else { return Ok(None) };
            let size = size_of(block, HEAD_NAME).filter(|size| *size <= MANIFEST_MAX).ok_or(Unfit::NoHead)?;
            let end = BLOCK + size.next_multiple_of(BLOCK);
            if self.pending.len() < end {
                return Ok(None);
            }
            self.manifest = Some(manifest(&self.pending[BLOCK..BLOCK + size])?);
            drop(self.pending.split_to(end));
        }
        Ok(self.manifest.as_ref())
    }

    /// What has come of what is between the ends. Nothing before the manifest was read.
    pub fn take(&mut self) -> Bytes {
        let whole = if self.manifest.is_some() { self.pending.len().saturating_sub(TAIL) } else { 0 };
        self.passed += whole as u64;
        self.pending.split_to(whole).freeze()
    }

    /// Whether what has come, now that no more comes, was all of it.
    ///
    /// # Errors
    /// Why not.
    pub fn finish(&self) -> Result<(), Unfit> {
        let (header, content) = self.pending.split_first_chunk::<BLOCK>().ok_or(Unfit::CutShort)?;
        let size = size_of(header, TAIL_NAME).filter(|size| *size <= content.len()).ok_or(Unfit::CutShort)?;
        let Completion { bytes } =
            serde_json::from_slice(&content[..size]).map_err(|fault| Unfit::Garbled(fault.to_string()))?;
        match bytes.abs_diff(self.passed) {
            0 => Ok(()),
            missing => Err(Unfit::WrongSize { missing }),
        }
    }
}

/// Reads no more than the head of an archive. Returns the manifest, and the bytes that it was read from.
///
/// # Errors
/// [`Unfit`] as the innermost cause of an error of kind `InvalidData` when it is none.
pub fn read_head(from: &mut impl Read) -> io::Result<(Manifest, Bytes)> {
    let unfit = |unfit| io::Error::new(io::ErrorKind::InvalidData, unfit);
    let mut head = BytesMut::zeroed(BLOCK);
    let read = from.read_exact(&mut head);
    read.map_err(
        |fault| if fault.kind() == io::ErrorKind::UnexpectedEof { unfit(Unfit::NoHead) } else { fault },
    )?;
    let block = head.first_chunk::<BLOCK>();
    let size = block.and_then(|block| size_of(block, HEAD_NAME)).filter(|size| *size <= MANIFEST_MAX);
    let size = size.ok_or_else(|| unfit(Unfit::NoHead))?;
    head.resize(BLOCK + size.next_multiple_of(BLOCK), 0);
    from.read_exact(&mut head[BLOCK..])?;
    let manifest = manifest(&head[BLOCK..BLOCK + size]).map_err(unfit)?;
    Ok((manifest, head.freeze()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::testing::{self, id};

    fn blueprint(of: &str) -> Blueprint {
        Blueprint::new(&testing::config(), id(of))
    }

    fn archive(content: &[u8]) -> Vec<u8> {
        let head = head(&blueprint("alice"), "2026-01-01T00:00:00Z".to_owned());
        [&head[..], content, &tail(content.len() as u64)].concat()
    }

    /// What comes out of it, if it is whole.
    fn read(archive: &[u8], piece: usize) -> Result<Vec<u8>, Unfit> {
        let (mut reader, mut content) = (Reader::default(), Vec::new());
        for piece in archive.chunks(piece) {
            reader.push(piece);
            reader.manifest()?;
            content.extend_from_slice(&reader.take());
        }
        reader.finish().map(|()| content)
    }

    #[test]
    fn an_archive_tells_whose_it_is() {
        let archive = archive(b"");
        let (manifest, head) = read_head(&mut &archive[..]).unwrap();
        assert_eq!((manifest.devbox.to_string().as_str(), manifest.uid), ("alice", 1000));
        assert_eq!(head[..], archive[..head.len()]);
        assert_eq!(fits(&manifest, &blueprint("alice+web")), Ok(()));
        assert!(matches!(fits(&manifest, &blueprint("bob")), Err(Unfit::OfAnother { .. })));
    }

    #[test]
    fn tar_reads_it() {
        let archive = archive(&[0; 10240]);
        let mut names = Vec::new();
        let mut reader = tar::Archive::new(&archive[..]);
        reader.set_ignore_zeros(true);
        for entry in reader.entries().unwrap() {
            names.push(entry.unwrap().path().unwrap().display().to_string());
        }
        assert_eq!(names, [HEAD_NAME, TAIL_NAME]);
    }

    #[rstest]
    #[case::nothing(b"")]
    #[case::text(b"hello")]
    #[case::zeros(&[0; 4096])]
    fn what_is_no_archive(#[case] bytes: &[u8]) {
        assert!(read(bytes, 512).is_err());
        let refused = read_head(&mut &bytes[..]).unwrap_err();
        assert_eq!(refused.into_inner().unwrap().downcast::<Unfit>().unwrap(), Box::new(Unfit::NoHead));
    }

    #[test]
    fn another_versions() {
        let mut other = archive(b"");
        let at = other.windows(10).position(|window| window == b"\"format\":1").unwrap();
        other[at + 9] = b'2';
        assert_eq!(read(&other, 512), Err(Unfit::Format(2)));
        assert_eq!(
            Unfit::Format(2).to_string(),
            "the archive is of format 2, and this version reads format 1"
        );
    }

    #[test]
    fn a_tail_that_counts_otherwise() {
        let mut archive = archive(&[7; 1024]);
        let tail = archive.len() - TAIL;
        archive.drain(tail - 512..tail);
        assert_eq!(read(&archive, 512), Err(Unfit::WrongSize { missing: 512 }));
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out_however_it_arrives(
            content in proptest::collection::vec(any::<u8>(), 0..5000),
            piece in 1_usize..3000,
        ) {
            prop_assert_eq!(read(&archive(&content), piece), Ok(content));
        }

        #[test]
        fn what_is_cut_short_anywhere_is_told(
            content in proptest::collection::vec(any::<u8>(), 0..3000),
            cut in 1_usize..5000,
            piece in 1_usize..3000,
        ) {
            let archive = archive(&content);
            let cut = cut.min(archive.len());
            prop_assert!(read(&archive[..archive.len() - cut], piece).is_err());
        }

        #[test]
        fn nonsense_is_no_archive(bytes in proptest::collection::vec(any::<u8>(), 0..3000), piece in 1_usize..600) {
            prop_assert!(read(&bytes, piece).is_err());
        }
    }
}
