//! `homarus completions`

use clap::{CommandFactory, ValueEnum};
use clap_complete::Shell;

use crate::{cli::Cli, exit::CliError, put};

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The shell to complete for
    #[arg(value_enum)]
    shell: Shell,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "Where the script goes:
  bash  homarus completions bash > ~/.local/share/bash-completion/completions/homarus
  zsh   homarus completions zsh > FOLDER/_homarus, with FOLDER in $fpath
  fish  homarus completions fish > ~/.config/fish/completions/homarus.fish";

/// It is no operation of the API: only a shell has a use for it.
#[derive(Debug, serde::Serialize)]
struct CompletionsResponse {
    shell: String,
    script: String,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let script = script(self.shell)?;
        if self.json {
            let shell = self.shell.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
            put::json(&CompletionsResponse { shell, script })?;
        } else {
            put::text(&script)?;
        }
        Ok(0)
    }
}

fn script(shell: Shell) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "homarus", &mut bytes);
    String::from_utf8(bytes).map_err(CliError::failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_learns_every_command() {
        for shell in Shell::value_variants() {
            let script = script(*shell).unwrap();
            for noun in Cli::command().get_subcommands() {
                assert!(script.contains(noun.get_name()), "{shell}: {}", noun.get_name());
            }
            assert!(script.contains("budget-usd"), "{shell}");
        }
    }
}
