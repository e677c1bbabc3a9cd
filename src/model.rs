//! The nouns: task, rule, quantity, observation and more. Nothing here touches the machine.

pub mod byte_order_mark;
pub mod check;
pub mod comparison;
pub mod decimal;
pub(crate) mod delimited;
pub mod document;
pub mod escape;
pub mod fit;
pub mod handoff;
pub mod layout;
pub mod lint;
pub mod observation;
pub mod plan;
pub mod prediction;
pub mod problem;
pub mod quantity;
pub mod reading;
pub mod rule;
pub mod selection;
pub mod signal;
pub mod spelling;
pub mod task;
pub mod units;
