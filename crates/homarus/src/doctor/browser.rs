//! The browser that runs may be offered.

use homarus_api::doctor::Finding;

use super::{Because, Patient, info, ok, warning};
use crate::browser;

pub fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let found = match browser::program(patient.config) {
        None => info("browser", "there is no Chromium, so no run is offered a browser")
            .fix("install it (Debian: apt-get install chromium), or name it in `browser.program`"),
        Some(program) if program.is_file() => ok("browser", &format!("{} is offered to runs", program.display())),
        Some(program) => warning("browser", &format!("browser.program names {}", program.display()))
            .because("there is no such file")
            .fix("homarus config set browser.program \"\""),
    };
    vec![found]
}

#[cfg(test)]
mod tests {
    use homarus_api::doctor::Severity;

    use super::{super::*, *};

    #[test]
    fn a_program_that_is_not_there_is_told() {
        with_patient("[browser]\nprogram = \"/no/such/chromium\"", |patient| {
            assert_eq!(severity(&check(patient), "browser"), Some(Severity::Warning));
        });
        with_patient("[browser]\nprogram = \"/bin/sh\"", |patient| {
            assert_eq!(severity(&check(patient), "browser"), Some(Severity::Ok));
        });
    }
}
