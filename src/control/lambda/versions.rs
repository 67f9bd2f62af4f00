//! Versions: `$LATEST`, frozen under a number.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Lambda, Page,
    members::{self, Progress, code_sha256, revision_id},
    proposal::publication,
    reference::{invalid, precondition},
};
use crate::{
    control::aws::{Call, Error},
    model::{Deployment, FunctionSettings, Version},
    store::{Change, Resource as _},
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Publish {
    function_name: String,
    #[serde(rename = "CodeSha256")]
    code_sha256: Option<String>,
    description: Option<String>,
    revision_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    function_name: String,
    marker: Option<String>,
    max_items: Option<usize>,
}

impl Lambda {
    /// PublishVersion.
    pub(super) async fn publish_version(self: &Arc<Self>, call: Call) -> Result<Value, Error> {
        members::refuse_of_code(&call.input)?;
        let publish: Publish = call.read()?;
        let reference = self.reference(&publish.function_name, None)?;
        if reference.version() != Some(Version::Latest) {
            return Err(invalid("Only $LATEST can be published."));
        }
        let name = &reference.name;
        let found = self.resolve(&reference).await?;
        match found.progress {
            Progress::Active | Progress::UpdateFailed(_) => {}
            Progress::Creating | Progress::Updating => return Err(self.busy(name)),
            Progress::CreateFailed(why) => {
                return Err(invalid(format!("The function cannot be published: {why}")));
            }
        }
        let latest = found.deployment;
        if publish
            .code_sha256
            .is_some_and(|wanted| wanted != code_sha256(&latest))
        {
            return Err(invalid(format!(
                "CodeSha256 ({}) is different from current CodeSHA256 in $LATEST. Please try again with the CodeSHA256 in \
                 $LATEST.",
                code_sha256(&latest)
            )));
        }
        let revision = revision_id("function", &format!("{name}:$LATEST"), latest.revision);
        if publish.revision_id.is_some_and(|wanted| wanted != revision) {
            return Err(precondition("Function"));
        }
        let mut settings = self.settings(name).await?;
        let description = publish
            .description
            .unwrap_or_else(|| latest.configuration.description.clone());
        // What is as the last version was gives that version again (Lambda API, PublishVersion).
        let versions = self.control.catalog.versions(name).await?;
        if let Some(last) = versions
            .iter()
            .rfind(|version| version.version != Version::Latest)
            && same(last, &latest, &description)
        {
            let number = last.version.to_string();
            return self.present(name, Some(&number)).await;
        }
        let number = settings.last_version + 1;
        settings.last_version = number;
        let key = settings.key();
        let present = self.control.catalog.get::<FunctionSettings>(&key).await?;
        let expected = present.map_or(0, |present| present.revision);
        self.apply(vec![
            Change::put_expecting(&settings, expected)?,
            publication(latest, number, &description),
        ])
        .await?;
        self.present(name, Some(&number.to_string())).await
    }

    /// ListVersionsByFunction.
    pub(super) async fn list_versions(&self, call: Call) -> Result<Value, Error> {
        let list: List = call.read()?;
        let reference = self.reference(&list.function_name, None)?;
        let page = Page::new(list.marker.as_deref(), list.max_items)?;
        let found = self.find(&reference.name).await?;
        let found = found.ok_or_else(|| reference.not_found(&self.control.arns))?;
        let mut versions = self.control.catalog.versions(&reference.name).await?;
        match versions.first_mut() {
            Some(first) if first.version == Version::Latest => *first = found.deployment,
            Some(_) | None => versions.insert(0, found.deployment),
        }
        let after = page.after.as_deref().map(str::parse::<usize>).transpose();
        let after = after.map_err(|_| invalid("Invalid marker value."))?;
        let from = after.unwrap_or(0);
        let shown: Vec<Value> = versions
            .iter()
            .skip(from)
            .take(page.limit)
            .map(|deployment| {
                let version = deployment.version.to_string();
                let arns = &self.control.arns;
                members::document(deployment, Some(&version), &Progress::Active, arns)
            })
            .collect();
        let next = from + shown.len();
        let more = (next < versions.len()).then(|| next.to_string());
        Ok(page.document("Versions", shown, more))
    }
}

fn same(last: &Deployment, latest: &Deployment, description: &str) -> bool {
    let mut frozen = last.configuration.clone();
    frozen
        .description
        .clone_from(&latest.configuration.description);
    last.code == latest.code
        && last.lambda == latest.lambda
        && frozen == latest.configuration
        && last.configuration.description == description
}

/// GetAccountSettings.
impl Lambda {
    pub(super) async fn account_settings(&self) -> Result<Value, Error> {
        let functions = self.control.catalog.deployments().await?;
        let mut sizes = std::collections::HashMap::new();
        let mut count = 0_u64;
        for deployment in &functions {
            count += u64::from(deployment.version == Version::Latest);
            let package = deployment.lambda.package.as_ref();
            let (digest, size) = package
                .map_or((deployment.code, deployment.code_size), |package| {
                    (package.digest, package.size)
                });
            sizes.insert(digest, size);
        }
        let concurrency = self.control.invoke.concurrency();
        let reserved: u32 = self.reserved(None).await?;
        Ok(json!({
            "AccountLimit": {
                "TotalCodeSize": super::TOTAL_CODE_SIZE,
                "CodeSizeUnzipped": 262_144_000,
                "CodeSizeZipped": 52_428_800,
                "ConcurrentExecutions": concurrency,
                "UnreservedConcurrentExecutions": concurrency.saturating_sub(reserved),
            },
            "AccountUsage": {
                "TotalCodeSize": sizes.values().sum::<u64>(),
                "FunctionCount": count,
            },
        }))
    }
}
