//! The key that signs the heads: made once per state folder, readable by its owner alone.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use ed25519_dalek::{SigningKey, VerifyingKey};

use crate::{error::StoreError, layout};

/// The signing key of this folder; made if the folder has none and `may_create`.
pub(crate) fn load(dir: &Path, may_create: bool) -> Result<SigningKey, StoreError> {
    let path = layout::key(dir);
    match fs::metadata(&path) {
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(StoreError::KeyExposed { path, mode });
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_create => return create(dir),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StoreError::KeyMissing(path)),
        Err(error) => return Err(StoreError::io("read", path)(error)),
    }
    let key = SigningKey::from_bytes(&read_hex(&path)?);
    let public = layout::public_key(dir);
    if may_create && !public.exists() {
        place(&public, &hex::encode(key.verifying_key().to_bytes()), 0o644)?;
    }
    Ok(key)
}

/// The public half, which is all that verifying needs.
pub(crate) fn load_public(dir: &Path) -> Result<VerifyingKey, StoreError> {
    let path = layout::public_key(dir);
    VerifyingKey::from_bytes(&read_hex(&path)?).map_err(|_| StoreError::BadKey(path))
}

fn create(dir: &Path) -> Result<SigningKey, StoreError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(StoreError::Random)?;
    place(&layout::key(dir), &hex::encode(seed), 0o600)?;
    load(dir, true)
}

/// Writes the key whole or not at all, and never over another: two first starts at once agree on one.
fn place(path: &Path, text: &str, mode: u32) -> Result<(), StoreError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(StoreError::Random)?;
    let draft = path.with_extension(format!("{}.new", hex::encode(random)));
    put(&draft, text, mode)?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft).map_err(StoreError::io("remove", draft))?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(StoreError::io("create", path)(error)),
        _ => layout::sync_folder_of(path),
    }
}

fn put(path: &Path, text: &str, mode: u32) -> Result<(), StoreError> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
        writeln!(file, "{text}")?;
        file.sync_all()
    };
    write().map_err(StoreError::io("write", path))
}

fn read_hex(path: &Path) -> Result<[u8; 32], StoreError> {
    let text = fs::read_to_string(path).map_err(StoreError::io("read", path))?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| StoreError::BadKey(path.to_path_buf()))?;
    Ok(bytes)
}
