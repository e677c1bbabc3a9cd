//! The nouns: task, rule, quantity, observation and more. Nothing here touches the machine.

#[doc(hidden)]
pub mod byte_order_mark;
pub mod check;
pub mod comparison;
#[doc(hidden)]
pub mod decimal;
pub(crate) mod delimited;
pub mod document;
#[doc(hidden)]
pub mod escape;
pub mod fit;
#[doc(hidden)]
pub mod handoff;
#[doc(hidden)]
pub mod layout;
pub mod lint;
pub(crate) mod located;
pub mod observation;
pub mod operator;
pub mod plan;
pub mod prediction;
pub mod problem;
pub mod quantity;
pub mod reading;
pub mod registry;
pub mod rule;
pub mod rule_file;
pub mod runtime;
pub mod scalar;
pub mod selection;
pub mod signal;
#[doc(hidden)]
pub mod spelling;
pub mod task;
pub mod timestamp;
pub mod units;
