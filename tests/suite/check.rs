//! `highwater check`: the gate, from highwater.toml and records to verdict, files and exit status.

mod against;
mod bad_input;
mod bisect;
mod ci;
mod consumers;
mod project;
mod reasons;
mod repository;
mod resources;
mod running;
mod verified;
