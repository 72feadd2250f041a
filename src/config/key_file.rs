//! The file with the keys, read again when it changes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::parse;
use crate::crypto::Keyring;

/// Looks whether the file has changed, by its content: Kubernetes swaps a symlink in the path, and times tell nothing.
pub struct KeyFile {
    path: PathBuf,
    /// What was there the last time.
    seen: Seen,
}

#[derive(PartialEq, Eq)]
enum Seen {
    Nothing,
    Unreadable,
    /// Content with this digest.
    Content([u8; 32]),
}

impl KeyFile {
    /// A file of which nothing has been read yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: Seen::Nothing }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it now, if that is not what was there the last time.
    ///
    /// # Errors
    /// It cannot be read, or is no keyring; without any part of a key. Told once.
    pub fn changed(&mut self) -> Option<Result<Keyring, String>> {
        let read = fs::read_to_string(&self.path).map(Zeroizing::new);
        let now = read.as_ref().map_or(Seen::Unreadable, |text| Seen::Content(Sha256::digest(text.as_bytes()).into()));
        if self.seen == now {
            return None;
        }
        self.seen = now;
        Some(match read {
            Ok(text) => parse::keyring(&text),
            Err(error) => Err(format!("it cannot be read: {error}")),
        })
    }

    /// Takes what was read last for new when it is looked at again.
    pub fn forget(&mut self) {
        self.seen = Seen::Nothing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(found: Option<Result<Keyring, String>>) -> Option<Result<Vec<String>, String>> {
        found.map(|read| read.map(|keyring| keyring.ids().map(ToString::to_string).collect()))
    }

    #[test]
    fn a_change_is_told_once_however_it_came_about() {
        let folder = std::env::temp_dir().join(format!("stagekeeper-key-file-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (path, aside) = (folder.join("keys"), folder.join("aside"));
        let mut file = KeyFile::new(path.clone());
        let entry = |id: &str| format!("{id}:{}\n", id.repeat(64));

        assert!(ids(file.changed()).is_some_and(|read| read.is_err_and(|why| why.contains("cannot be read"))));
        assert_eq!(ids(file.changed()), None);
        fs::write(&path, entry("a")).unwrap();
        assert_eq!(ids(file.changed()), Some(Ok(vec!["a".into()])));
        assert_eq!(ids(file.changed()), None);
        // Written again with the same content.
        fs::write(&path, entry("a")).unwrap();
        assert_eq!(ids(file.changed()), None);
        // Swapped, as Kubernetes does it.
        fs::write(&aside, entry("b") + &entry("a")).unwrap();
        fs::rename(&aside, &path).unwrap();
        assert_eq!(ids(file.changed()), Some(Ok(vec!["b".into(), "a".into()])));
        file.forget();
        assert!(ids(file.changed()).is_some());
        fs::write(&path, "b:12").unwrap();
        let wrong = ids(file.changed()).unwrap().unwrap_err();
        assert!(wrong.contains("the key b") && !wrong.contains("12"), "{wrong}");
        assert_eq!(ids(file.changed()), None);
        fs::remove_dir_all(&folder).unwrap();
    }
}
