//! What is running here. (The journal's format and the worker's version are told where they are looked at.)

use homarus_api::doctor::Finding;

use super::{Because, info, ok, warning};
use crate::{cli::VERSION, selftest};

/// The first that lets an ordinary user mount overlays.
const KERNEL_MIN: (u32, u32) = (5, 11);

pub fn check() -> Vec<Finding> {
    vec![info("version.program", &format!("homarus {VERSION}")), judge(&selftest::kernel())]
}

fn judge(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let what = format!("Linux {release}");
    if found >= KERNEL_MIN {
        return ok("version.kernel", &what);
    }
    warning("version.kernel", &what)
        .because(format!("before {}.{} an ordinary user cannot mount overlays", KERNEL_MIN.0, KERNEL_MIN.1))
        .fix("update the kernel")
}

#[cfg(test)]
mod tests {
    use homarus_api::doctor::Severity;

    use super::*;

    #[test]
    fn old_kernels_are_told() {
        let check = |release: &str, severity| assert_eq!(judge(release).severity, severity, "{release}");
        check("6.18.1-arch1", Severity::Ok);
        check("5.11.0", Severity::Ok);
        check("5.10.0-33-amd64", Severity::Warning);
        check("nonsense", Severity::Warning);
    }
}
