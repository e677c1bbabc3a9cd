//! The nouns: what a task, a rule, a quantity and an observation are. Nothing here touches the machine.

pub mod decimal;
pub mod lint;
pub mod observation;
pub mod problem;
pub mod quantity;
pub mod reading;
pub mod rule;
pub mod spelling;
pub mod units;
