//! The last applied set on disk (tmpfs), from which a restarted proxy serves until meshd dials.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Holder;
use crate::config::frames::Update;

#[derive(Serialize)]
struct Written<'a> {
    update: u64,
    resources: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    update: u64,
    resources: Vec<Box<RawValue>>,
}

/// `<run-dir>/proxy/last.json`.
pub fn last_path(run_dir: &Path) -> PathBuf {
    run_dir.join("proxy").join("last.json")
}

/// Writes the set, private keys included: 0600, by an atomic rename, so that a reader never sees half a file.
pub fn save(run_dir: &Path, holder: &Holder) -> io::Result<()> {
    let path = last_path(run_dir);
    let directory = run_dir.join("proxy");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    let text = serde_json::to_vec(&Written { update: holder.update(), resources: holder.raws().collect() })?;
    let new = directory.join(format!("last.json.{}", std::process::id()));
    // A file left by a killed process with the same number may have other rights: start from none.
    if let Err(e) = fs::remove_file(&new)
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(e);
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, &path)
}

/// The saved set as a full update for `Holder::prepare`; `None`: nothing was saved.
pub fn restore(run_dir: &Path) -> io::Result<Option<Update>> {
    let text = match fs::read(last_path(run_dir)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let Read { update, resources } = serde_json::from_slice(&text)?;
    Ok(Some(Update { update, full: true, put: resources, delete: Vec::new() }))
}
