//! What a formula comes to.

use super::{EvalError, Formula};
use crate::model::decimal::Product;
use crate::model::units::Bytes;

pub(super) fn evaluate(formula: &Formula, n: Bytes) -> Result<Bytes, EvalError> {
    let (coefficient, exponent) = (formula.coefficient(), formula.exponent());
    let product = coefficient.product(n.0, exponent);
    let nothing = product == Some(Product { whole: 0, rest: false });
    if coefficient.is_negative() && !nothing {
        return Err(EvalError::Negative { formula: formula.canonical(), n, result: result(formula, n) });
    }
    match product.and_then(Product::ceil) {
        Some(bytes) => Ok(Bytes(bytes)),
        None => Err(EvalError::Overflow { formula: formula.canonical(), n, result: result(formula, n) }),
    }
}

/// The result in words, for an error: all digits where it is short, its order of magnitude where it is not.
fn result(formula: &Formula, n: Bytes) -> String {
    let coefficient = formula.coefficient();
    match coefficient.product(n.0, formula.exponent()) {
        Some(Product { whole, rest: false }) => format!("-{whole}"),
        _ => {
            let magnitude = coefficient.to_f64().abs().log10() + formula.exponent() as f64 * (n.0 as f64).log10();
            let sign = if coefficient.is_negative() { "-" } else { "" };
            format!("about {sign}10^{magnitude:.0}")
        }
    }
}
