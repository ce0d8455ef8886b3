//! Logs to stderr, and exports traces over OTLP if an endpoint is configured.
//!
//! Spans have ids even if they are not exported. So each log line of a request shows its
//! `trace_id`, and the trace context is passed on over the bus.

mod json;

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use anyhow::Context as _;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use opentelemetry_semantic_conventions::resource::SERVICE_VERSION;
use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::{
    VERSION,
    config::{Common, LogFormat},
};

/// The longest time that sending the last spans may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// The most links that a span may have: one for each message of a full batch.
const MAX_LINKS: u32 = 1_000;

/// The running telemetry of a process, which has to be flushed at its end.
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

/// Starts logging and, if configured, the export of traces.
///
/// Has to be called once in a process, inside its tokio runtime.
///
/// # Errors
/// Fails if the log filter or the OTLP endpoint cannot be used.
pub fn init(service: &'static str, config: &Common) -> anyhow::Result<Telemetry> {
    let provider = tracer_provider(service, config)?;
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("portfolio"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false);
    tracing_subscriber::registry()
        .with(filter(&config.log)?)
        .with(traces)
        .with(log_layer(config.log_format))
        .init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // The message of the panic is left out, as it may contain the data that caused it.
        tracing::error!(place, "a panic: this is a mistake in the program");
    }));
    Ok(Telemetry { provider })
}

impl Telemetry {
    /// Sends the remaining spans.
    ///
    /// Gives up after three seconds if the collector does not answer.
    pub async fn flush(self) {
        // The exporter blocks the thread that it runs on.
        let flushed =
            tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(FLUSH_TIMEOUT))
                .await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!("the last spans could not be sent: {error}");
        }
    }
}

/// Creates the filter of log lines and spans from directives.
///
/// Unless the directives name `async_nats`, its level is `warn`: this client of the bus logs each
/// attempt to connect, while the latch of the bus logs each change once.
fn filter<S>(directives: &str) -> anyhow::Result<Box<dyn Layer<S> + Send + Sync>>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let quiet = !directives.contains("async_nats");
    // `Targets` is enough for directives that name no span. `EnvFilter` inspects each span whenever
    // it is entered, which costs more than all of the logging.
    if let Ok(targets) = directives.parse::<Targets>() {
        return Ok(
            if quiet { targets.with_target("async_nats", Level::WARN) } else { targets }.boxed()
        );
    }
    let filter = EnvFilter::try_new(directives).context("RUST_LOG")?;
    Ok(if quiet {
        filter.add_directive("async_nats=warn".parse().context("RUST_LOG")?)
    } else {
        filter
    }
    .boxed())
}

fn log_layer<S>(format: Option<LogFormat>) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let terminal = stderr().is_terminal();
    match format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Text => {
            fmt::layer().with_writer(stderr).with_ansi(terminal).with_target(false).boxed()
        }
        LogFormat::Json => json::Lines(stderr).boxed(),
    }
}

fn tracer_provider(service: &'static str, config: &Common) -> anyhow::Result<SdkTracerProvider> {
    // The builder reads `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, which take precedence.
    let defaults = Resource::builder_empty().with_service_name(service).build();
    let resource = Resource::builder()
        .with_attributes(
            defaults.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())),
        )
        .with_attribute(KeyValue::new(SERVICE_VERSION, VERSION))
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let Some(endpoint) = &config.otlp_endpoint else {
        // Ids are created and passed on, and nothing is recorded.
        return Ok(builder
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
            .build());
    };
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .with_context(|| format!("OTEL_EXPORTER_OTLP_ENDPOINT: {endpoint} cannot be used"))?;
    // The span of a batch links to the span of each of its messages.
    Ok(builder.with_max_links_per_span(MAX_LINKS).with_batch_exporter(exporter).build())
}
