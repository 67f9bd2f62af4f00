//! The node that a verb talks to.

use std::path::PathBuf;

use crate::control::{
    Token,
    client::{Client, ClientError},
};

/// Which node, and the right to use it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RemoteArgs {
    /// The node's API
    #[arg(
        long,
        env = "WHARF_API",
        value_name = "URL",
        default_value = "http://127.0.0.1:9080"
    )]
    api: String,

    /// The node's data folder, where its token is
    #[arg(long, env = "WHARF_DATA", value_name = "DIR", default_value = super::serve::DATA)]
    data: PathBuf,

    /// The API's token, where the data folder is on another machine
    #[arg(
        long,
        env = "WHARF_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        // Some that nodes made begin with a hyphen.
        allow_hyphen_values = true
    )]
    token: Option<String>,
}

impl RemoteArgs {
    pub(crate) fn client(&self) -> Result<Client, ClientError> {
        let token = match &self.token {
            Some(token) => Token::given(token),
            None => Client::token(&self.data)?,
        };
        Client::new(&self.api, token)
    }
}
