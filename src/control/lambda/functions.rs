//! Functions: create, read, change, delete.

use std::sync::Arc;

use ::base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Lambda, Page,
    members::{self, Progress, revision_id},
    proposal::Proposal,
    reference::{Reference, conflict, invalid, precondition},
    tags,
};
use crate::{
    control::{
        aws::{Call, Error},
        code::{Package, PackageError},
        verbs::{now_ms, removal},
    },
    invoke::why_not_invocable,
    model::{
        self, Alias, Deployment, Digest, FunctionConfiguration, FunctionName, FunctionSettings,
        Kind, LambdaSettings, Qualifier, Version,
    },
    store::{Change, of_function},
};

/// A function as the API shows it, in whatever state.
pub(super) struct Found {
    pub(super) deployment: Deployment,
    pub(super) progress: Progress,
}

impl Found {
    /// Says why it is invoked by nothing but a distribution, if it is so.
    pub(super) fn check_invocable(&self) -> Result<(), Error> {
        match why_not_invocable(self.deployment.kind) {
            Some(why) => Err(invalid(format!("The function cannot be invoked: {why}."))),
            None => Ok(()),
        }
    }
}

/// Where code comes from (Lambda API, `FunctionCode`).
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Code {
    zip_file: Option<String>,
    s3_bucket: Option<String>,
    s3_key: Option<String>,
    s3_object_version: Option<String>,
    image_uri: Option<String>,
    #[serde(rename = "SourceKMSKeyArn")]
    source_kms_key_arn: Option<String>,
}

