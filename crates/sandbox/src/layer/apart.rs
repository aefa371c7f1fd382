//! Keeps versions in conflict beside the workspace, in a folder of their own. What a diff names is a folder or a file there and
//! never a link, so that no name of it leads out.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use homarus_contract::sandbox::Entry;
use rustix::{
    fs::{FileType, Mode, mkdirat},
    io::Errno,
};

use super::{
    beneath::{Place, Root, inside, step},
    entry,
};

/// Keeps what a call wanted at `path`, and answers where; a link is kept as a text that says where it led. `content`: opens the
/// file of the layer. Where the layer is gone already, what an earlier merge kept is found.
pub fn keep(folder: &Path, path: &str, new: &Entry, content: impl FnOnce() -> io::Result<File>) -> io::Result<String> {
    let Some(named) = inside(folder, path).filter(|_| *new != Entry::Absent) else {
        // Nothing is kept of a removal, not even its folder: that may be a file in the call's version.
        return Ok(String::new());
    };
    fs::create_dir_all(folder).inspect(|()| step())?;
    let root = Root::open(folder)?;
    for (at, _) in path.match_indices('/') {
        make_folder(&place(&root, &path[..at])?)?;
    }
    let place = place(&root, path)?;
    match new {
        Entry::Absent => {}
        Entry::Folder { .. } => make_folder(&place)?,
        Entry::Symlink { target } => {
            let mut file = place.create()?;
            file.write_all(target.as_bytes()).inspect(|()| step())?;
            file.sync_all().inspect(|()| step())?;
        }
        Entry::File { .. } => match content() {
            Ok(mut from) => {
                let mut file = place.create()?;
                io::copy(&mut from, &mut file).inspect(|_| step())?;
                file.sync_all().inspect(|()| step())?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && place.stat()?.is_some() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
            Err(error) => return Err(error),
        },
    }
    sync(&root, folder, path)?;
    Ok(named.to_string_lossy().into_owned())
}

fn place(root: &Root, path: &str) -> io::Result<Place> {
    root.place(path)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotADirectory))
}

fn make_folder(place: &Place) -> io::Result<()> {
    match mkdirat(&place.folder, &place.name, Mode::from_raw_mode(0o777)) {
        Err(Errno::EXIST) => match place.stat()? {
            Some(stat) if entry::file_type(&stat) == FileType::Directory => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        },
        made => Ok(made.inspect(|()| step())?),
    }
}

/// The names on the way to a kept version: the layer, the only other copy, is removed after the merge.
fn sync(root: &Root, folder: &Path, path: &str) -> io::Result<()> {
    const RUN_AND_CONFLICTS: usize = 2;
    place(root, path)?.sync()?;
    for (at, _) in path.rmatch_indices('/') {
        place(root, &path[..at])?.sync()?;
    }
    let mut above = folder.ancestors().skip(1).take(RUN_AND_CONFLICTS);
    above.try_for_each(|above| File::open(above)?.sync_all().inspect(|()| step()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn none() -> io::Result<File> {
        Err(io::ErrorKind::NotFound.into())
    }

    #[test]
    fn a_link_is_kept_as_a_text_and_none_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, outside) = (dir.path().join("c/r/kept"), dir.path().join("outside"));
        fs::create_dir(&outside).unwrap();
        fs::write(dir.path().join("content"), "content").unwrap();
        let content = || File::open(dir.path().join("content"));
        let link = Entry::Symlink { target: outside.to_str().unwrap().to_owned() };
        let file = Entry::File { hash: homarus_contract::ids::Hash::ZERO, bytes: 7, mode: 0o644 };
        for _ in 0..2 {
            let at = keep(&kept, "sub/link", &link, none).unwrap();
            assert_eq!(fs::read_to_string(&at).unwrap(), outside.to_str().unwrap());
            assert!(fs::symlink_metadata(at).unwrap().is_file());
        }
        assert!(keep(&kept, "sub/link/x", &file, content).is_err());
        // One that stands there already, by whoever.
        symlink(&outside, kept.join("way-out")).unwrap();
        assert!(keep(&kept, "way-out/x", &file, content).is_err());
        assert_eq!(keep(&kept, "way-out", &file, content).unwrap(), kept.join("way-out").to_str().unwrap());
        assert_eq!(fs::read_to_string(kept.join("way-out")).unwrap(), "content");
        assert_eq!(keep(&kept, "way-out", &file, none).unwrap(), kept.join("way-out").to_str().unwrap());
        assert_eq!(keep(&kept, "../out", &file, content).unwrap(), "");
        assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
        assert!(!dir.path().join("c/r/out").exists());
    }
}
