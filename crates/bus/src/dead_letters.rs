//! Dead letters: messages, or parts of messages, that cannot be handled. Each is kept with its
//! reason until a person decides about it.

mod command;
mod gauge;
mod handle;
mod keep;
mod letter;

pub use command::DeadLettersCommand;
pub use handle::DeadLetterError;
pub(crate) use keep::{DeadLetter, Part};