/// Code that is on the node.
struct Fetched {
    package: model::Package,
    code: Digest,
    code_size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    function_name: String,
    code: Code,
    #[serde(default)]
    publish: bool,
    #[serde(default)]
    tags: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateCode {
    function_name: String,
    #[serde(flatten)]
    code: Code,
    #[serde(default)]
    publish: bool,
    #[serde(default)]
    dry_run: bool,
    revision_id: Option<String>,
    architectures: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Named {
    pub(super) function_name: String,
    pub(super) qualifier: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    master_region: Option<String>,
    function_version: Option<String>,
    marker: Option<String>,
    max_items: Option<usize>,
}

impl Lambda {
    /// CreateFunction.
    pub(super) async fn create_function(self: &Arc<Self>, call: Call) -> Result<Value, Error> {
        let members = call.input.clone();
        if let Some(Value::Object(code)) = members.get("Code") {
            members::refuse_of_code(code)?;
        }
        let create: Create = call.read()?;
        let reference = self.reference(&create.function_name, None)?;
        let name = match reference {
            Reference {
                name,
                qualifier: None | Some(Qualifier::Version(Version::Latest)),
            } => name,
            Reference { .. } => {
                return Err(invalid("A new function has no versions and no aliases."));
            }
        };
        if self.find(&name).await?.is_some() {
            return Err(conflict(format!("Function already exist: {name}")));
        }
        let is_image = create.code.image_uri.is_some();
        let package_type = members.get("PackageType").and_then(Value::as_str);
        if is_image != (package_type == Some("Image")) {
            return Err(invalid(match is_image {
                true => "ImageUri needs PackageType Image.",
                false => "PackageType Image needs an ImageUri.",
            }));
        }
        let described = members.contains_key("Runtime") && members.contains_key("Handler");
        if !is_image && !described {
            return Err(invalid(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
            ));
        }
        self.check_role(&members).await?;
        members::check_vpc(&members, &self.control.vpc)?;
        let handler = members.get("Handler").and_then(Value::as_str);
        let mut configuration = FunctionConfiguration::default();
        let mut lambda = LambdaSettings::default();
        members::apply(
            &members,
            &self.control.arns,
            &mut configuration,
            &mut lambda,
        )?;
        configuration
            .validate()
            .map_err(|error| invalid(error.to_string()))?;
        let fetched = self.fetch(create.code, handler, "CreateFunction").await?;
        lambda.package = Some(fetched.package);
        let mut deployment = Deployment {
            name: name.clone(),
            version: Version::Latest,
            code: fetched.code,
            code_size: fetched.code_size,
            // Known when it is compiled.
            kind: Kind::Event,
            configuration,
            app: None,
            modified_ms: now_ms(),
            revision: 0,
            lambda,
        };
        self.apply_layers(&members, &mut deployment).await?;
        let publish = create
            .publish
            .then(|| (1, deployment.configuration.description.clone()));
        let proposal = Proposal::new(&deployment, publish, &self.control.sealer)?;
        let settings = FunctionSettings {
            tags: create.tags,
            ..FunctionSettings::new(name.clone())
        };
        tags::check(&settings.tags)?;
        let mut changes = vec![Change::put_expecting(&settings, 0)?];
        let signing = given(&members, "CodeSigningConfigArn");
        if let Some(arn) = signing.filter(|arn| !arn.is_empty()) {
            changes.push(self.tie(&name, arn).await?);
        }
        self.propose(proposal, changes).await?;
        let mut document = self.present(&name, None).await?;
        if create.publish {
            document["Version"] = "1".into();
            document["FunctionArn"] = self.control.arns.function(name.as_str(), Some(&1)).into();
        }
        Ok(document)
    }

    /// UpdateFunctionCode.
    pub(super) async fn update_function_code(self: &Arc<Self>, call: Call) -> Result<Value, Error> {
        members::refuse_of_code(&call.input)?;
        let update: UpdateCode = call.read()?;
        let (name, found) = self.changeable(&update.function_name).await?;
        let mut deployment = found.deployment;
        expect_revision(&deployment, update.revision_id.as_deref())?;
        let was_image = deployment.lambda.members.get("PackageType") == Some(&json!("Image"));
        if update.code.image_uri.is_some() != was_image {
            return Err(invalid(match was_image {
                true => "Please provide ImageUri when updating a function with packageType Image.",
                false => {
                    "Please don't provide ImageUri when updating a function with packageType Zip."
                }
            }));
        }
        let handler = deployment
            .lambda
            .members
            .get("Handler")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let fetched = self
            .fetch(update.code, handler.as_deref(), "UpdateFunctionCode")
            .await?;
        deployment.lambda.package = Some(fetched.package);
        deployment.code = fetched.code;
        deployment.code_size = fetched.code_size;
        deployment.modified_ms = now_ms();
        if let Some(architectures) = update.architectures {
            let members = &mut deployment.lambda.members;
            members.insert("Architectures".to_owned(), architectures);
        }
        self.compose(&mut deployment).await?;
        if update.dry_run {
            let arns = &self.control.arns;
            return Ok(members::document(
                &deployment,
                None,
                &Progress::Active,
                arns,
            ));
        }
        self.change(&name, &deployment, update.publish).await
    }

    /// UpdateFunctionConfiguration.
    pub(super) async fn update_function_configuration(
        self: &Arc<Self>,
        call: Call,
    ) -> Result<Value, Error> {
        let members = call.input.clone();
        let name = call.text("FunctionName").unwrap_or_default();
        let (name, found) = self.changeable(name).await?;
        let mut deployment = found.deployment;
        let expected = members.get("RevisionId").and_then(Value::as_str);
        expect_revision(&deployment, expected)?;
        self.check_role(&members).await?;
        members::check_vpc(&members, &self.control.vpc)?;
        members::apply(
            &members,
            &self.control.arns,
            &mut deployment.configuration,
            &mut deployment.lambda,
        )?;
        deployment
            .configuration
            .validate()
            .map_err(|error| invalid(error.to_string()))?;
        if members.contains_key("Handler") {
            self.choose_component(&mut deployment).await?;
        }
        self.apply_layers(&members, &mut deployment).await?;
        deployment.modified_ms = now_ms();
        self.change(&name, &deployment, false).await
    }

    /// GetFunction.
    pub(super) async fn get_function(&self, call: Call) -> Result<Value, Error> {
        let authority = call.authority.clone();
        let named: Named = call.read()?;
        let reference = self.reference(&named.function_name, named.qualifier.as_deref())?;
        let found = self.resolve(&reference).await?;
        let settings = self.settings(&reference.name).await?;
        let mut document = json!({
            "Configuration": self.document_of(&found, &reference),
            "Code": self.code_of(&found.deployment, &authority),
        });
        if !settings.tags.is_empty() {
            document["Tags"] = json!(settings.tags);
        }
        let reserved = settings
            .concurrency
            .or(found.deployment.configuration.concurrency);
        if let Some(concurrency) = reserved {
            document["Concurrency"] = json!({"ReservedConcurrentExecutions": concurrency});
        }
        Ok(document)
    }

    /// GetFunctionConfiguration.
    pub(super) async fn get_function_configuration(&self, call: Call) -> Result<Value, Error> {
        let named: Named = call.read()?;
        let reference = self.reference(&named.function_name, named.qualifier.as_deref())?;
        let found = self.resolve(&reference).await?;
        Ok(self.document_of(&found, &reference))
    }

    /// ListFunctions.
    pub(super) async fn list_functions(&self, call: Call) -> Result<Value, Error> {
        let list: List = call.read()?;
        let all_versions = list.function_version.as_deref() == Some("ALL");
        let here = |region: &str| region == "ALL" || region == self.control.arns.region;
        if list.master_region.is_some_and(|region| !here(&region)) {
            return Ok(json!({"Functions": []}));
        }
        let page = Page::new(list.marker.as_deref(), list.max_items)?;
        let after = page.after.as_deref().map(str::parse::<FunctionName>);
        let after = after
            .transpose()
            .map_err(|_| invalid("Invalid marker value."))?;
        // One more than is shown tells whether there is another page.
        let limit = page.limit + 1;
        let catalog = &self.control.catalog;
        let mut found: Vec<Found> = catalog
            .functions(after.as_ref(), limit)
            .await?
            .into_iter()
            .map(|deployment| Found {
                deployment,
                progress: Progress::Active,
            })
            .collect();
        for proposal in catalog.list::<Proposal>("", None, usize::MAX).await? {
            let proposal = proposal.value;
            if after.as_ref().is_some_and(|after| proposal.name <= *after) {
                continue;
            }
            let progress = proposal.progress();
            match found
                .iter_mut()
                .find(|found| found.deployment.name == proposal.name)
            {
                Some(found) => found.progress = progress,
                None if proposal.base == 0 => found.push(Found {
                    deployment: proposal.deployment(Kind::Event, &self.control.sealer)?,
                    progress,
                }),
                None => {}
            }
        }
        found.sort_by(|one, other| one.deployment.name.cmp(&other.deployment.name));
        let more = found.len() > page.limit;
        found.truncate(page.limit);
        let last = found.last().map(|found| found.deployment.name.to_string());
        let mut documents = Vec::new();
        for found in &found {
            let arns = &self.control.arns;
            let latest = all_versions.then_some("$LATEST");
            let mut document = members::document(&found.deployment, latest, &found.progress, arns);
            // Lists do not tell how far a function is (Lambda API, ListFunctions).
            strip_progress(&mut document);
            documents.push(document);
            if all_versions {
                for version in catalog.versions(&found.deployment.name).await? {
                    if version.version != Version::Latest {
                        let mut document =
                            members::document(&version, None, &Progress::Active, arns);
                        strip_progress(&mut document);
                        documents.push(document);
                    }
                }
            }
        }
        Ok(page.document("Functions", documents, more.then_some(last).flatten()))
    }

    /// DeleteFunction.
    pub(super) async fn delete_function(&self, call: Call) -> Result<Value, Error> {
        let named: Named = call.read()?;
        let reference = self.reference(&named.function_name, named.qualifier.as_deref())?;
        let name = &reference.name;
        match &reference.qualifier {
            None => {
                if self.find(name).await?.is_none() {
                    return Err(reference.not_found(&self.control.arns));
                }
                let deployed = self.control.catalog.versions(name).await?;
                self.apply(removal(name, &deployed)).await?;
            }
            Some(Qualifier::Version(Version::Latest)) => {
                return Err(invalid(
                    "$LATEST version cannot be deleted without deleting the function.",
                ));
            }
            Some(Qualifier::Alias(_)) => {
                return Err(invalid("Deletion of aliases is not currently supported."));
            }
            Some(Qualifier::Version(version)) => self.delete_version(&reference, *version).await?,
        }
        Ok(json!({"StatusCode": 204}))
    }

    async fn delete_version(&self, reference: &Reference, version: Version) -> Result<(), Error> {
        let name = &reference.name;
        let catalog = &self.control.catalog;
        if catalog.deployment(name, version).await?.is_none() {
            return Err(reference.not_found(&self.control.arns));
        }
        let aliases = catalog
            .list::<Alias>(&of_function(name), None, usize::MAX)
            .await?;
        let leading: Vec<String> = aliases
            .into_iter()
            .map(|alias| alias.value)
            .filter(|alias| {
                alias.version == version || alias.additional.is_some_and(|(v, _)| v == version)
            })
            .map(|alias| alias.name)
            .collect();
        if !leading.is_empty() {
            return Err(conflict(format!(
                "Version {version} is currently referenced by one or more aliases ({}).",
                leading.join(", ")
            )));
        }
        let documents = crate::control::verbs::OF_FUNCTIONS
            .iter()
            .map(|kind| Change::Delete {
                kind,
                key: format!("{name}/{version}"),
                expected: None,
            });
        let mut changes: Vec<Change> = documents.collect();
        changes.push(Change::Remove {
            name: name.clone(),
            version,
        });
        self.apply(changes).await
    }

    /// A function whose `$LATEST` may be changed now.
    async fn changeable(&self, text: &str) -> Result<(FunctionName, Found), Error> {
        let reference = self.reference(text, None)?;
        if reference.version() != Some(Version::Latest) {
            return Err(invalid(format!(
                "Only $LATEST can be changed, and not {}.",
                reference.arn(&self.control.arns)
            )));
        }
        let name = reference.name.clone();
        let found = self.find(&name).await?;
        let mut found = found.ok_or_else(|| reference.not_found(&self.control.arns))?;
        match found.progress {
            Progress::Creating | Progress::Updating => return Err(self.busy(&name)),
            Progress::UpdateFailed(_) => {
                // What failed is not what the next change begins from.
                let latest = self.control.catalog.deployment(&name, Version::Latest);
                if let Some(deployment) = latest.await? {
                    found.deployment = deployment;
                }
            }
            Progress::Active | Progress::CreateFailed(_) => {}
        }
        Ok((name, found))
    }

    /// Has a changed `$LATEST` made ready and served.
    async fn change(
        self: &Arc<Self>,
        name: &FunctionName,
        deployment: &Deployment,
        publish: bool,
    ) -> Result<Value, Error> {
        let number = self.settings(name).await?.last_version + 1;
        let publication = publish.then(|| (number, deployment.configuration.description.clone()));
        let proposal = Proposal::new(deployment, publication, &self.control.sealer)?;
        self.propose(proposal, Vec::new()).await?;
        let mut document = self.present(name, None).await?;
        if publish {
            document["Version"] = number.to_string().into();
            document["FunctionArn"] = self
                .control
                .arns
                .function(name.as_str(), Some(&number))
                .into();
        }
        Ok(document)
    }

    /// `$LATEST` as it is now, or is about to be.
    pub(super) async fn find(&self, name: &FunctionName) -> Result<Option<Found>, Error> {
        let catalog = &self.control.catalog;
        // In this order: what is proposed becomes what is deployed, and is not looked for where it was a moment ago.
        let proposal = catalog.get::<Proposal>(&of_function(name)).await?;
        let latest = catalog.deployment(name, Version::Latest).await?;
        let Some(proposal) = proposal.map(|proposal| proposal.value) else {
            return Ok(latest.map(|deployment| Found {
                deployment,
                progress: Progress::Active,
            }));
        };
        let progress = proposal.progress();
        // Of an update that failed nothing is in force.
        let deployment = match (latest, &progress) {
            (Some(latest), Progress::UpdateFailed(_)) => latest,
            (latest, _) => {
                let kind = latest.map_or(Kind::Event, |latest| latest.kind);
                proposal.deployment(kind, &self.control.sealer)?
            }
        };
        Ok(Some(Found {
            deployment,
            progress,
        }))
    }

    /// What a reference leads to.
    pub(super) async fn resolve(&self, reference: &Reference) -> Result<Found, Error> {
        let not_found = || reference.not_found(&self.control.arns);
        let catalog = &self.control.catalog;
        let version = match &reference.qualifier {
            None => Version::Latest,
            Some(Qualifier::Version(version)) => *version,
            Some(Qualifier::Alias(alias)) => {
                let key = format!("{}/{alias}", reference.name);
                let alias = catalog.get::<Alias>(&key).await?;
                alias.ok_or_else(not_found)?.value.version
            }
        };
        if version == Version::Latest {
            return self.find(&reference.name).await?.ok_or_else(not_found);
        }
        let deployment = catalog.deployment(&reference.name, version).await?;
        Ok(Found {
            deployment: deployment.ok_or_else(not_found)?,
            progress: Progress::Active,
        })
    }

    pub(super) async fn present(
        &self,
        name: &FunctionName,
        qualifier: Option<&str>,
    ) -> Result<Value, Error> {
        let reference = self.reference(name.as_str(), qualifier)?;
        let found = self.resolve(&reference).await?;
        Ok(self.document_of(&found, &reference))
    }

    pub(super) fn document_of(&self, found: &Found, reference: &Reference) -> Value {
        let qualifier = reference.qualifier.as_ref().map(ToString::to_string);
        members::document(
            &found.deployment,
            qualifier.as_deref(),
            &found.progress,
            &self.control.arns,
        )
    }

    /// Where the code is (Lambda API, `FunctionCodeLocation`).
    fn code_of(&self, deployment: &Deployment, authority: &str) -> Value {
        let package = deployment.lambda.package.as_ref();
        if let Some((image, resolved)) = package.and_then(|package| package.image.as_ref()) {
            return json!({"RepositoryType": "ECR", "ImageUri": image, "ResolvedImageUri": resolved});
        }
        let digest = package.map_or(deployment.code, |package| package.digest);
        json!({"RepositoryType": "S3", "Location": self.downloads.link(authority, &digest)})
    }

    /// Gets code to the node: the package as it came, and the component in it.
    async fn fetch(
        &self,
        code: Code,
        handler: Option<&str>,
        operation: &'static str,
    ) -> Result<Fetched, Error> {
        if code.source_kms_key_arn.is_some_and(|arn| !arn.is_empty()) {
            return Err(invalid(
                "Wharf cannot honour SourceKMSKeyArn: this node has no KMS.",
            ));
        }
        let sources = [
            code.zip_file.is_some(),
            code.s3_bucket.is_some() || code.s3_key.is_some(),
            code.image_uri.is_some(),
        ];
        if sources.iter().filter(|given| **given).count() != 1 {
            return Err(invalid(
                "Please provide a source for function code: either ZipFile, or S3Bucket and S3Key, or ImageUri.",
            ));
        }
        let mut image = None;
        let bytes: Bytes = if let Some(zip) = code.zip_file {
            let bytes = BASE64_STANDARD
                .decode(zip)
                .map_err(|_| Error::new("SerializationException", "ZipFile is not base64."))?;
            Package::check_upload(&bytes, operation).map_err(|error| package_error(&error))?;
            bytes.into()
        } else if let Some(uri) = code.image_uri {
            let (bytes, resolved) = self.pull_image(&uri).await?;
            image = Some((uri, resolved));
            bytes
        } else {
            let bucket = code.s3_bucket.unwrap_or_default();
            let key = code.s3_key.unwrap_or_default();
            self.fetch_from_s3(&bucket, &key, code.s3_object_version.as_deref())
                .await?
        };
        let size = bytes.len() as u64;
        let handler = handler.map(str::to_owned);
        let whole = bytes.clone();
        let package = tokio::task::spawn_blocking(move || Package::open(whole, handler.as_deref()))
            .await
            .map_err(|error| Error::internal(&error))?
            .map_err(|error| package_error(&error))?;
        let code_size = package.component.len() as u64;
        let code = self.control.blobs.put(package.component).await?;
        let digest = self.control.blobs.put(bytes).await?;
        Ok(Fetched {
            package: model::Package {
                digest,
                size,
                image,
            },
            code,
            code_size,
        })
    }

    /// Of a package with several components, the one that the handler names now.
    async fn choose_component(&self, deployment: &mut Deployment) -> Result<(), Error> {
        let handler = deployment.lambda.members.get("Handler");
        let handler = handler.and_then(Value::as_str).map(str::to_owned);
        let Some(package) = &deployment.lambda.package else {
            return Ok(());
        };
        if package.image.is_some() {
            return Ok(());
        }
        let Some(bytes) = self.control.blobs.read(&package.digest).await? else {
            return Ok(());
        };
        let package = tokio::task::spawn_blocking(move || Package::open(bytes, handler.as_deref()))
            .await
            .map_err(|error| Error::internal(&error))?
            .map_err(|error| package_error(&error))?;
        deployment.code_size = package.component.len() as u64;
        deployment.code = self.control.blobs.put(package.component).await?;
        self.compose(deployment).await
    }
}

/// What is wrong with a package, in Lambda's words.
pub(super) fn package_error(error: &PackageError) -> Error {
    match error {
        PackageError::TooLarge { .. } => {
            Error::new("RequestEntityTooLargeException", error.to_string())
        }
        PackageError::Empty
        | PackageError::Archive(_)
        | PackageError::Module { .. }
        | PackageError::NoComponent
        | PackageError::Ambiguous { .. } => invalid(error.to_string()),
    }
}

fn expect_revision(deployment: &Deployment, expected: Option<&str>) -> Result<(), Error> {
    let Some(expected) = expected else {
        return Ok(());
    };
    let key = format!("{}:{}", deployment.name, deployment.version);
    match revision_id("function", &key, deployment.revision) == expected {
        true => Ok(()),
        false => Err(precondition("Function")),
    }
}

fn strip_progress(document: &mut Value) {
    if let Value::Object(members) = document {
        members.retain(|name, _| !name.starts_with("State") && !name.starts_with("LastUpdate"));
    }
}

/// Members of a call that may be there.
pub(super) fn given<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str)
}
