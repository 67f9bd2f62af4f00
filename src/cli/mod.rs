//! The command line: one file a verb.
//!
//! Each verb has its arguments (`XArgs`) and a `run`, which gets them and an `Output`. Results go to standard output,
//! as text or JSON; everything else goes to standard error. The exit code is 0 when it is done, 1 when it failed, 2 when
//! it was asked wrongly.

pub(crate) mod app;
mod backup;
pub(crate) mod build;
mod cache;
mod certificate;
mod completion;
mod deploy;
mod distributions;
mod functions;
mod group;
mod inspect;
mod invoke;
mod logs;
mod new;
pub(crate) mod output;
mod processes;
mod purge;
mod remote;
mod restore;
mod serve;
mod source;
mod up;
mod users;
mod validate;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{
    Parser, Subcommand,
    builder::styling::{AnsiColor, Styles},
};

use output::{Format, Output};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  wharf new hello             make a function that answers HTTP, in a new folder
  wharf up hello              build it, serve it, and build it again when its source changes
  wharf serve                 run a node
  wharf deploy hello          deploy the app to the node
  wharf logs hello --follow   see what it says";

/// Runs WebAssembly components as functions, at the edge.
#[derive(Debug, Parser)]
#[command(name = "wharf", version, styles = STYLES, after_help = EXAMPLES, max_term_width = 100)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
struct Cli {
    /// How results are written to standard output
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    output: Format,

    /// Say nothing on standard error but errors
    #[arg(long, short, global = true)]
    quiet: bool,

    #[command(subcommand)]
    args: Args,
}

/// The verbs, in the order a user meets them.
#[derive(Debug, Subcommand)]
enum Args {
    New(new::NewArgs),
    Build(build::BuildArgs),
    Up(up::UpArgs),
    Serve(serve::ServeArgs),
    Deploy(deploy::DeployArgs),
    Invoke(invoke::InvokeArgs),
    Logs(logs::LogsArgs),
    Functions(functions::FunctionsArgs),
    Distributions(distributions::DistributionsArgs),
    Purge(purge::PurgeArgs),
    Cache(cache::CacheArgs),
    Users(users::UsersArgs),
    Inspect(inspect::InspectArgs),
    Validate(validate::ValidateArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Completion(completion::CompletionArgs),
}

impl Args {
    async fn run(self, output: &Output) -> anyhow::Result<()> {
        match self {
            Self::New(args) => new::run(args, output).await,
            Self::Build(args) => build::run(args, output).await,
            Self::Up(args) => Box::pin(up::run(args, output)).await,
            Self::Serve(args) => Box::pin(serve::run(args, output)).await,
            Self::Deploy(args) => deploy::run(args, output).await,
            Self::Invoke(args) => invoke::run(args, output).await,
            Self::Logs(args) => logs::run(args, output).await,
            Self::Functions(args) => functions::run(args, output).await,
            Self::Distributions(args) => distributions::run(args, output).await,
            Self::Purge(args) => purge::run(args, output).await,
            Self::Cache(args) => cache::run(args, output).await,
            Self::Users(args) => users::run(args, output).await,
            Self::Inspect(args) => inspect::run(args, output).await,
            Self::Validate(args) => validate::run(args, output).await,
            Self::Backup(args) => backup::run(args, output).await,
            Self::Restore(args) => restore::run(args, output).await,
            Self::Completion(args) => completion::run(args, output).await,
        }
    }
}

/// Runs the program with the arguments of the process, and gives its exit code.
pub fn main() -> ExitCode {
    // Before anything else: a compiling child has no asynchronous runtime, and its arguments are not the user's.
    if let Some(code) = child() {
        return code;
    }
    let Cli {
        output,
        quiet,
        args,
    } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are such errors too, for standard output. Where nobody listens there is nothing to do.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let output = Output::new(output, quiet);
    let runtime = tokio::runtime::Runtime::new().context("start the asynchronous runtime");
    match runtime.and_then(|runtime| runtime.block_on(args.run(&output))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

/// What a node starts for each component that it is given:
/// `wharf __compile CPU_SECONDS MEMORY_BYTES INPUT OUTPUT`, and
/// `wharf __link CPU_SECONDS MEMORY_BYTES OUTPUT FUNCTION [NAME LAYER]...`.
fn child() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let verb = arguments.next()?;
    if verb != "__compile" && verb != "__link" {
        return None;
    }
    let mut number = || arguments.next()?.to_str()?.parse().ok();
    let (cpu, memory) = (number()?, number()?);
    let (first, second) = (arguments.next()?, arguments.next()?);
    let (first, second) = (first.as_ref(), second.as_ref());
    let done = if verb == "__compile" {
        crate::runtime::compile_child(cpu, memory, first, second)
    } else {
        let mut layers = Vec::new();
        while let Some(name) = arguments.next() {
            layers.push((name.into_string().ok()?, arguments.next()?.into()));
        }
        crate::runtime::link_child(cpu, memory, first, second, &layers)
    };
    use std::io::Write as _;
    Some(match done {
        Ok(answer) => {
            let _ = write!(std::io::stdout(), "{answer}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }
}
