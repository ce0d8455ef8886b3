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

// The system's allocator takes a lock whenever one thread frees memory that another one allocated,
// which every request here does. After a burst it also returns little memory to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The version of this program: `BUILD_VERSION`, of the form `v{number}-{commit}`, if the variable
/// was set at compile time, else the version of this crate.
pub const VERSION: &str = match option_env!("BUILD_VERSION") {
    Some(version) => version,
    None => concat!("v", env!("CARGO_PKG_VERSION")),
};
