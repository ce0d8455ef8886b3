//! Provisioning of streams and consumers (`provision`, a privileged step), and the checks that
//! every service makes at its start and afterwards.

use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::jetstream::{
    self, ErrorCode,
    consumer::pull,
    context::{
        ConsumerInfoError, ConsumerInfoErrorKind, CreateStreamError, CreateStreamErrorKind,
        GetStreamError, GetStreamErrorKind,
    },
    stream::{self, ConsumerError, ConsumerErrorKind},
};
use events::{
    Callers, Consumer, FORMER_IDEMPOTENCY, IDEMPOTENCY_CALLERS, IDEMPOTENCY_VISITORS, KeyHolder,
    Stream, Visitors,
};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::{
    Bus,
    streams::{Difference, differences, essential, loss},
};
use service::{readiness::Latch, shutdown::Shutdown};

/// The interval between two checks of the streams, and the shorter one while a check fails.
const CHECK_EVERY: Duration = Duration::from_secs(30);
const CHECK_AGAIN: Duration = Duration::from_secs(1);

/// The number of attempts to provision one stream or consumer while the servers do not answer in
/// time. The servers of a cluster that has just started are busy with each other.
const TRIES: u32 = 5;
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// A stream cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StreamUnusable {
    /// The stream does not exist.
    #[error("stream {0} is missing: run provision as a privileged user")]
    Missing(&'static str),
    /// The stream would lose messages, or does not receive them.
    #[error("stream {name} is misconfigured ({difference}): run provision")]
    Misconfigured {
        /// The stream.
        name: &'static str,
        /// The setting, its value and the declared one.
        difference: String,
    },
    /// The bus does not answer, or refuses the request.
    #[error("stream {name} cannot be seen: {why}")]
    Unseen {
        /// The stream.
        name: &'static str,
        /// The reason.
        why: String,
    },
}

