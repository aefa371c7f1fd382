//! The command line. Each command is a file in `commands/`, named after it.

use clap::{Parser, Subcommand};

use crate::{
    commands, env,
    exit::{self, CliError},
};

const AFTER_HELP: &str = "`homarus --help` also lists exit codes and environment variables.";

pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("HOMARUS_COMMIT"), ")");

/// Runs AI agents you do not have to trust: gated, sandboxed, journalled.
#[derive(Debug, Parser)]
#[command(name = "homarus", version = VERSION, after_help = AFTER_HELP, after_long_help = format!("{}\n\n{}", exit::help(), env::help()))]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Do a job in a folder
    Run(commands::run::Args),
    /// Bring back what was there before a run changed it
    Undo(commands::undo::Args),
    /// Talk with an agent that works in a folder
    Chat(commands::chat::Args),
    /// See, check, continue and end runs
    #[command(subcommand)]
    Runs(Runs),
    /// Make, see and choose agents: persona, memory, tools, grants, limits
    #[command(subcommand)]
    Agents(Agents),
    /// Add, see and allow skills: instructions for kinds of task
    #[command(subcommand)]
    Skills(Skills),
    /// See, download and try models
    #[command(subcommand)]
    Models(Models),
    /// See tools, and call one by hand
    #[command(subcommand)]
    Tools(Tools),
    /// See and clear the profiles of the browser: cookies and storage kept from run to run
    #[command(subcommand)]
    Browser(Browser),
    /// See what this machine can enforce
    #[command(subcommand)]
    Sandbox(Sandbox),
    /// Look for what is wrong with this installation, and say what to do
    Doctor(commands::doctor::Args),
    /// See, change and check the configuration
    #[command(subcommand)]
    Config(Config),
    /// Print a script that completes commands in your shell
    Completions(commands::completions::Args),
    /// Print the manual page, or write those of all commands to a folder
    Man(commands::man::Args),
}

#[derive(Debug, Subcommand)]
enum Runs {
    /// List runs, newest first
    List(commands::runs_list::Args),
    /// Show one run: status, cost, open question
    Show(commands::runs_show::Args),
    /// Print a run's journal
    Log(commands::runs_log::Args),
    /// Show what a run changed in its workspace
    Diff(commands::runs_diff::Args),
    /// Go on otherwise from a step of a run, as a run of its own
    Fork(commands::runs_fork::Args),
    /// Check that nobody changed the journal
    Verify(commands::runs_verify::Args),
    /// Stop a run where its step ends; `resume` goes on
    Pause(commands::runs_pause::Args),
    /// Go on with a run that was interrupted or waits
    Resume(commands::runs_resume::Args),
    /// After a crash: go on with every run it interrupted
    ResumeAll(commands::runs_resume_all::Args),
    /// Say something further in a conversation
    Say(commands::runs_say::Args),
    /// Change the model, the agent or the rules of a run
    Configure(commands::runs_configure::Args),
    /// Answer a run's open question
    Approve(commands::runs_approve::Args),
    /// Say what became of a call whose outcome is unknown
    Resolve(commands::runs_resolve::Args),
    /// End a run
    Cancel(commands::runs_cancel::Args),
    /// Delete runs that have ended, for good
    Delete(commands::runs_delete::Args),
    /// Delete all runs that ended long ago
    Prune(commands::runs_prune::Args),
}

#[derive(Debug, Subcommand)]
enum Agents {
    /// List agents and templates
    List(commands::agents_list::Args),
    /// Show one agent: its definition and its files
    Show(commands::agents_show::Args),
    /// Make an agent from a template
    Create(commands::agents_create::Args),
    /// Change a file of an agent in your editor
    Edit(commands::agents_edit::Args),
    /// Delete an agent with its memory
    Delete(commands::agents_delete::Args),
    /// Choose the agent of runs that name none
    Switch(commands::agents_switch::Args),
}

