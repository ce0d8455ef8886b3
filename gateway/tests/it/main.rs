//! The gateway as a process, on a real bus: what it takes, what it refuses, and what it says when the bus is away.

mod bad_input;
mod lifecycle;
mod outages;
mod world;
