//! A deployment that is not served yet: its component is being compiled, or could not be.
//!
//! What is proposed is in the catalog, so that a node that is killed goes on with it at its next start. When its component
//! is compiled, the deployment takes the proposal's place in one change; until then the one before is served.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Lambda,
    members::Progress,
    reference::{conflict, invalid},
};
use crate::{
    control::{aws::Error, verbs::now_ms},
    model::{
        Deployment, Digest, FunctionConfiguration, FunctionName, FunctionSettings, Kind,
        LambdaSettings, Version,
    },
    store::{Change, Resource, Sealer, of_function},
};

/// A deployment that is not served yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::control) struct Proposal {
    pub(super) name: FunctionName,
    /// The component.
    pub(super) code: Digest,
    pub(super) code_size: u64,
    /// How it is to run, without its environment variables.
    pub(super) configuration: FunctionConfiguration,
    /// Those, sealed.
    environment: String,
    pub(super) lambda: LambdaSettings,
    /// The revision of `$LATEST` that it was made from; 0 if there is none.
    pub(super) base: u64,
    /// The version it is published as, too, and that version's description.
    pub(super) publish: Option<(u32, String)>,
    pub(super) modified_ms: u64,
    /// Why it will never be served.
    pub(super) failed: Option<String>,
    /// What it refers to among the blobs.
    blobs: Vec<Digest>,
}

impl Resource for Proposal {
    const KIND: &'static str = "proposal";

    fn key(&self) -> String {
        of_function(&self.name)
    }
}

impl Proposal {
    pub(super) fn new(
        deployment: &Deployment,
        publish: Option<(u32, String)>,
        sealer: &Sealer,
    ) -> Result<Self, Error> {
        let mut configuration = deployment.configuration.clone();
        let environment = std::mem::take(&mut configuration.environment);
        let environment =
            serde_json::to_vec(&environment).map_err(|error| Error::internal(&error))?;
        let mut blobs = vec![deployment.code];
        blobs.extend(
            deployment
                .lambda
                .package
                .as_ref()
                .map(|package| package.digest),
        );
        blobs.extend(deployment.lambda.layers.iter().map(|layer| layer.digest));
        Ok(Self {
            environment: sealer.seal(&context(&deployment.name), &environment)?,
            name: deployment.name.clone(),
            code: deployment.code,
            code_size: deployment.code_size,
            configuration,
            lambda: deployment.lambda.clone(),
            base: deployment.revision,
            publish,
            modified_ms: deployment.modified_ms,
            failed: None,
            blobs,
        })
    }

    /// What is proposed. How it is called is known only after it was compiled.
    pub(super) fn deployment(&self, kind: Kind, sealer: &Sealer) -> Result<Deployment, Error> {
        let environment = sealer.open(&context(&self.name), &self.environment)?;
        let mut configuration = self.configuration.clone();
        configuration.environment =
            serde_json::from_slice(&environment).map_err(|error| Error::internal(&error))?;
        Ok(Deployment {
            name: self.name.clone(),
            version: Version::Latest,
            code: self.code,
            code_size: self.code_size,
            kind,
            configuration,
            app: None,
            modified_ms: self.modified_ms,
            revision: self.base,
            lambda: self.lambda.clone(),
        })
    }

    pub(super) fn progress(&self) -> Progress {
        match (&self.failed, self.base) {
            (None, 0) => Progress::Creating,
            (None, _) => Progress::Updating,
            (Some(why), 0) => Progress::CreateFailed(why.clone()),
            (Some(why), _) => Progress::UpdateFailed(why.clone()),
        }
    }
}

fn context(name: &FunctionName) -> String {
    format!("proposal/{name}")
}

impl Lambda {
    /// Goes on with what was proposed when the node was last stopped.
    pub(in crate::control) async fn resume(self: &Arc<Self>) {
        let proposals = self
            .control
            .catalog
            .list::<Proposal>("", None, usize::MAX)
            .await;
        match proposals {
            Ok(proposals) => {
                for proposal in proposals {
                    if proposal.value.failed.is_none() {
                        self.spawn(proposal.value.name);
                    }
                }
            }
            Err(error) => tracing::error!(%error, "cannot read what is to be compiled"),
        }
    }

    /// Writes a proposal and has it compiled. When its component is compiled already it is served when this returns.
    pub(super) async fn propose(
        self: &Arc<Self>,
        proposal: Proposal,
        mut changes: Vec<Change>,
    ) -> Result<(), Error> {
        let compiled = self.control.runtime.is_compiled(&proposal.code);
        let name = proposal.name.clone();
        // Where one failed it is replaced; one that is being compiled is not.
        let present = self
            .control
            .catalog
            .get::<Proposal>(&proposal.key())
            .await?;
        let expected = match present {
            Some(present) if present.value.failed.is_none() => return Err(self.busy(&name)),
            Some(present) => present.revision,
            None => 0,
        };
        changes.push(Change::put_expecting(&proposal, expected)?);
        self.control.catalog.apply(changes.into()).await?;
        match compiled {
            true => self.realize(&name).await,
            false => {
                self.spawn(name);
                Ok(())
            }
        }
    }