#[derive(Debug, Subcommand)]
enum Skills {
    /// List skills, and whether runs are told of each
    List(commands::skills_list::Args),
    /// Show one skill and what was found in it
    Show(commands::skills_show::Args),
    /// Add a folder with a SKILL.md, or one of a git repository, and look through it
    Add(commands::skills_add::Args),
    /// Fetch a skill again from its repository, and show what is different
    Update(commands::skills_update::Args),
    /// Let a skill be used in spite of what was found in it
    Allow(commands::skills_allow::Args),
    /// Delete a skill
    Remove(commands::skills_remove::Args),
}

#[derive(Debug, Subcommand)]
enum Models {
    /// List providers and embedded models
    List(commands::models_list::Args),
    /// Download the weights of an embedded model
    Pull(commands::models_pull::Args),
    /// Ask a model for one word
    Test(commands::models_test::Args),
}

#[derive(Debug, Subcommand)]
enum Tools {
    /// List the tools there are
    List(commands::tools_list::Args),
    /// Show one tool: arguments, class, limits
    Show(commands::tools_show::Args),
    /// Make one call, through the same gate and sandbox as a model's
    Call(commands::tools_call::Args),
}

#[derive(Debug, Subcommand)]
enum Browser {
    /// List profiles
    Profiles(commands::browser_profiles::Args),
    /// Remove a profile with all that is in it
    Clear(commands::browser_clear::Args),
}

#[derive(Debug, Subcommand)]
enum Sandbox {
    /// Try out what this machine can enforce
    Probe(commands::sandbox_probe::Args),
    /// Attack the sandbox from inside in every way we know, and see that nothing gets through
    Selftest(commands::sandbox_selftest::Args),
}

#[derive(Debug, Subcommand)]
enum Config {
    /// Tell the values that hold, and where each comes from
    Get(commands::config_get::Args),
    /// Set a key in your file; comments and order stay
    Set(commands::config_set::Args),
    /// Tell where your file is
    Path(commands::config_path::Args),
    /// Check a file: unknown keys, wrong values, files it names
    Check(commands::config_check::Args),
    /// Edit your file; it is checked before it counts
    Edit(commands::config_edit::Args),
}

