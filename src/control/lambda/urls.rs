//! Function URLs: addresses of functions and of aliases.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Lambda, Page,
    reference::{Reference, conflict, invalid, not_found},
};
use crate::{
    control::{
        aws::{Call, Error},
        verbs::now_ms,
    },
    model::{
        Cors, FunctionUrl, InvokeMode, Qualifier, UrlAuthType, UrlConfig, Version, url_host, url_id,
    },
    store::{Change, Resource as _, Stored, of_function},
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wanted {
    function_name: String,
    qualifier: Option<String>,
    auth_type: Option<UrlAuthType>,
    cors: Option<Cors>,
    invoke_mode: Option<InvokeMode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    function_name: String,
    marker: Option<String>,
    max_items: Option<usize>,
}

impl Lambda {
    /// CreateFunctionUrlConfig.
    pub(super) async fn create_url(&self, call: Call) -> Result<Value, Error> {
        let wanted: Wanted = call.read()?;
        let reference = self.addressed(&wanted).await?;
        self.resolve(&reference).await?.check_invocable()?;
        let auth_type = wanted
            .auth_type
            .ok_or_else(|| invalid("AuthType is missing."))?;
        let now = now_ms();
        let config = UrlConfig {
            alias: alias(&reference),
            function: reference.name,
            url: FunctionUrl {
                auth_type,
                cors: wanted.cors.map(checked).transpose()?,
                invoke_mode: wanted.invoke_mode.unwrap_or_default(),
            },
            created_ms: now,
            modified_ms: now,
        };
        let present = self.control.catalog.get::<UrlConfig>(&config.key()).await?;
        if present.is_some() {
            return Err(conflict(format!(
                "FunctionUrlConfig exists for this Lambda function: {}",
                self.url_arn(&config)
            )));
        }
        self.apply(vec![Change::put_expecting(&config, 0)?]).await?;
        Ok(self.url_document(&config))
    }

    /// UpdateFunctionUrlConfig.
    pub(super) async fn update_url(&self, call: Call) -> Result<Value, Error> {
        let wanted: Wanted = call.read()?;
        let reference = self.addressed(&wanted).await?;
        let Stored {
            revision,
            value: mut config,
        } = self.url(&reference).await?;
        if let Some(auth_type) = wanted.auth_type {
            config.url.auth_type = auth_type;
        }
        if let Some(cors) = wanted.cors {
            config.url.cors = Some(checked(cors)?).filter(|cors| *cors != Cors::default());
        }
        if let Some(mode) = wanted.invoke_mode {
            config.url.invoke_mode = mode;
        }
        config.modified_ms = now_ms();
        self.apply(vec![Change::put_expecting(&config, revision)?])
            .await?;
        Ok(self.url_document(&config))
    }

    /// GetFunctionUrlConfig.
    pub(super) async fn get_url(&self, call: Call) -> Result<Value, Error> {
        let wanted: Wanted = call.read()?;
        let reference = self.addressed(&wanted).await?;
        Ok(self.url_document(&self.url(&reference).await?.value))
    }

    /// DeleteFunctionUrlConfig.
    pub(super) async fn delete_url(&self, call: Call) -> Result<Value, Error> {
        let wanted: Wanted = call.read()?;
        let reference = self.addressed(&wanted).await?;
        let config = self.url(&reference).await?.value;
        self.apply(vec![Change::delete::<UrlConfig>(config.key())])
            .await?;
        Ok(Value::Null)
    }

    /// ListFunctionUrlConfigs.
    pub(super) async fn list_urls(&self, call: Call) -> Result<Value, Error> {
        let list: List = call.read()?;
        let reference = self.unqualified(&list.function_name).await?;
        let page = Page::new(list.marker.as_deref(), list.max_items)?;
        let prefix = of_function(&reference.name);
        let mut stored = self
            .control
            .catalog
            .list::<UrlConfig>(&prefix, page.after.as_deref(), page.limit + 1)
            .await?;
        let more = stored.len() > page.limit;
        stored.truncate(page.limit);
        // A whole key: that of the function's own URL ends with nothing.
        let last = stored.last().map(|last| last.value.key());
        let documents = stored.iter().map(|stored| self.url_document(&stored.value));
        Ok(page.document(
            "FunctionUrlConfigs",
            documents.collect(),
            more.then_some(last).flatten(),
        ))
    }

    /// A function or an alias, which may have a URL.
    async fn addressed(&self, wanted: &Wanted) -> Result<Reference, Error> {
        let reference = self.reference(&wanted.function_name, wanted.qualifier.as_deref())?;
        match &reference.qualifier {
            None | Some(Qualifier::Alias(_) | Qualifier::Version(Version::Latest)) => {}
            Some(Qualifier::Version(Version::Published(_))) => {
                return Err(invalid(
                    "A function URL is for a function or an alias, and not for a version.",
                ));
            }
        }
        self.resolve(&reference).await?;
        Ok(reference)
    }

    async fn url(&self, reference: &Reference) -> Result<Stored<UrlConfig>, Error> {
        let alias = alias(reference).unwrap_or_default();
        let key = format!("{}/{alias}", reference.name);
        let stored = self.control.catalog.get::<UrlConfig>(&key).await?;
        stored.ok_or_else(|| not_found("The resource you requested does not exist."))
    }

    fn url_arn(&self, config: &UrlConfig) -> String {
        let alias = config.alias.as_ref();
        self.control.arns.function(
            config.function.as_str(),
            alias.map(|alias| alias as &dyn std::fmt::Display),
        )
    }

    fn url_document(&self, config: &UrlConfig) -> Value {
        let arns = &self.control.arns;
        let id = url_id(&arns.account, &config.function, config.alias.as_deref());
        let mut document = json!({
            "FunctionUrl": self.control.doors.url(|domain| url_host(&id, &arns.region, domain)),
            "FunctionArn": self.url_arn(config),
            "AuthType": config.url.auth_type,
            "InvokeMode": config.url.invoke_mode,
            "CreationTime": time(config.created_ms),
            "LastModifiedTime": time(config.modified_ms),
        });
        if let Some(cors) = &config.url.cors {
            document["Cors"] = json!(cors);
        }
        document
    }
}

/// The alias that a reference is for, if it is for one.
fn alias(reference: &Reference) -> Option<String> {
    match &reference.qualifier {
        Some(Qualifier::Alias(alias)) => Some(alias.clone()),
        Some(Qualifier::Version(_)) | None => None,
    }
}

/// What the model does not say of CORS.
fn checked(cors: Cors) -> Result<Cors, Error> {
    let all = cors.allow_origins.iter().any(|origin| origin == "*");
    match all && cors.allow_credentials == Some(true) {
        true => Err(invalid(
            "AllowOrigins cannot be * where AllowCredentials is true: no browser takes that.",
        )),
        false => Ok(cors),
    }
}

/// A moment as function URLs have it: ISO 8601.
fn time(milliseconds: u64) -> String {
    let timestamp = i64::try_from(milliseconds)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .unwrap_or_default();
    timestamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ").to_string()
}
