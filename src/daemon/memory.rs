//! How much memory this process may use: that of the machine, or less where a control group limits it.

use std::path::{Component, Path, PathBuf};

/// In bytes; `None` if the system does not say.
pub fn limit() -> Option<u64> {
    limit_below(Path::new("/"))
}

/// As [`limit`], with the files of the system below `root`.
fn limit_below(root: &Path) -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let groups = read("proc/self/cgroup");
    let of_groups = groups.lines().filter_map(|line| of_group(&root.join("sys/fs/cgroup"), line));
    of_machine(&read("proc/meminfo")).into_iter().chain(of_groups).min()
}

/// The physical memory in `/proc/meminfo`.
fn of_machine(text: &str) -> Option<u64> {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.split_whitespace().next()?.parse().ok().and_then(|kib: u64| kib.checked_mul(1024))
}

/// The lowest limit of the group in a line of `/proc/self/cgroup`, and of the groups that it lies in.
fn of_group(mount: &Path, line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, group) = rest.split_once(':')?;
    // The second version has one tree for everything. The first one has a tree for each kind of resource.
    let (mount, files): (_, &[&str]) = if controllers.is_empty() {
        (mount.to_owned(), &["memory.max", "memory.high"])
    } else if controllers.split(',').any(|name| name == "memory") {
        (mount.join("memory"), &["memory.limit_in_bytes"])
    } else {
        return None;
    };
    // In a container the path may be that of the host while the tree begins at the container's own group, which is then
    // the only one that is found.
    let parts = Path::new(group).components();
    let within: PathBuf = parts.filter(|part| matches!(part, Component::Normal(_))).collect();
    let folders = within.ancestors().map(|ancestor| mount.join(ancestor));
    // Without a limit the file says "max".
    let limits = folders.flat_map(|folder| files.iter().map(move |file| folder.join(file)));
    limits.filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// The files of a machine with 4 GiB, and `files` besides.
    fn machine(files: &[(&str, String)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        let memory = ("proc/meminfo", "MemTotal:        4194304 kB\nMemFree:  10 kB\n".to_owned());
        for (path, text) in files.iter().chain([&memory]) {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        limit_below(root.path())
    }

    fn text(mib: u64) -> String {
        format!("{}\n", mib * MIB)
    }

    #[test]
    fn the_lowest_limit_of_machine_and_groups_counts() {
        assert_eq!(machine(&[]), Some(4096 * MIB));
        let own = ("proc/self/cgroup", "0::/system.slice/strongroomd.service\n".to_owned());
        let service = "sys/fs/cgroup/system.slice/strongroomd.service";
        let max = (&*format!("{service}/memory.max"), text(512));
        assert_eq!(machine(&[own.clone(), max.clone()]), Some(512 * MIB));
        let slice = ("sys/fs/cgroup/system.slice/memory.high", text(300));
        assert_eq!(machine(&[own.clone(), max, slice]), Some(300 * MIB));
        let none = (&*format!("{service}/memory.max"), "max\n".to_owned());
        assert_eq!(machine(&[own.clone(), none]), Some(4096 * MIB));
        let large = (&*format!("{service}/memory.max"), text(100_000));
        assert_eq!(machine(&[own, large]), Some(4096 * MIB), "more than there is");
    }

    #[test]
    fn a_container_and_the_older_kind_of_groups_count() {
        // The tree begins at the container's group, whatever path the host gives it.
        let host = ("proc/self/cgroup", "0::/../../elsewhere\n".to_owned());
        assert_eq!(machine(&[host, ("sys/fs/cgroup/memory.max", text(256))]), Some(256 * MIB));
        let older = "5:cpu,cpuacct:/x\n4:memory:/docker/abc\nnonsense\n".to_owned();
        let older = ("proc/self/cgroup", older);
        let place = "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes";
        assert_eq!(machine(&[older.clone(), (place, text(128))]), Some(128 * MIB));
        let unlimited = (place, "9223372036854771712\n".to_owned());
        assert_eq!(machine(&[older, unlimited]), Some(4096 * MIB));
        assert_eq!(limit_below(Path::new("/nowhere")), None);
    }
}
