//! The few file operations that change a bundle. A test can make each of them fail, like a kill at that moment.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;

/// Called before each change. An error stops everything at that point.
type Probe<'a> = &'a mut dyn FnMut() -> io::Result<()>;

/// File operations in a fixed order. None is undone when a later one fails.
pub struct Disk<'a>(Probe<'a>);

impl<'a> Disk<'a> {
    /// `probe` is called before each change.
    pub fn probed(probe: Probe<'a>) -> Self {
        Self(probe)
    }

    /// Creates a folder that only its owner can enter. Removes what an earlier attempt left behind.
    pub fn fresh_folder(&mut self, path: &Path) -> io::Result<()> {
        self.remove(path)?;
        (self.0)()?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// Creates a file with mode 0600, which is on disk when this returns.
    pub fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        (self.0)()?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        // Between these two steps the file exists and is empty.
        (self.0)()?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Makes `path` a link to `target` in one step, whatever it was before.
    pub fn link(&mut self, target: &str, path: &Path) -> io::Result<()> {
        let aside = aside(path);
        self.remove(&aside)?;
        (self.0)()?;
        symlink(target, &aside)?;
        self.rename(&aside, path)
    }

    /// Renames in one step. The new name is on disk when this returns.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        (self.0)()?;
        fs::rename(from, to)?;
        (self.0)()?;
        sync_folder(to.parent().unwrap_or(Path::new(".")))
    }

    /// Removes a file, a link, or a folder with its content. Nothing to remove is not an error.
    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
        (self.0)()?;
        if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
    }

    /// Writes the content of a folder to disk.
    pub fn sync(&mut self, folder: &Path) -> io::Result<()> {
        (self.0)()?;
        sync_folder(folder)
    }
}

/// `.NAME.new` beside `path`.
pub fn aside(path: &Path) -> std::path::PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    fs::File::open(folder)?.sync_all()
}
