//! Concurrency: reserved for a function, and provisioned for its versions and aliases; and what ends recursion.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Lambda, Page,
    functions::Named,
    members::time,
    reference::{Reference, invalid, not_found},
};
use crate::{
    control::{
        aws::{Call, Error},
        verbs::now_ms,
    },
    model::{FunctionSettings, ProvisionedConcurrency, Qualifier, RecursiveLoop, Version},
    store::{Change, Stored, of_function},
};

/// What has to be left for functions that have nothing reserved (Lambda API, PutFunctionConcurrency).
const UNRESERVED: u32 = 100;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutReserved {
    function_name: String,
    reserved_concurrent_executions: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutProvisioned {
    function_name: String,
    qualifier: String,
    provisioned_concurrent_executions: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    function_name: String,
    marker: Option<String>,
    max_items: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecursion {
    function_name: String,
    recursive_loop: RecursiveLoop,
}

impl Lambda {
    /// PutFunctionConcurrency.
    pub(super) async fn put_concurrency(&self, call: Call) -> Result<Value, Error> {
        let put: PutReserved = call.read()?;
        let reference = self.unqualified(&put.function_name).await?;
        let wanted = put.reserved_concurrent_executions;
        let node = self.control.invoke.concurrency();
        let others = self.reserved(Some(&reference)).await?;
        // A node whose own limit is small has no hundred to spare.
        let spare = UNRESERVED.min(node / 2);
        if wanted.saturating_add(others).saturating_add(spare) > node && wanted > 0 {
            return Err(invalid(format!(
                "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below \
                 its minimum value of [{spare}]."
            )));
        }
        self.update_settings(&reference, |settings| settings.concurrency = Some(wanted))
            .await?;
        Ok(json!({"ReservedConcurrentExecutions": wanted}))
    }

    /// GetFunctionConcurrency.
    pub(super) async fn get_concurrency(&self, call: Call) -> Result<Value, Error> {
        let named: Named = call.read()?;
        let reference = self.unqualified(&named.function_name).await?;
        let settings = self.settings(&reference.name).await?;
        Ok(match settings.concurrency {
            Some(concurrency) => json!({"ReservedConcurrentExecutions": concurrency}),
            None => json!({}),
        })
    }

    /// DeleteFunctionConcurrency.
    pub(super) async fn delete_concurrency(&self, call: Call) -> Result<Value, Error> {
        let named: Named = call.read()?;
        let reference = self.unqualified(&named.function_name).await?;
        self.update_settings(&reference, |settings| settings.concurrency = None)
            .await?;
        Ok(Value::Null)
    }

    /// What is reserved, but for one function.
    pub(super) async fn reserved(&self, but: Option<&Reference>) -> Result<u32, Error> {
        let settings = self
            .control
            .catalog
            .list::<FunctionSettings>("", None, usize::MAX)
            .await?;
        let others = settings
            .iter()
            .map(|settings| &settings.value)
            .filter(|settings| but.is_none_or(|but| but.name != settings.name));
        Ok(others.filter_map(|settings| settings.concurrency).sum())
    }

    /// PutProvisionedConcurrencyConfig.
    pub(super) async fn put_provisioned(&self, call: Call) -> Result<Value, Error> {
        let put: PutProvisioned = call.read()?;
        let reference = self
            .provisionable(&put.function_name, &put.qualifier)
            .await?;
        let wanted = put.provisioned_concurrent_executions;
        let slots = self.control.runtime.slots();
        if wanted as usize > slots {
            return Err(invalid(format!(
                "Requested Provisioned Concurrency should not be greater than the {slots} instance slots of this node."
            )));
        }
        let reserved = self.settings(&reference.name).await?.concurrency;
        if let Some(reserved) = reserved.filter(|reserved| wanted > *reserved) {
            return Err(invalid(format!(
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function \
                 ({reserved})."
            )));
        }
        let qualifier = reference.qualifier.clone().unwrap_or_default();
        let provisioned = ProvisionedConcurrency {
            function: reference.name.clone(),
            qualifier,
            instances: wanted,
            modified_ms: now_ms(),
        };
        self.apply(vec![Change::put(&provisioned)?]).await?;
        Ok(self.provisioned_document(&provisioned))
    }

    /// GetProvisionedConcurrencyConfig.
    pub(super) async fn get_provisioned(&self, call: Call) -> Result<Value, Error> {
        let named: Named = call.read()?;
        let qualifier = named.qualifier.unwrap_or_default();
        let reference = self.provisionable(&named.function_name, &qualifier).await?;
        let stored = self.provisioned(&reference).await?;
        Ok(self.provisioned_document(&stored.value))
    }

    /// DeleteProvisionedConcurrencyConfig.
    pub(super) async fn delete_provisioned(&self, call: Call) -> Result<Value, Error> {
        let named: Named = call.read()?;
        let qualifier = named.qualifier.unwrap_or_default();
        let reference = self.provisionable(&named.function_name, &qualifier).await?;
        let stored = self.provisioned(&reference).await?;
        let key = format!("{}/{}", stored.value.function, stored.value.qualifier);
        self.apply(vec![Change::delete::<ProvisionedConcurrency>(key)])
            .await?;
        Ok(Value::Null)
    }

    /// ListProvisionedConcurrencyConfigs.
    pub(super) async fn list_provisioned(&self, call: Call) -> Result<Value, Error> {
        let list: List = call.read()?;
        let reference = self.unqualified(&list.function_name).await?;
        let page = Page::new(list.marker.as_deref(), list.max_items)?;
        let prefix = of_function(&reference.name);
        let after = page.after.as_ref().map(|after| format!("{prefix}{after}"));
        let mut stored = self
            .control
            .catalog
            .list::<ProvisionedConcurrency>(&prefix, after.as_deref(), page.limit + 1)
            .await?;
        let more = stored.len() > page.limit;
        stored.truncate(page.limit);
        let last = stored.last().map(|last| last.value.qualifier.to_string());
        let documents = stored.iter().map(|stored| {
            let provisioned = &stored.value;
            let mut document = self.provisioned_document(provisioned);
            let arns = &self.control.arns;
            let arn = arns.function(provisioned.function.as_str(), Some(&provisioned.qualifier));
            document["FunctionArn"] = arn.into();
            document
        });
        Ok(page.document(
            "ProvisionedConcurrencyConfigs",
            documents.collect(),
            more.then_some(last).flatten(),
        ))
    }

    /// A version or an alias that can have instances provisioned.
    async fn provisionable(&self, name: &str, qualifier: &str) -> Result<Reference, Error> {
        let reference = self.reference(name, Some(qualifier))?;
        if reference.version() == Some(Version::Latest) {
            return Err(invalid(
                "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
            ));
        }
        self.resolve(&reference).await?;
        Ok(reference)
    }

    async fn provisioned(
        &self,
        reference: &Reference,
    ) -> Result<Stored<ProvisionedConcurrency>, Error> {
        let qualifier = reference.qualifier.clone().unwrap_or_default();
        let key = format!("{}/{qualifier}", reference.name);
        let stored = self
            .control
            .catalog
            .get::<ProvisionedConcurrency>(&key)
            .await?;
        stored.ok_or_else(|| {
            Error::new(
                "ProvisionedConcurrencyConfigNotFoundException",
                format!(
                    "No Provisioned Concurrency Config found for this function: {}",
                    reference.arn(&self.control.arns)
                ),
            )
            .with("Type", "User")
        })
    }

    fn provisioned_document(&self, provisioned: &ProvisionedConcurrency) -> Value {
        let name = provisioned.function.as_str();
        let functions = self.control.invoke.functions();
        let version = functions.get(name).and_then(|versions| {
            let version = match &provisioned.qualifier {
                Qualifier::Version(version) => *version,
                Qualifier::Alias(alias) => {
                    let mut aliases = versions.aliases().iter();
                    aliases.find(|found| found.name == *alias)?.version
                }
            };
            versions.version(version)
        });
        // Those that run are ready too: they came from the pool.
        let ready = version.map_or(0, |function| {
            function.idle() + function.in_flight() as usize
        });
        let wanted = provisioned.instances;
        let ready = u32::try_from(ready).unwrap_or(u32::MAX).min(wanted);
        json!({
            "RequestedProvisionedConcurrentExecutions": wanted,
            "AvailableProvisionedConcurrentExecutions": ready,
            "AllocatedProvisionedConcurrentExecutions": ready,
            "Status": if ready == wanted { "READY" } else { "IN_PROGRESS" },
            "LastModified": time(provisioned.modified_ms),
        })
    }

    /// PutFunctionRecursionConfig.
    pub(super) async fn put_recursion(&self, call: Call) -> Result<Value, Error> {
        let put: PutRecursion = call.read()?;
        if put.recursive_loop == RecursiveLoop::Allow {
            return Err(invalid(
                "Wharf cannot honour RecursiveLoop Allow: a chain of functions that call each other ends after 16 on this \
                 node, whoever they are.",
            ));
        }
        let reference = self.unqualified(&put.function_name).await?;
        self.update_settings(&reference, |settings| {
            settings.recursive_loop = put.recursive_loop;
        })
        .await?;
        Ok(json!({"RecursiveLoop": put.recursive_loop}))
    }

    /// GetFunctionRecursionConfig.
    pub(super) async fn get_recursion(&self, call: Call) -> Result<Value, Error> {
        let named: Named = call.read()?;
        let reference = self.unqualified(&named.function_name).await?;
        let settings = self.settings(&reference.name).await?;
        Ok(json!({"RecursiveLoop": settings.recursive_loop}))
    }

    /// A function as a whole, which is there.
    pub(super) async fn unqualified(&self, text: &str) -> Result<Reference, Error> {
        let reference = self.reference(text, None)?;
        self.existing(&reference).await?;
        match reference.qualifier {
            None => Ok(reference),
            Some(_) => Err(not_found(format!(
                "Function not found: {}",
                reference.arn(&self.control.arns)
            ))),
        }
    }
}