    fn spawn(self: &Arc<Self>, name: FunctionName) {
        let lambda = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = lambda.realize(&name).await {
                tracing::error!(function = %name, %error, "a deployment was not made");
            }
        });
    }

    /// Compiles what is proposed, and serves it or notes why it cannot be.
    async fn realize(&self, name: &FunctionName) -> Result<(), Error> {
        let catalog = &self.control.catalog;
        let Some(stored) = catalog.get::<Proposal>(&of_function(name)).await? else {
            return Ok(());
        };
        let mut proposal = stored.value;
        if proposal.failed.is_some() {
            return Ok(());
        }
        let path = self.control.blobs.path(&proposal.code);
        let compiled = self.control.runtime.compile(&path, &proposal.code).await;
        let changes = match compiled {
            Ok(kind) => self.realized(&proposal, kind, stored.revision).await?,
            Err(error) => {
                proposal.failed = Some(error.to_string());
                vec![Change::put_expecting(&proposal, stored.revision)?]
            }
        };
        match self.control.apply(changes).await {
            Ok(_) => Ok(()),
            Err(crate::control::Error::Conflict) => self.overtaken(proposal, stored.revision).await,
            Err(error) => Err(Error::internal(&error)),
        }
    }

    /// Gives a proposal up that something else came before, so that the function can be changed again. One that was removed,
    /// or replaced, while it was compiled is left as it is.
    async fn overtaken(&self, mut proposal: Proposal, revision: u64) -> Result<(), Error> {
        let latest = self
            .control
            .catalog
            .deployment(&proposal.name, Version::Latest)
            .await?;
        if let Some(latest) = latest {
            proposal.base = latest.revision;
        }
        proposal.failed = Some("The function was deployed in another way meanwhile.".to_owned());
        let change = Change::put_expecting(&proposal, revision)?;
        match self.control.apply(vec![change]).await {
            Ok(_) | Err(crate::control::Error::Conflict) => Ok(()),
            Err(error) => Err(Error::internal(&error)),
        }
    }

    /// The changes that make a proposal the deployment.
    async fn realized(
        &self,
        proposal: &Proposal,
        kind: Kind,
        revision: u64,
    ) -> Result<Vec<Change>, Error> {
        let mut deployment = proposal.deployment(kind, &self.control.sealer)?;
        if proposal.base == 0 && kind == Kind::Event {
            // An execution environment as in Lambda: what a handler keeps between invocations is there in the next one.
            deployment.configuration.isolation = crate::model::Isolation::REUSE;
        }
        let mut changes = vec![
            Change::Delete {
                kind: Proposal::KIND,
                key: proposal.key(),
                expected: Some(revision),
            },
            Change::Deploy {
                deployment: Box::new(deployment.clone()),
                expected: Some(proposal.base),
            },
        ];
        if let Some((number, description)) = &proposal.publish {
            let mut settings = self.settings(&proposal.name).await?;
            settings.last_version = settings.last_version.max(*number);
            changes.push(Change::put::<FunctionSettings>(&settings)?);
            changes.push(publication(deployment, *number, description));
        }
        Ok(changes)
    }

    /// Another call has the function being compiled.
    pub(super) fn busy(&self, name: &FunctionName) -> Error {
        conflict(format!(
            "The operation cannot be performed at this time. An update is in progress for resource: {}",
            self.control.arns.function(name.as_str(), None)
        ))
    }

    /// Why a function that is not served cannot be invoked, if it is there at all.
    pub(in crate::control) async fn why_not_served(&self, name: &FunctionName) -> Option<Error> {
        let stored = self
            .control
            .catalog
            .get::<Proposal>(&of_function(name))
            .await;
        let proposal = stored.ok()??.value;
        Some(match proposal.failed {
            None => conflict(
                "The operation cannot be performed at this time. The function is currently in the following state: Pending",
            ),
            Some(why) => invalid(format!(
                "The function could not be made ready and cannot be invoked: {why}"
            )),
        })
    }
}

/// What freezes a deployment as a version.
pub(super) fn publication(mut deployment: Deployment, number: u32, description: &str) -> Change {
    deployment.version = Version::Published(number);
    description.clone_into(&mut deployment.configuration.description);
    deployment.modified_ms = now_ms();
    Change::Deploy {
        deployment: Box::new(deployment),
        expected: Some(0),
    }
}