impl Cli {
    /// Runs the command; its exit code.
    pub fn execute(self) -> Result<u8, CliError> {
        match self.command {
            Command::Run(args) => args.execute(),
            Command::Undo(args) => args.execute(),
            Command::Chat(args) => args.execute(),
            Command::Runs(Runs::List(args)) => args.execute(),
            Command::Runs(Runs::Show(args)) => args.execute(),
            Command::Runs(Runs::Log(args)) => args.execute(),
            Command::Runs(Runs::Diff(args)) => args.execute(),
            Command::Runs(Runs::Fork(args)) => args.execute(),
            Command::Runs(Runs::Verify(args)) => args.execute(),
            Command::Runs(Runs::Pause(args)) => args.execute(),
            Command::Runs(Runs::Resume(args)) => args.execute(),
            Command::Runs(Runs::ResumeAll(args)) => args.execute(),
            Command::Runs(Runs::Say(args)) => args.execute(),
            Command::Runs(Runs::Configure(args)) => args.execute(),
            Command::Runs(Runs::Approve(args)) => args.execute(),
            Command::Runs(Runs::Resolve(args)) => args.execute(),
            Command::Runs(Runs::Cancel(args)) => args.execute(),
            Command::Runs(Runs::Delete(args)) => args.execute(),
            Command::Runs(Runs::Prune(args)) => args.execute(),
            Command::Agents(Agents::List(args)) => args.execute(),
            Command::Agents(Agents::Show(args)) => args.execute(),
            Command::Agents(Agents::Create(args)) => args.execute(),
            Command::Agents(Agents::Edit(args)) => args.execute(),
            Command::Agents(Agents::Delete(args)) => args.execute(),
            Command::Agents(Agents::Switch(args)) => args.execute(),
            Command::Skills(Skills::List(args)) => args.execute(),
            Command::Skills(Skills::Show(args)) => args.execute(),
            Command::Skills(Skills::Add(args)) => args.execute(),
            Command::Skills(Skills::Update(args)) => args.execute(),
            Command::Skills(Skills::Allow(args)) => args.execute(),
            Command::Skills(Skills::Remove(args)) => args.execute(),
            Command::Models(Models::List(args)) => args.execute(),
            Command::Models(Models::Pull(args)) => args.execute(),
            Command::Models(Models::Test(args)) => args.execute(),
            Command::Tools(Tools::List(args)) => args.execute(),
            Command::Tools(Tools::Show(args)) => args.execute(),
            Command::Tools(Tools::Call(args)) => args.execute(),
            Command::Browser(Browser::Profiles(args)) => args.execute(),
            Command::Browser(Browser::Clear(args)) => args.execute(),
            Command::Sandbox(Sandbox::Probe(args)) => args.execute(),
            Command::Sandbox(Sandbox::Selftest(args)) => args.execute(),
            Command::Doctor(args) => args.execute(),
            Command::Completions(args) => args.execute(),
            Command::Man(args) => args.execute(),
            Command::Config(Config::Get(args)) => args.execute(),
            Command::Config(Config::Set(args)) => args.execute(),
            Command::Config(Config::Path(args)) => args.execute(),
            Command::Config(Config::Check(args)) => args.execute(),
            Command::Config(Config::Edit(args)) => args.execute(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use homarus_api::OPERATIONS;

    use super::Cli;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// Commands about this terminal and nothing else: no other surface can offer them.
    const OF_THE_TERMINAL: &[&str] = &["completions", "man", "config.edit"];

    /// `noun.verb` is `homarus noun verb`; starting and undoing a run have short forms of their own.
    #[test]
    fn every_operation_has_its_command_and_no_command_lacks_one() {
        let root = Cli::command();
        // A chat is no operation but a surface: it starts runs, says things and configures them.
        let mut commands: Vec<String> = root
            .get_subcommands()
            .filter(|noun| noun.get_name() != "chat")
            .flat_map(|noun| {
                let verbs: Vec<_> = noun.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
                if verbs.is_empty() {
                    vec![noun.get_name().to_owned()]
                } else {
                    verbs.into_iter().map(|verb| format!("{}.{verb}", noun.get_name())).collect()
                }
            })
            .filter(|name| !OF_THE_TERMINAL.contains(&name.as_str()))
            .map(|name| match name.as_str() {
                "run" => "runs.start".to_owned(),
                "undo" => "runs.undo".to_owned(),
                "doctor" => "doctor.check".to_owned(),
                _ => name,
            })
            .collect();
        commands.sort();
        let mut operations: Vec<String> = OPERATIONS.iter().map(|info| info.name.to_owned()).collect();
        operations.sort();
        assert_eq!(commands, operations);
    }

    #[test]
    fn every_listing_has_json() {
        for noun in Cli::command().get_subcommands() {
            let verbs: Vec<_> = noun.get_subcommands().collect();
            let all = if verbs.is_empty() { vec![noun] } else { verbs };
            for command in all {
                assert!(command.get_arguments().any(|arg| arg.get_id() == "json"), "{}", command.get_name());
            }
        }
    }
    #[test]
    fn every_command_has_a_snapshot_of_its_help() {
        fn check(path: &str, command: &clap::Command, snapshots: &str) {
            assert!(snapshots.contains(&format!("$ {path} --help\n")), "{path} --help is not in tests/cmd/help.trycmd");
            for inner in command.get_subcommands() {
                check(&format!("{path} {}", inner.get_name()), inner, snapshots);
            }
        }
        check("homarus", &Cli::command(), include_str!("../tests/cmd/help.trycmd"));
    }
}
