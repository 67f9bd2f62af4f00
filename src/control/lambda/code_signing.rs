//! Code signing configurations: stored and listed, and functions tied to them.
//!
//! Wharf has no signatures of code to check. So a configuration that only warns is taken, and one that enforces is refused:
//! who asks that unsigned code be kept out must not be told that it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Lambda, Page,
    members::time,
    reference::{Reference, conflict, invalid, not_found},
    tags,
};
use crate::{
    control::{
        aws::{Call, Error},
        verbs::now_ms,
    },
    model::FunctionName,
    store::{Change, Resource, Stored, of_function},
};

/// A configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct CodeSigningConfig {
    /// `csc-` and 17 letters and digits.
    id: String,
    description: Option<String>,
    publishers: Vec<String>,
    modified_ms: u64,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
}

impl Resource for CodeSigningConfig {
    const KIND: &'static str = "code-signing-config";

    fn key(&self) -> String {
        self.id.clone()
    }
}

/// Ties a function to a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::control) struct FunctionCodeSigning {
    function: FunctionName,
    config: String,
}

impl Resource for FunctionCodeSigning {
    const KIND: &'static str = "function-code-signing";

    fn key(&self) -> String {
        of_function(&self.function)
    }
}

/// Create and Update.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wanted {
    code_signing_config_arn: Option<String>,
    description: Option<String>,
    allowed_publishers: Option<Publishers>,
    code_signing_policies: Option<Policies>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Publishers {
    signing_profile_version_arns: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Policies {
    untrusted_artifact_on_deployment: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    code_signing_config_arn: Option<String>,
    marker: Option<String>,
    max_items: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfFunction {
    function_name: String,
    code_signing_config_arn: Option<String>,
}

impl Wanted {
    fn check(&self) -> Result<(), Error> {
        let policies = self.code_signing_policies.as_ref();
        let policy =
            policies.and_then(|policies| policies.untrusted_artifact_on_deployment.as_deref());
        match policy {
            Some("Enforce") => Err(invalid(
                "Wharf cannot honour UntrustedArtifactOnDeployment Enforce: it does not check signatures of code. Warn is taken, \
                 and stored.",
            )),
            _ => Ok(()),
        }
    }
}

impl Lambda {
    /// CreateCodeSigningConfig.
    pub(super) async fn create_code_signing(&self, call: Call) -> Result<Value, Error> {
        let wanted: Wanted = call.read()?;
        wanted.check()?;
        let publishers = wanted
            .allowed_publishers
            .map(|allowed| allowed.signing_profile_version_arns);
        let config = CodeSigningConfig {
            id: new_id(),
            description: wanted.description,
            publishers: publishers.unwrap_or_default(),
            modified_ms: now_ms(),
            tags: wanted.tags,
        };
        tags::check(&config.tags)?;
        self.apply(vec![Change::put_expecting(&config, 0)?]).await?;
        Ok(json!({"CodeSigningConfig": self.code_signing_document(&config)}))
    }

    /// UpdateCodeSigningConfig: what the call does not say stays as it is.
    pub(super) async fn update_code_signing(&self, call: Call) -> Result<Value, Error> {
        let wanted: Wanted = call.read()?;
        wanted.check()?;
        let arn = wanted.code_signing_config_arn.unwrap_or_default();
        let Stored {
            revision,
            mut value,
        } = self.code_signing(&arn).await?;
        value.description = wanted.description.or(value.description);
        if let Some(publishers) = wanted.allowed_publishers {
            value.publishers = publishers.signing_profile_version_arns;
        }
        value.modified_ms = now_ms();
        self.apply(vec![Change::put_expecting(&value, revision)?])
            .await?;
        Ok(json!({"CodeSigningConfig": self.code_signing_document(&value)}))
    }

    /// GetCodeSigningConfig.
    pub(super) async fn get_code_signing(&self, call: Call) -> Result<Value, Error> {
        let arn = call.text("CodeSigningConfigArn").unwrap_or_default();
        let stored = self.code_signing(arn).await?;
        Ok(json!({"CodeSigningConfig": self.code_signing_document(&stored.value)}))
    }

    /// DeleteCodeSigningConfig. One that a function is tied to stays.
    pub(super) async fn delete_code_signing(&self, call: Call) -> Result<Value, Error> {
        let arn = call.text("CodeSigningConfigArn").unwrap_or_default();
        let Stored { revision, value } = self.code_signing(arn).await?;
        if !self.tied(&value.id, None).await?.is_empty() {
            return Err(conflict(
                "Cannot delete the code signing configuration, because it is associated with Lambda functions. Remove the code \
                 signing configuration from all functions before deleting it.",
            ));
        }
        self.apply(vec![Change::Delete {
            kind: CodeSigningConfig::KIND,
            key: value.id,
            expected: Some(revision),
        }])
        .await?;
        Ok(json!({}))
    }

    /// ListCodeSigningConfigs.
    pub(super) async fn list_code_signing(&self, call: Call) -> Result<Value, Error> {
        let list: List = call.read()?;
        let page = Page::new(list.marker.as_deref(), list.max_items)?;
        let mut configs = self
            .control
            .catalog
            .list::<CodeSigningConfig>("", page.after.as_deref(), page.limit + 1)
            .await?;
        let more = configs.len() > page.limit;
        configs.truncate(page.limit);
        let documents = configs
            .iter()
            .map(|config| self.code_signing_document(&config.value))
            .collect();
        let last = configs.pop().map(|config| config.value.id);
        Ok(page.document(
            "CodeSigningConfigs",
            documents,
            more.then_some(last).flatten(),
        ))
    }

    /// ListFunctionsByCodeSigningConfig.
    pub(super) async fn list_functions_by_code_signing(&self, call: Call) -> Result<Value, Error> {
        let list: List = call.read()?;
        let arn = list.code_signing_config_arn.unwrap_or_default();
        let config = self.code_signing(&arn).await?.value;
        let page = Page::new(list.marker.as_deref(), list.max_items)?;
        let mut tied = self.tied(&config.id, page.after.as_deref()).await?;
        let more = tied.len() > page.limit;
        tied.truncate(page.limit);
        let arns = tied
            .iter()
            .map(|tie| {
                self.control
                    .arns
                    .function(tie.function.as_str(), None)
                    .into()
            })
            .collect();
        let last = tied.pop().map(|tie| tie.key());
        Ok(page.document("FunctionArns", arns, more.then_some(last).flatten()))
    }

    /// PutFunctionCodeSigningConfig.
    pub(super) async fn put_function_code_signing(&self, call: Call) -> Result<Value, Error> {
        let (reference, arn) = self.code_signing_of(call)?;
        let arn = arn.unwrap_or_default();
        let tie = self.tie(&reference.name, &arn).await?;
        self.existing(&reference).await?;
        self.apply(vec![tie]).await?;
        Ok(json!({"CodeSigningConfigArn": arn, "FunctionName": reference.name}))
    }

    /// What ties a function to a configuration.
    pub(super) async fn tie(&self, function: &FunctionName, arn: &str) -> Result<Change, Error> {
        match self.code_signing(arn).await {
            Ok(config) => Ok(Change::put(&FunctionCodeSigning {
                function: function.clone(),
                config: config.value.id,
            })?),
            Err(error) if error.name == "ResourceNotFoundException" => {
                let message = format!(
                    "The code signing configuration cannot be found. Check that the provided configuration is not deleted: {arn}."
                );
                Err(Error::new("CodeSigningConfigNotFoundException", message).with("Type", "User"))
            }
            Err(error) => Err(error),
        }
    }

    /// GetFunctionCodeSigningConfig. A function without one gets an empty answer.
    pub(super) async fn get_function_code_signing(&self, call: Call) -> Result<Value, Error> {
        let (reference, _) = self.code_signing_of(call)?;
        self.existing(&reference).await?;
        let key = of_function(&reference.name);
        let tie = self
            .control
            .catalog
            .get::<FunctionCodeSigning>(&key)
            .await?;
        Ok(match tie {
            Some(Stored { value, .. }) => json!({
                "CodeSigningConfigArn": self.code_signing_arn(&value.config),
                "FunctionName": reference.name,
            }),
            // The model wants both members, and Lambda leaves both out.
            None => json!({}),
        })
    }

    /// DeleteFunctionCodeSigningConfig.
    pub(super) async fn delete_function_code_signing(&self, call: Call) -> Result<Value, Error> {
        let (reference, _) = self.code_signing_of(call)?;
        self.existing(&reference).await?;
        let key = of_function(&reference.name);
        self.apply(vec![Change::delete::<FunctionCodeSigning>(key)])
            .await?;
        Ok(Value::Null)
    }

    fn code_signing_of(&self, call: Call) -> Result<(Reference, Option<String>), Error> {
        let of_function: OfFunction = call.read()?;
        let reference = self.reference(&of_function.function_name, None)?;
        Ok((reference, of_function.code_signing_config_arn))
    }

    /// The functions that are tied to a configuration, by name.
    async fn tied(&self, id: &str, after: Option<&str>) -> Result<Vec<FunctionCodeSigning>, Error> {
        let ties = self
            .control
            .catalog
            .list::<FunctionCodeSigning>("", after, usize::MAX)
            .await?;
        let ties = ties.into_iter().map(|tie| tie.value);
        Ok(ties.filter(|tie| tie.config == id).collect())
    }

    pub(super) async fn code_signing(&self, arn: &str) -> Result<Stored<CodeSigningConfig>, Error> {
        let missing = || {
            not_found(format!(
                "The Lambda code signing configuration {arn} can not be found."
            ))
        };
        let prefix = self.code_signing_arn("");
        let id = arn.strip_prefix(&prefix).ok_or_else(missing)?;
        let stored = self.control.catalog.get::<CodeSigningConfig>(id).await?;
        stored.ok_or_else(missing)
    }

    fn code_signing_arn(&self, id: &str) -> String {
        let resource = format_args!("code-signing-config:{id}");
        self.control.arns.of("lambda", resource)
    }

    fn code_signing_document(&self, config: &CodeSigningConfig) -> Value {
        let mut document = json!({
            "CodeSigningConfigId": config.id,
            "CodeSigningConfigArn": self.code_signing_arn(&config.id),
            "AllowedPublishers": {"SigningProfileVersionArns": config.publishers},
            "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn"},
            "LastModified": time(config.modified_ms),
        });
        if let Some(description) = &config.description {
            document["Description"] = description.as_str().into();
        }
        document
    }
}

/// A new id: `csc-` and 17 of the digits of a random number.
fn new_id() -> String {
    let random = crate::model::RequestId::generate().to_string();
    let digits = random.chars().filter(|digit| *digit != '-').take(17);
    format!("csc-{}", digits.collect::<String>())
}
