//! Aliases: names for versions, and the shares of two.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Lambda, Page,
    members::revision_id,
    reference::{Reference, conflict, invalid, not_found, precondition},
};
use crate::{
    control::aws::{Call, Error},
    model::{Alias, FunctionName, Qualifier, Version},
    store::{Change, Resource as _, Stored, of_function},
};

/// CreateAlias and UpdateAlias.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wanted {
    function_name: String,
    name: String,
    function_version: Option<String>,
    description: Option<String>,
    routing_config: Option<Routing>,
    revision_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Routing {
    #[serde(default)]
    additional_version_weights: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    function_name: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    function_name: String,
    function_version: Option<String>,
    marker: Option<String>,
    max_items: Option<usize>,
}

impl Lambda {
    /// CreateAlias.
    pub(super) async fn create_alias(&self, call: Call) -> Result<Value, Error> {
        let wanted: Wanted = call.read()?;
        let name = self.alias_function(&wanted.function_name).await?;
        let version = wanted.function_version.unwrap_or_default();
        let mut alias = Alias {
            version: self.alias_version(&name, &version).await?,
            function: name,
            name: wanted.name,
            additional: None,
            description: wanted.description.unwrap_or_default(),
        };
        if let Some(routing) = wanted.routing_config {
            alias.additional = self.additional(&alias, routing).await?;
        }
        let key = alias.key();
        if self.control.catalog.get::<Alias>(&key).await?.is_some() {
            let arn = self.alias_arn(&alias);
            return Err(conflict(format!("Alias already exists: {arn}")));
        }
        self.apply(vec![Change::put_expecting(&alias, 0)?]).await?;
        let stored = self.alias(&alias.function, &alias.name).await?;
        Ok(self.alias_document(&stored))
    }

    /// UpdateAlias.
    pub(super) async fn update_alias(&self, call: Call) -> Result<Value, Error> {
        let wanted: Wanted = call.read()?;
        let name = self.alias_function(&wanted.function_name).await?;
        let Stored {
            revision,
            value: mut alias,
        } = self.alias(&name, &wanted.name).await?;
        let present = revision_id("alias", &alias.key(), revision);
        if wanted.revision_id.is_some_and(|wanted| wanted != present) {
            return Err(precondition("Alias"));
        }
        if let Some(version) = wanted.function_version {
            alias.version = self.alias_version(&name, &version).await?;
        }
        if let Some(description) = wanted.description {
            alias.description = description;
        }
        if let Some(routing) = wanted.routing_config {
            alias.additional = self.additional(&alias, routing).await?;
        } else if let Some((version, _)) = alias.additional
            && version == alias.version
        {
            return Err(invalid(
                "The alias's version and its additional version must differ.",
            ));
        }
        let change = Change::put_expecting(&alias, revision)?;
        self.apply(vec![change]).await?;
        let stored = self.alias(&alias.function, &alias.name).await?;
        Ok(self.alias_document(&stored))
    }

    /// GetAlias.
    pub(super) async fn get_alias(&self, call: Call) -> Result<Value, Error> {
        let named: Named = call.read()?;
        let name = self.alias_function(&named.function_name).await?;
        Ok(self.alias_document(&self.alias(&name, &named.name).await?))
    }

    /// DeleteAlias. One that is not there is no error.
    pub(super) async fn delete_alias(&self, call: Call) -> Result<Value, Error> {
        let named: Named = call.read()?;
        let name = self.alias_function(&named.function_name).await?;
        let key = format!("{name}/{}", named.name);
        let of_alias = crate::control::verbs::OF_FUNCTIONS.iter();
        let changes = of_alias.map(|kind| Change::Delete {
            kind,
            key: key.clone(),
            expected: None,
        });
        self.apply(changes.collect()).await?;
        Ok(Value::Null)
    }

