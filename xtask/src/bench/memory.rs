//! Memory of a process and all its descendants, as the kernel counts it.

use std::{collections::BTreeMap, fs, path::Path};

/// In bytes: the highest resident size of this process, and of each living descendant its share (PSS), in which memory
/// that several processes have in common counts once. 0 if it is gone.
pub fn of_tree(root: u32) -> u64 {
    let parents = parents(Path::new("/proc"));
    let others = parents.keys().filter(|process| **process != root && descends(**process, root, &parents));
    highest(root) + others.map(|process| share(*process)).sum::<u64>()
}

/// Every process and its parent.
fn parents(folder: &Path) -> BTreeMap<u32, u32> {
    let Ok(entries) = folder.read_dir() else { return BTreeMap::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(|process| Some((process, field(process, "status", "PPid:")? as u32))).collect()
}

fn descends(process: u32, root: u32, parents: &BTreeMap<u32, u32>) -> bool {
    let mut at = process;
    // No chain of parents is longer than there are processes.
    for _ in 0..=parents.len() {
        if at == root {
            return true;
        }
        match parents.get(&at) {
            Some(parent) if *parent != 0 => at = *parent,
            _ => return false,
        }
    }
    false
}

fn highest(process: u32) -> u64 {
    field(process, "status", "VmHWM:").unwrap_or(0) * 1024
}

fn share(process: u32) -> u64 {
    field(process, "smaps_rollup", "Pss:").unwrap_or(0) * 1024
}

/// The number of a line of a file of `/proc/N`.
fn field(process: u32, file: &str, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/{file}")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_counts_for_its_parent() {
        let before = of_tree(std::process::id());
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let alone = share(child.id());
        let both = of_tree(std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(alone > 0 && both >= before + alone / 2, "{before} {alone} {both}");
    }

    #[test]
    fn nobody_has_no_memory() {
        assert_eq!(of_tree(u32::MAX), 0);
    }

    #[test]
    fn a_circle_of_parents_ends() {
        let parents = BTreeMap::from([(1, 2), (2, 1)]);
        assert!(!descends(1, 9, &parents));
    }
}
