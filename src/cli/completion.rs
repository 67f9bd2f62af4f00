//! `wharf completion`: what a shell needs to complete the program's arguments.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, output::Output};

/// Write the completions of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf completion bash > ~/.local/share/bash-completion/completions/wharf
  wharf completion zsh > ~/.zfunc/_wharf
  wharf completion fish > ~/.config/fish/completions/wharf.fish")]
pub(crate) struct CompletionArgs {
    /// The shell
    shell: Shell,
}

pub(crate) async fn run(args: CompletionArgs, output: &Output) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "wharf", &mut script);
    output.raw(String::from_utf8_lossy(&script))
}
