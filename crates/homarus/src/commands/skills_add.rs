//! `homarus skills add`

use std::path::Path;

use homarus_agent::skill::Skill;

use crate::{
    dirs::Dirs,
    exit::CliError,
    put,
    skills::{
        self,
        keep::{self, not_a_skill},
        place::Repository,
    },
    wiring,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder with a SKILL.md, whose contents are copied; or a git repository: https://HOST/PATH.git, ssh://HOST/PATH.git,
    /// USER@HOST:PATH.git or a path, then #REF:FOLDER for a branch, tag or commit and a folder in it
    #[arg(value_name = "FOLDER|REPOSITORY")]
    from: String,
    /// Replace a skill of the same name
    #[arg(long)]
    replace: bool,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let name = match Repository::parse(&self.from)? {
            Some(from) => {
                if !self.json {
                    put::note(&format!("fetching {from}"));
                }
                let fetched = keep::fetch(&from)?;
                self.check(&fetched.skill, &dirs)?;
                keep::keep(&fetched.skill, Some(fetched.origin.clone()), &dirs.skills)?;
                fetched.skill.name.clone()
            }
            None => {
                // Its own name, not `.`.
                let folder = Path::new(&self.from)
                    .canonicalize()
                    .map_err(|error| CliError::usage(format!("{} cannot be read", self.from)).cause(error))?;
                let skill = Skill::open(&folder).map_err(not_a_skill)?;
                self.check(&skill, &dirs)?;
                keep::keep(&skill, None, &dirs.skills)?;
                skill.name
            }
        };
        skills::put(skills::find(&wiring::shelf(&dirs)?, &name)?, self.json)?;
        Ok(0)
    }

    fn check(&self, skill: &Skill, dirs: &Dirs) -> Result<(), CliError> {
        if dirs.skills.join(&skill.name).symlink_metadata().is_ok() && !self.replace {
            return Err(CliError::usage(format!("there is a skill {} already", skill.name))
                .help("give --replace, or delete it with `homarus skills remove`"));
        }
        Ok(())
    }
}
