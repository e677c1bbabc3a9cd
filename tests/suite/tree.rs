//! Surveys of channels: the conformance table, the hard cases, and properties.

mod conformance;
mod differential;
mod hard;
mod planted;
mod properties;
