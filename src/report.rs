//! Reports: what recorded runs show, and what a calibrated task declares, in the formats of others.

pub mod emit;
