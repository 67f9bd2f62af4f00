//! `wharf users`: who may call a node's API.

use std::{fmt, path::Path};

use anyhow::Context as _;
use serde::Serialize;

use super::{output::Output, remote::RemoteArgs};
use crate::control::api::{AddUser, AddedUser, UserPolicy, UserSummary};

/// List, add or remove the users of a node's API
///
/// A user has access keys, which AWS clients sign their calls with, and may do what policies say: nothing without one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wharf users list                                         who there is
  wharf users add ci --policy AWSLambda_FullAccess         make a user, and print their access key
  wharf users add ops --policy ReadOnlyAccess --policy ops.json
  wharf users add ci --policy ci.json >> ~/.aws/credentials
  wharf users remove ci                                    with all their keys")]
pub(crate) struct UsersArgs {
    #[command(subcommand)]
    verb: Verb,

    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the users: name, policies, access keys
    List,
    /// Make a user with an access key, and print it as a profile of AWS clients
    Add {
        /// Their name
        name: String,

        /// What they may do: the name of a policy of the node, such as AdministratorAccess, or a file with a policy
        /// document. May be given several times
        #[arg(long, value_name = "NAME|FILE")]
        policy: Vec<String>,
    },
    /// Remove a user with their access keys and policies
    Remove {
        /// Their name
        name: String,
    },
}

#[derive(Serialize)]
#[serde(transparent)]
struct Listed(UserSummary);

impl fmt::Display for Listed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UserSummary {
            name,
            policies,
            access_keys,
            in_file,
            ..
        } = &self.0;
        if *in_file {
            return write!(formatter, "{name:<24} of the node's credentials file");
        }
        let names = policies
            .iter()
            .map(|policy| policy.rsplit('/').next().unwrap_or(policy));
        let policies = names.collect::<Vec<_>>().join(", ");
        let keys = access_keys.join(", ");
        write!(formatter, "{name:<24} {policies:<40} {keys}")
    }
}

/// A new user, as a profile for people, and for programs as it is.
#[derive(Serialize)]
struct Added {
    #[serde(skip)]
    name: String,
    #[serde(flatten)]
    user: AddedUser,
}

impl fmt::Display for Added {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AddedUser {
            access_key_id,
            secret_access_key,
            ..
        } = &self.user;
        write!(
            formatter,
            "[{}]\naws_access_key_id = {access_key_id}\naws_secret_access_key = {secret_access_key}",
            self.name
        )
    }
}

pub(crate) async fn run(args: UsersArgs, output: &Output) -> anyhow::Result<()> {
    let client = args.remote.client()?;
    match args.verb {
        Verb::List => client
            .users()
            .await?
            .into_iter()
            .try_for_each(|user| output.result(&Listed(user))),
        Verb::Add { name, policy } => {
            let policies: anyhow::Result<_> = policy.iter().map(|policy| read(policy)).collect();
            let add = AddUser {
                policies: policies?,
            };
            let user = client.add_user(&name, &add).await?;
            output.status(
                "Added",
                format_args!("{}; the secret is shown this once", user.arn),
            );
            output.result(&Added { name, user })
        }
        Verb::Remove { name } => {
            client.remove_user(&name).await?;
            output.status("Removed", name);
            Ok(())
        }
    }
}

/// A file's document, or the name of a policy.
fn read(policy: &str) -> anyhow::Result<UserPolicy> {
    let path = Path::new(policy);
    let named = !path.exists() && !policy.ends_with(".json");
    if named || policy.starts_with("arn:") {
        return Ok(UserPolicy::Attached(policy.to_owned()));
    }
    let document =
        std::fs::read_to_string(path).with_context(|| format!("read the policy {policy}"))?;
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or("policy");
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "+=,.@_-".contains(letter);
    Ok(UserPolicy::Document {
        name: stem
            .chars()
            .map(|letter| if plain(letter) { letter } else { '-' })
            .take(128)
            .collect(),
        document,
    })
}
