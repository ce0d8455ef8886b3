//! What to do with a build: which targets take it, and what speaks against it.
//!
//! The deployer decides by this, and the gateway tells by this what would be decided, so that the two cannot disagree. Pure:
//! it is told what happened, and asked; it does no I/O.

mod freeze;
mod plan;
mod standing;

pub use freeze::{OpenWindow, is_zone, open_window};
pub use plan::{Decision, Judgement, Policy, plan};
pub use standing::{Open, Question, Rollouts, Standing, Standings};