    /// ListAliases.
    pub(super) async fn list_aliases(&self, call: Call) -> Result<Value, Error> {
        let list: List = call.read()?;
        let name = self.alias_function(&list.function_name).await?;
        let page = Page::new(list.marker.as_deref(), list.max_items)?;
        let prefix = of_function(&name);
        let after = page.after.as_ref().map(|after| format!("{prefix}{after}"));
        let aliases = self
            .control
            .catalog
            .list::<Alias>(&prefix, after.as_deref(), usize::MAX)
            .await?;
        let leads = |alias: &Alias, version: &str| {
            alias.version.to_string() == version
                || alias
                    .additional
                    .is_some_and(|(additional, _)| additional.to_string() == version)
        };
        let mut shown: Vec<_> = aliases
            .into_iter()
            .filter(|alias| {
                list.function_version
                    .as_ref()
                    .is_none_or(|version| leads(&alias.value, version))
            })
            .collect();
        let more = shown.len() > page.limit;
        shown.truncate(page.limit);
        let last = shown.last().map(|alias| alias.value.name.clone());
        let documents = shown.iter().map(|alias| self.alias_document(alias));
        Ok(page.document(
            "Aliases",
            documents.collect(),
            more.then_some(last).flatten(),
        ))
    }

    /// A function that may have aliases. Its versions have none.
    async fn alias_function(&self, text: &str) -> Result<FunctionName, Error> {
        let reference = self.reference(text, None)?;
        self.existing(&reference).await?;
        Ok(reference.name)
    }

    async fn alias(&self, name: &FunctionName, alias: &str) -> Result<Stored<Alias>, Error> {
        let key = format!("{name}/{alias}");
        let stored = self.control.catalog.get::<Alias>(&key).await?;
        stored.ok_or_else(|| {
            let arn = self.control.arns.function(name.as_str(), Some(&alias));
            not_found(format!("Cannot find alias arn: {arn}"))
        })
    }

    async fn alias_version(&self, name: &FunctionName, text: &str) -> Result<Version, Error> {
        let reference = Reference {
            name: name.clone(),
            qualifier: text.parse().ok(),
        };
        match &reference.qualifier {
            Some(Qualifier::Version(version)) => {
                self.resolve(&reference).await?;
                Ok(*version)
            }
            Some(Qualifier::Alias(_)) | None => {
                Err(invalid(format!("`{text}` is no version of a function.")))
            }
        }
    }

    async fn additional(
        &self,
        alias: &Alias,
        routing: Routing,
    ) -> Result<Option<(Version, f64)>, Error> {
        let mut weights = routing.additional_version_weights.into_iter();
        let Some((version, weight)) = weights.next() else {
            return Ok(None);
        };
        if weights.next().is_some() {
            return Err(invalid(
                "Number of items in AdditionalVersionWeights cannot be greater than 1",
            ));
        }
        if !(0.0..=1.0).contains(&weight) {
            return Err(invalid(format!(
                "Weight {weight} of version {version} is not from 0.0 to 1.0."
            )));
        }
        let version = self.alias_version(&alias.function, &version).await?;
        if alias.version == Version::Latest || version == Version::Latest {
            return Err(invalid(
                "$LATEST is not supported for an alias pointing to more than 1 version",
            ));
        }
        if version == alias.version {
            return Err(invalid(
                "The alias's version and its additional version must differ.",
            ));
        }
        Ok(Some((version, weight)))
    }

    fn alias_arn(&self, alias: &Alias) -> String {
        self.control
            .arns
            .function(alias.function.as_str(), Some(&alias.name))
    }

    fn alias_document(&self, stored: &Stored<Alias>) -> Value {
        let alias = &stored.value;
        let mut document = json!({
            "AliasArn": self.alias_arn(alias),
            "Name": alias.name,
            "FunctionVersion": alias.version.to_string(),
            "Description": alias.description,
            "RevisionId": revision_id("alias", &alias.key(), stored.revision),
        });
        if let Some((version, weight)) = alias.additional {
            document["RoutingConfig"] =
                json!({"AdditionalVersionWeights": {version.to_string(): weight}});
        }
        document
    }
}
