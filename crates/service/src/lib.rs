//! The life of a process: configuration, telemetry, metrics, the admin port, readiness and an
//! ordered shutdown.
//!
//! A service's `main` reads its configuration and hands its work to [`process::run`]; the work
//! gets a [`process::Process`]. This crate knows nothing of the bus.

pub mod admin;
pub mod config;
pub mod metrics;
pub mod process;
pub mod propagation;
pub mod readiness;
pub mod shutdown;
pub mod spans;
pub mod telemetry;

// The system's allocator takes a lock whenever what one thread made is freed by another, as it is with every request here, and
// returns little of what a burst took.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The version that was built: `v{number}-{commit}` where the build set `BUILD_VERSION`, else the crate's.
pub const VERSION: &str = match option_env!("BUILD_VERSION") {
    Some(version) => version,
    None => concat!("v", env!("CARGO_PKG_VERSION")),
};
