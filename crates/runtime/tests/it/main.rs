//! The bus on a real nats-server: what is stored once, what comes again, and what becomes a dead letter.

mod consume;
mod publish;
mod world;
