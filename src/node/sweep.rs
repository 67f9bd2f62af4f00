//! Removes components, packages, layers and compiled code that nothing needs any more, while the node runs.
//!
//! Needed is what the catalog refers to, what is served at this moment, and what came, or was asked for, a short while
//! ago: between the upload of a component and its deployment nothing refers to it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    control::{self, code::Layers},
    invoke::Invoke,
    runtime::Runtime,
    store::{Blobs, Catalog, Error},
};

/// How long after a change it is looked at what is not needed any more: changes come in bunches.
const SETTLE: Duration = Duration::from_secs(30);

/// What removes what nothing needs.
pub(super) struct Sweeper {
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) invoke: Arc<Invoke>,
    pub(super) blobs: Arc<Blobs>,
    pub(super) runtime: Runtime,
    pub(super) layers: Layers,
    /// How long what nothing refers to is kept.
    pub(super) unused: Duration,
}

impl Sweeper {
    /// Looks at once, after changes, and now and then.
    pub(super) async fn run(self) {
        let settle = SETTLE.min(self.unused);
        let mut changes = self.catalog.watch();
        loop {
            changes.mark_unchanged();
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "cannot remove what nothing uses, and will try again");
            }
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(settle).await;
                }
                // By then whatever is too young now is not.
                () = tokio::time::sleep(self.unused.max(Duration::from_millis(10))) => {}
            }
        }
    }

    async fn sweep(&self) -> Result<(), Error> {
        let Some(before) = SystemTime::now().checked_sub(self.unused) else {
            return Ok(());
        };
        let mut used = self.catalog.blobs().await?;
        // The snapshot that is served may be behind the catalog for a moment.
        let served = self.invoke.functions();
        used.extend(
            served
                .values()
                .flat_map(|versions| versions.all())
                .map(|function| function.deployment().code),
        );
        let Some(swept) = self.blobs.sweep(&used, before).await? else {
            // Somebody copies them, or is deploying: at the next time.
            return Ok(());
        };
        if !swept.removed.is_empty() {
            tracing::info!(
                files = swept.removed.len(),
                bytes = swept.bytes,
                "removed what nothing used"
            );
        }
        let runtime = self.runtime.clone();
        // Compiled code goes with what it was made of.
        let keep = move |code: &_| used.contains(code) || swept.kept.contains(code);
        let retained = tokio::task::spawn_blocking(move || runtime.retain(keep)).await;
        retained.map_err(|_| Error::Closed)?;
        self.sweep_layers(before).await
    }

    /// What layers were unpacked to, and packages. It can be made again from the blobs.
    async fn sweep_layers(&self, before: SystemTime) -> Result<(), Error> {
        let mut used = control::folders(&*self.catalog).await?;
        let served = self.invoke.functions();
        let served = served.values().flat_map(|versions| versions.all());
        used.extend(served.flat_map(|function| function.deployment().lambda.folders()));
        self.layers.sweep(used, before).await
    }
}
