//! What a function's code is made of: packages from elsewhere, and the layers that are added to it.

use std::collections::HashSet;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{
    Lambda,
    layers::{LayerReference, LayerVersion},
    proposal::Proposal,
    reference::{invalid, not_found},
};
use crate::{
    control::{
        aws::Error,
        code::{CodeError, Layers, MAX_LAYERS, Package, Prepared},
    },
    model::{self, AttachedLayer, Deployment, Digest, LambdaSettings},
    store::{self, Catalog},
};

/// The folders of layers and packages that a catalog refers to: by what is deployed, what is about to be, and what is
/// published.
///
/// # Errors
///
/// The store fails.
pub async fn folders(catalog: &(dyn Catalog + 'static)) -> Result<HashSet<Digest>, store::Error> {
    let mut folders = HashSet::new();
    for deployment in catalog.deployments().await? {
        folders.extend(deployment.lambda.folders());
    }
    for proposal in catalog.list::<Proposal>("", None, usize::MAX).await? {
        folders.extend(proposal.value.lambda.folders());
    }
    for layer in catalog.list::<LayerVersion>("", None, usize::MAX).await? {
        folders.insert(layer.value.content.digest);
    }
    Ok(folders)
}

/// Makes the folders again that deployed functions want to see and that are not there: a backup has the zips, and not what
/// they unpack to. What cannot be made is in the node's log, and the function will not be served.
pub async fn mend_layers(catalog: &(dyn Catalog + 'static), layers: &Layers) {
    let deployments = match catalog.deployments().await {
        Ok(deployments) => deployments,
        Err(error) => {
            tracing::error!(%error, "cannot read what is deployed");
            return;
        }
    };
    for deployment in deployments {
        let lambda = &deployment.lambda;
        let mounted = lambda.opt.into_iter().chain(lambda.task);
        let Some(package) = lambda.package.as_ref() else {
            continue;
        };
        if mounted.into_iter().all(|folder| layers.is_here(&folder)) {
            continue;
        }
        let (name, version) = (&deployment.name, deployment.version);
        let digests: Vec<Digest> = lambda.layers.iter().map(|layer| layer.digest).collect();
        let mended = layers
            .mend(package.digest, handler(lambda).map(str::to_owned), &digests)
            .await;
        match mended {
            Ok(()) => tracing::info!(%name, %version, "a function's files were unpacked again"),
            Err(error) => {
                tracing::error!(%name, %version, %error, "cannot unpack a function's files again");
            }
        }
    }
}

/// What chooses a function's component in its package.
fn handler(lambda: &LambdaSettings) -> Option<&str> {
    lambda.members.get("Handler").and_then(Value::as_str)
}

impl Lambda {
    /// Gives a function the layers that the call names, where it names some or the function is new.
    pub(super) async fn apply_layers(
        &self,
        members: &Map<String, Value>,
        deployment: &mut Deployment,
    ) -> Result<(), Error> {
        let named = members.get("Layers").and_then(Value::as_array);
        if let Some(named) = named {
            let arns: Vec<&str> = named.iter().filter_map(Value::as_str).collect();
            deployment.lambda.layers = self.layers_named(&arns, &deployment.lambda.layers).await?;
        } else if deployment.revision != 0 {
            return Ok(());
        }
        self.compose(deployment).await
    }

    /// The layers of these ARNs. A version that was deleted is still there for a function that has it.
    async fn layers_named(
        &self,
        arns: &[&str],
        present: &[AttachedLayer],
    ) -> Result<Vec<AttachedLayer>, Error> {
        if arns.len() > MAX_LAYERS {
            return Err(invalid(format!(
                "Cannot reference more than {MAX_LAYERS} layers."
            )));
        }
        let mut layers: Vec<(LayerReference, AttachedLayer)> = Vec::new();
        for arn in arns {
            let reference = LayerReference::version_of(arn, &self.control.arns)?;
            if let Some((_, twin)) = layers
                .iter()
                .find(|(other, _)| other.name == reference.name)
            {
                return Err(invalid(format!(
                    "Two different versions of the same layer are not allowed to be referenced in the same function. {} \
                     and {arn} are versions of the same layer",
                    twin.arn
                )));
            }
            let published = self.layer_version(&reference).await?;
            let attached = published.map(|published| AttachedLayer {
                arn: (*arn).to_owned(),
                digest: published.value.content.digest,
                size: published.value.content.size,
            });
            let kept = || present.iter().find(|layer| layer.arn == *arn).cloned();
            let layer = attached
                .or_else(kept)
                .ok_or_else(|| invalid(format!("Layer version {arn} does not exist.")))?;
            layers.push((reference, layer));
        }
        Ok(layers.into_iter().map(|(_, layer)| layer).collect())
    }

    /// Makes what is compiled and mounted from a function's package and its layers.
    pub(super) async fn compose(&self, deployment: &mut Deployment) -> Result<(), Error> {
        let lambda = &mut deployment.lambda;
        if lambda.package.is_none() && lambda.layers.is_empty() {
            return Ok(());
        }
        // A component that came as it is is its own package: what it is linked to is another.
        let package = lambda.package.get_or_insert(model::Package {
            digest: deployment.code,
            size: deployment.code_size,
            image: None,
        });
        let digest = package.digest;
        let bytes = self.control.blobs.read(&digest).await?;
        let bytes = bytes.ok_or_else(|| not_found("The function's code is not on this node."))?;
        let handler = handler(lambda).map(str::to_owned);
        let package = tokio::task::spawn_blocking(move || Package::open(bytes, handler.as_deref()))
            .await
            .map_err(|error| Error::internal(&error))?
            .map_err(|error| code_error(&error.into()))?;
        let layers: Vec<Digest> = lambda.layers.iter().map(|layer| layer.digest).collect();
        let prepared = self.control.sources.layers.prepare(package, &layers).await;
        let Prepared {
            code,
            code_size,
            opt,
            task,
        } = prepared.map_err(|error| code_error(&error))?;
        deployment.code = code;
        deployment.code_size = code_size;
        lambda.opt = opt;
        lambda.task = task;
        Ok(())
    }

    pub(super) async fn fetch_from_s3(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> Result<Bytes, Error> {
        let got = self.control.sources.s3.get(bucket, key, version).await;
        got.map_err(|error| code_error(&error.into()))
    }

    /// The component of an image, and the image's name with the digest that it stands for.
    pub(super) async fn pull_image(&self, image: &str) -> Result<(Bytes, String), Error> {
        let pulled = self.control.sources.registries.pull(image).await;
        let image = pulled.map_err(|error| code_error(&error.into()))?;
        Ok((image.component, image.resolved))
    }
}

/// An error of the code's in Lambda's words.
pub(super) fn code_error(error: &CodeError) -> Error {
    match error.code() {
        "ServiceException" => Error::internal(&format_args!("{error:?}")),
        code => Error::new(code, error.to_string()).with("Type", "User"),
    }
}
