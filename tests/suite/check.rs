//! `highwater check`: the gate, from highwater.toml and records to verdict, files and exit status.

mod bad_input;
mod ci;
mod consumers;
mod project;
mod reasons;
mod running;
mod verified;
