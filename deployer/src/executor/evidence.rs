//! The log of a container that crashed or does not get ready.

use std::time::Duration;

use events::Diagnosis;
use tokio::time::timeout;

use super::Executor;
use crate::{
    cluster::RequestError,
    redact,
    trouble::{Log, Trouble},
};

/// How long the log may take. Without it the verdict is as true, and soon.
const WITHIN: Duration = Duration::from_secs(2);

impl Executor {
    /// A diagnosis with the last lines of the log that tells more, if there is one.
    pub(super) async fn with_log(
        &self,
        mut diagnosis: Diagnosis,
        trouble: Option<&Trouble>,
    ) -> Diagnosis {
        if let Some(which) = trouble.and_then(|trouble| trouble.log)
            && let Some(shown) = diagnosis.pods.first_mut()
            && !shown.container.is_empty()
        {
            let previous = which == Log::Previous;
            let log =
                self.cluster.log(&self.target.namespace, &shown.pod, &shown.container, previous);
            match timeout(WITHIN, log).await {
                Ok(Ok(log)) => shown.log_tail = redact::log_tail(&log),
                Ok(Err(RequestError::Refused { message, .. })) => {
                    tracing::warn!(target = %self.target.name, pod = shown.pod, "the log cannot be read: {message}");
                }
                Ok(Err(RequestError::Unavailable(error))) => {
                    tracing::warn!(target = %self.target.name, pod = shown.pod, "the log cannot be read: {error:#}");
                }
                Err(_) => {
                    tracing::warn!(target = %self.target.name, pod = shown.pod, "the log did not come in time");
                }
            }
        }
        diagnosis
    }
}
