//! Computes the amounts of the platform from resources and rules: a maximum, on Kubernetes with a margin.

use crate::model::quantity::Quantity;
use crate::model::units::Bytes;

use super::kubernetes_rounding::OneDecimal;
use super::{Decider, DockerAmount, KubernetesAmount};

/// Smaller amounts are not set.
const LEAST: Bytes = Bytes(10);

/// All memory requests: the minimum from `resources`, and the rules' values by channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand<'a> {
    /// The amount in `resources`.
    pub base: Option<Bytes>,
    /// The values of the rules of one type, in the order of the channels.
    pub rules: Vec<(&'a str, Bytes)>,
}

impl Demand<'_> {
    /// The largest amount and what requested it; the minimum comes first among equals.
    fn largest(&self) -> Option<(Bytes, Decider)> {
        let rules =
            self.rules.iter().map(|(channel, bytes)| (*bytes, Decider::Rule { channel: (*channel).to_owned() }));
        let all = self.base.map(|bytes| (bytes, Decider::Resources)).into_iter().chain(rules);
        all.reduce(|largest, next| if next.0 > largest.0 { next } else { largest }).filter(|(bytes, _)| *bytes >= LEAST)
    }
}

/// The limit of a Docker container: the largest amount requested.
pub fn docker(demand: &Demand<'_>) -> Option<DockerAmount> {
    demand.largest().map(|(bytes, decided_by)| DockerAmount { bytes, decided_by })
}

/// The limit or the request of a Kubernetes pod: 1.1 × the largest amount requested, written with one decimal of a
/// binary unit. The rounding can remove or add up to a twentieth.
pub fn kubernetes(demand: &Demand<'_>) -> Option<KubernetesAmount> {
    let (asked, decided_by) = demand.largest()?;
    let written = OneDecimal::with_margin(asked).to_string();
    // Kubernetes truncates amounts above its maximum.
    let bytes = written.parse::<Quantity>().ok().and_then(|quantity| quantity.bytes().ok()).unwrap_or(Quantity::MAX);
    Some(KubernetesAmount { asked, margin: Bytes(asked.0.div_ceil(10)), written, bytes, decided_by })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(base: Option<u64>, rules: &[(&'static str, u64)]) -> Demand<'static> {
        Demand { base: base.map(Bytes), rules: rules.iter().map(|(name, bytes)| (*name, Bytes(*bytes))).collect() }
    }

    fn from_rule(channel: &str) -> Decider {
        Decider::Rule { channel: channel.to_owned() }
    }

    #[test]
    fn docker_gets_the_largest_amount_and_no_sum() {
        let limit = |demand: &Demand<'_>| docker(demand).map(|limit| (limit.bytes.0, limit.decided_by));
        assert_eq!(limit(&asked(Some(100), &[("a", 60), ("b", 60)])), Some((100, Decider::Resources)));
        assert_eq!(limit(&asked(Some(100), &[("a", 60), ("b", 160)])), Some((160, from_rule("b"))));
        assert_eq!(limit(&asked(None, &[("a", 60), ("b", 60)])), Some((60, from_rule("a"))));
        assert_eq!(limit(&asked(Some(60), &[("a", 60)])), Some((60, Decider::Resources)));
        assert_eq!(limit(&asked(None, &[])), None);
    }

    #[test]
    fn less_than_ten_bytes_are_not_set() {
        assert_eq!(docker(&asked(Some(9), &[("a", 0)])), None);
        assert_eq!(kubernetes(&asked(Some(9), &[("a", 0)])), None);
        assert!(kubernetes(&asked(Some(10), &[])).is_some());
    }

    #[test]
    fn kubernetes_gets_a_margin_and_one_decimal() {
        let written = |bytes| kubernetes(&asked(Some(bytes), &[])).map(|amount| (amount.written, amount.bytes.0));
        assert_eq!(written(64 << 30), Some(("70.4Gi".to_owned(), 75_591_424_410)));
        assert_eq!(written(1 << 30), Some(("1.1Gi".to_owned(), 1_181_116_007)));
        // 1.14 GiB become 1.1: less than requested, even with the margin.
        assert_eq!(written(1_113_000_000), Some(("1.1Gi".to_owned(), 1_181_116_007)));
        assert_eq!(written(3 << 29), Some(("1.7Gi".to_owned(), 1_825_361_101)));
        // A tie, rounded like the platform's floating point.
        assert_eq!(written(15 << 29), Some(("8.2Gi".to_owned(), 8_804_682_957)));
        assert_eq!(written(9309), Some(("10.0Ki".to_owned(), 10_240)));
        assert_eq!(written(10), Some(("11.0".to_owned(), 11)));
        // The unit is chosen before the rounding.
        assert_eq!(written(976_000_000), Some(("1023.9Mi".to_owned(), 1_073_636_967)));
        assert_eq!(written(976_128_000), Some(("1024.0Mi".to_owned(), 1 << 30)));
        assert_eq!(written(u64::MAX).map(|(text, _)| text), Some("17.6Ei".to_owned()));
    }

    #[test]
    fn the_margin_stands_apart() {
        let amount = kubernetes(&asked(Some(1000), &[("a", 1001)])).unwrap();
        assert_eq!((amount.asked.0, amount.margin.0, amount.decided_by), (1001, 101, from_rule("a")));
    }
}