impl Bus {
    /// Creates or updates streams, and reports the changes. A stream keeps its number of replicas
    /// unless another one is given, and each setting that is not declared: an operator made it, or
    /// a former version that still runs needs it.
    ///
    /// # Errors
    /// A change would lose messages, or the server refuses it.
    pub async fn provision_streams(
        &self,
        streams: &[&'static Stream],
        replicas: Option<usize>,
    ) -> anyhow::Result<Vec<String>> {
        let mut said = Vec::new();
        for stream in streams {
            let once = async || {
                self.unless_refused(stream.name, self.provision_stream(stream, replicas)).await
            };
            let said_of_it = patiently(once).await;
            said.push(said_of_it.with_context(|| format!("stream {}", stream.name))?);
        }
        Ok(said)
    }

    async fn provision_stream(
        &self,
        stream: &Stream,
        replicas: Option<usize>,
    ) -> anyhow::Result<String> {
        let name = stream.name;
        let former = self.former(stream).await?;
        let config = |found: Value, replicas: usize| {
            let mut config = declared_over(found, stream.to_json(replicas));
            config["sources"] = former.clone();
            serde_json::from_value::<stream::Config>(config)
        };
        let Some(info) = self.find_stream(name).await? else {
            self.jetstream.create_stream(config(json!({}), replicas.unwrap_or(1))?).await?;
            return Ok(format!("stream {name}: created"));
        };
        let replicas = replicas.unwrap_or(info.config.num_replicas);
        let found = serde_json::to_value(&info.config)?;
        let mut changes = differences(&found, &stream.to_json(replicas));
        let has_source = info.config.sources.as_ref().is_some_and(|sources| !sources.is_empty());
        if has_source == former.is_null() {
            changes.push(Difference::of("sources", former.clone()));
        }
        if changes.is_empty() {
            return Ok(format!("stream {name}: unchanged"));
        }
        if let Some(reason) = loss(&changes, info.state.bytes) {
            bail!("refused, since it could lose messages: {reason}");
        }
        self.jetstream.update_stream(config(found, replicas)?).await?;
        let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
        Ok(format!("stream {name}: updated, {}", changes.join(", ")))
    }

    /// Returns the source of a stream of keys: the former stream of all keys, for as long as it
    /// exists. The server copies its records, including those that an older version still writes.
    /// Each stream gets all of them, since a record does not name its holder.
    async fn former(&self, stream: &Stream) -> anyhow::Result<Value> {
        let holder = match stream {
            _ if *stream == IDEMPOTENCY_CALLERS => Callers::TOKEN,
            _ if *stream == IDEMPOTENCY_VISITORS => Visitors::TOKEN,
            _ => return Ok(Value::Null),
        };
        if self.find_stream(FORMER_IDEMPOTENCY).await?.is_none() {
            return Ok(Value::Null);
        }
        let to = format!("idempotency.{holder}.$1");
        let transform = json!({"src": "idempotency.*", "dest": to});
        Ok(json!([{"name": FORMER_IDEMPOTENCY, "subject_transforms": [transform]}]))
    }

    /// Creates or updates consumers, and reports the changes. A consumer keeps its place in the
    /// stream.
    ///
    /// # Errors
    /// The server refuses the change.
    pub async fn provision_consumers(&self, consumers: &[Consumer]) -> anyhow::Result<Vec<String>> {
        let mut said = Vec::new();
        for consumer in consumers {
            let once = async || {
                self.unless_refused(&consumer.name, self.provision_consumer(consumer)).await
            };
            let said_of_it = patiently(once).await;
            said.push(said_of_it.with_context(|| format!("consumer {}", consumer.name))?);
        }
        Ok(said)
    }

    async fn provision_consumer(&self, consumer: &Consumer) -> anyhow::Result<String> {
        let (name, stream) = (&consumer.name, consumer.stream.name);
        let stream = self.jetstream.get_stream_no_info(stream).await?;
        let wanted = consumer.to_json();
        let found = match stream.consumer_info(name).await {
            Ok(info) => Some(serde_json::to_value(&info.config)?),
            Err(error) if matches!(error.kind(), ConsumerInfoErrorKind::NotFound) => None,
            Err(error) => return Err(error.into()),
        };
        let changes = found.as_ref().map(|found| differences(found, &wanted));
        if changes.as_ref().is_some_and(Vec::is_empty) {
            return Ok(format!("consumer {name}: unchanged"));
        }
        stream.create_consumer(serde_json::from_value::<pull::Config>(wanted)?).await?;
        Ok(match changes {
            None => format!("consumer {name}: created"),
            Some(changes) => {
                let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
                format!("consumer {name}: updated, {}", changes.join(", "))
            }
        })
    }

    /// Checks streams until the shutdown begins. The latch is set while all streams exist and are
    /// configured as a service needs them.
    pub async fn watch_streams(
        &self,
        streams: &[&'static Stream],
        latch: Latch,
        shutdown: Shutdown,
    ) {
        let mut every = interval(CHECK_AGAIN);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let checked = async {
                every.tick().await;
                self.check_streams(streams).await
            };
            let Some(checked) = shutdown.unless_begun(checked).await else { return };
            match checked {
                Ok(()) => {
                    latch.set("configured as declared");
                    every.reset_after(CHECK_EVERY);
                }
                Err(error) => latch.unset(error.to_string()),
            }
        }
    }

    async fn check_streams(&self, streams: &[&'static Stream]) -> Result<(), StreamUnusable> {
        for stream in streams {
            self.check_stream(stream).await?;
        }
        Ok(())
    }

    /// Checks that a stream is configured to keep its messages as declared.
    pub(crate) async fn check_stream(&self, stream: &Stream) -> Result<(), StreamUnusable> {
        let info = self.stream_info(stream).await?;
        self.metrics.filled(stream, &info);
        let unseen = |why: String| StreamUnusable::Unseen { name: stream.name, why };
        let found =
            serde_json::to_value(&info.config).map_err(|error| unseen(error.to_string()))?;
        let differences = differences(&found, &stream.to_json(info.config.num_replicas));
        match essential(&differences).first() {
            None => Ok(()),
            Some(difference) => Err(StreamUnusable::Misconfigured {
                name: stream.name,
                difference: difference.to_string(),
            }),
        }
    }

    /// Returns the server's report of a stream.
    pub(crate) async fn stream_info(
        &self,
        stream: &Stream,
    ) -> Result<stream::Info, StreamUnusable> {
        let of = format!("STREAM.INFO.{}", stream.name);
        let asked = Instant::now();
        let found = self.unless_refused(&of, self.find_stream(stream.name)).await;
        self.record_answer(asked, !found.as_ref().is_err_and(may_pass)).await;
        match found {
            Ok(Some(info)) => Ok(info),
            Ok(None) => Err(StreamUnusable::Missing(stream.name)),
            Err(error) => {
                Err(StreamUnusable::Unseen { name: stream.name, why: format!("{error:#}") })
            }
        }
    }

    async fn find_stream(&self, name: &str) -> anyhow::Result<Option<stream::Info>> {
        self.connected(Duration::from_secs(2)).await?;
        match self.jetstream.get_stream(name).await {
            Ok(found) => Ok(Some(found.cached_info().clone())),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(answer) if answer.code() == 404 => Ok(None),
                _ => Err(error.into()),
            },
        }
    }
}

/// Returns the settings on the server with the declared ones in their place.
fn declared_over(mut found: Value, declared: Value) -> Value {
    if let (Some(found), Value::Object(declared)) = (found.as_object_mut(), declared) {
        found.extend(declared);
    }
    found
}

/// Retries work a few times while the servers are not ready for it. The work must be safe to
/// repeat.
async fn patiently<T>(mut work: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    for _ in 1..TRIES {
        match work().await {
            Err(error) if may_pass(&error) => {
                tracing::warn!("the bus is not ready for it, trying again: {error:#}");
            }
            result => return result,
        }
        sleep(TRY_AGAIN).await;
    }
    work().await
}

/// Returns whether an error only means that the servers are not ready.
fn may_pass(error: &anyhow::Error) -> bool {
    // No peers: the leader of the cluster does not know the other servers yet.
    let unready = |answer: &jetstream::Error| {
        answer.code() == 503 || answer.error_code() == ErrorCode::CLUSTER_NO_PEERS
    };
    if let Some(error) = error.downcast_ref::<CreateStreamError>() {
        return match error.kind() {
            CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::JetStreamUnavailable => true,
            CreateStreamErrorKind::JetStream(answer) => unready(&answer),
            _ => false,
        };
    }
    if let Some(error) = error.downcast_ref::<GetStreamError>() {
        return match error.kind() {
            GetStreamErrorKind::Request => true,
            GetStreamErrorKind::JetStream(answer) => unready(&answer),
            _ => false,
        };
    }
    if let Some(error) = error.downcast_ref::<ConsumerInfoError>() {
        return matches!(
            error.kind(),
            ConsumerInfoErrorKind::TimedOut | ConsumerInfoErrorKind::Request
        );
    }
    match error.downcast_ref::<ConsumerError>().map(async_nats::error::Error::kind) {
        Some(ConsumerErrorKind::TimedOut | ConsumerErrorKind::Request) => true,
        Some(ConsumerErrorKind::JetStream(answer)) => unready(&answer),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn settings_that_are_not_declared_stay() {
        let found = json!({"name": "CONTACTS", "max_age": 9, "allow_atomic": true});
        let declared = json!({"name": "CONTACTS", "max_age": 0});
        let expected = json!({"name": "CONTACTS", "max_age": 0, "allow_atomic": true});
        assert_eq!(declared_over(found, declared), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_a_few_times_and_nothing_else_is() {
        for (kind, tries) in [
            (CreateStreamErrorKind::TimedOut, TRIES),
            (CreateStreamErrorKind::JetStreamUnavailable, TRIES),
            (CreateStreamErrorKind::InvalidStreamName, 1),
        ] {
            let tried = Cell::new(0);
            let work = async || {
                tried.set(tried.get() + 1);
                Err::<(), _>(CreateStreamError::new(kind.clone()).into())
            };
            assert!(patiently(work).await.is_err());
            assert_eq!(tried.get(), tries, "{kind}");
        }
        let tried = Cell::new(0);
        let work = async || {
            tried.set(tried.get() + 1);
            if tried.get() == 1 {
                Err(GetStreamError::new(GetStreamErrorKind::Request).into())
            } else {
                Ok(())
            }
        };
        patiently(work).await.unwrap();
        assert_eq!(tried.get(), 2);
        assert!(!may_pass(&anyhow::anyhow!("refused, since it could lose messages")));
    }
}
