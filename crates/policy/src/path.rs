//! Paths as rules see them: relative to the workspace, `.` and `..` resolved by their text alone.
//!
//! Symbolic links are not followed here (this crate reads nothing): the tools name the resolved path as
//! a second resource, and the sandbox is what holds.

/// Where a path points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Relative, without `.` or `..`; the workspace itself is `.`.
    Inside(String),
    /// Absolute, or relative and leaving the workspace (`../x`).
    Outside(String),
}

/// Resolves a target lexically.
pub fn place(target: &str) -> Place {
    let absolute = target.starts_with('/');
    let mut up = 0usize;
    let mut parts: Vec<&str> = Vec::new();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() && !absolute {
                    up += 1;
                }
            }
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    if absolute {
        return Place::Outside(format!("/{joined}"));
    }
    if up > 0 {
        let ups = vec![".."; up].join("/");
        return Place::Outside(if joined.is_empty() { ups } else { format!("{ups}/{joined}") });
    }
    Place::Inside(if joined.is_empty() { ".".to_owned() } else { joined })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(target: &str, expected: &str) {
        assert_eq!(place(target), Place::Inside(expected.to_owned()), "{target:?}");
    }

    fn outside(target: &str, expected: &str) {
        assert_eq!(place(target), Place::Outside(expected.to_owned()), "{target:?}");
    }

    #[test]
    fn dots_are_resolved_by_text() {
        inside("a/b", "a/b");
        inside("./a//b/", "a/b");
        inside("a/../b", "b");
        inside("a/./../b/..", ".");
        inside("", ".");
        outside("..", "..");
        outside("a/../../b", "../b");
        outside("../../x/../y", "../../y");
        outside("/etc/passwd", "/etc/passwd");
        outside("/a/../../b", "/b");
    }
}
