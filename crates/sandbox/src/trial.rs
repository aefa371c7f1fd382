//! The probe of this host, while it goes on and after it: whoever wants to run something waits for its end, nobody else.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::{self, JoinHandle},
};

use crate::{
    cgroup::Groups,
    options::Options,
    probe::{self, ProbeReport},
    zygote::Zygote,
};

#[derive(Debug)]
pub struct Trial {
    report: OnceLock<ProbeReport>,
    groups: OnceLock<Groups>,
    under_way: Mutex<Option<JoinHandle<ProbeReport>>>,
}

impl Trial {
    /// One that has ended.
    pub fn ended(report: ProbeReport) -> Self {
        Self { report: OnceLock::from(report), groups: OnceLock::new(), under_way: Mutex::default() }
    }

    /// One that goes on while its host does something else.
    pub fn start(options: &Options, zygote: &Arc<Zygote>) -> Self {
        let (of_thread, from) = (options.clone(), zygote.clone());
        let thread = thread::Builder::new().name("sandbox-probe".to_owned());
        match thread.spawn(move || probe::run(&of_thread, &from)) {
            Ok(thread) => {
                Self { report: OnceLock::new(), groups: OnceLock::new(), under_way: Mutex::new(Some(thread)) }
            }
            Err(_) => Self::ended(probe::run(options, zygote)),
        }
    }

    /// What it found. Blocks until it has ended, some ten milliseconds after its start.
    pub fn report(&self) -> &ProbeReport {
        self.report.get_or_init(|| {
            let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).take();
            under_way.and_then(|thread| thread.join().ok()).unwrap_or_else(|| {
                ProbeReport::refusing("probe", "the trial of the sandbox broke off", "Please report this output.")
            })
        })
    }

    /// The control groups it found. Blocks as [`Self::report`] does.
    pub fn groups(&self) -> &Groups {
        self.groups.get_or_init(|| self.report().groups().unwrap_or_else(Groups::find))
    }
}
