//! The amounts of a resource other than memory in a cell.

use serde::{Deserialize, Serialize};

use super::samples::{Sample, Samples};
use crate::model::fit::Resource;
use crate::model::units::Bytes;

/// The amounts of a resource other than memory, in its unit, and what they come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResourceSamples {
    /// The unit of the amounts: `seconds` or `cores`.
    pub unit: String,
    /// The middle one.
    pub median: f64,
    /// The median distance from the median.
    pub spread: f64,
    /// The amounts in ascending order.
    pub samples: Vec<f64>,
}

impl ResourceSamples {
    /// The samples, which count in the smallest unit of the resource, in its unit.
    pub fn new(resource: Resource, samples: &Samples) -> Self {
        let amount = |counted: &Bytes| resource.in_units(counted.0 as f64);
        Self {
            unit: resource.unit().to_owned(),
            median: amount(&samples.median),
            spread: amount(&samples.spread),
            samples: samples.peaks.iter().map(amount).collect(),
        }
    }

    /// The samples as they are counted; `None` without samples, or if one is not a valid amount.
    pub fn counted(&self, resource: Resource) -> Option<Samples> {
        let sample = |amount: &f64| {
            let is_amount = amount.is_finite() && *amount >= 0.0;
            is_amount.then(|| Sample::exact(Bytes((amount / resource.in_units(1.0)).round() as u64)))
        };
        Samples::new(self.samples.iter().map(sample).collect::<Option<_>>()?)
    }

    /// The median for people.
    pub fn words(&self, resource: Resource) -> String {
        resource.describe_amount(self.median)
    }
}

/// The amounts of a resource in a cell, now and in the baseline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceCell {
    /// Those of the current runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<ResourceSamples>,
    /// Those of the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<ResourceSamples>,
}

impl ResourceCell {
    /// The growth over the baseline as a share.
    pub fn change(&self) -> Option<f64> {
        let (now, then) = (self.now.as_ref()?.median, self.baseline.as_ref()?.median);
        (then > 0.0).then(|| now / then - 1.0)
    }
}
