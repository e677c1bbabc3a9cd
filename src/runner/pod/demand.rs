//! What a pod asks the scheduler for.

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Node, PodSpec, ResourceRequirements, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource;

use crate::model::quantity::Quantity;

pub(super) const MEMORY: &str = "memory";
pub(super) const CPU: &str = "cpu";

/// Amounts by resource, in thousandths.
pub(super) type Amounts = BTreeMap<String, u64>;

/// What a pod requests and where it may run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Demand {
    pub(super) amounts: Amounts,
    pub(super) selector: BTreeMap<String, String>,
    pub(super) tolerations: Vec<Toleration>,
}

/// What did not fit a moment ago.
pub(super) struct Refusal {
    pub(super) at: Instant,
    pub(super) demand: Demand,
    pub(super) reason: String,
}

impl Demand {
    pub(super) fn new(spec: &PodSpec) -> Self {
        Self {
            amounts: requested(spec),
            selector: spec.node_selector.clone().unwrap_or_default(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
        }
    }

    /// Whether it says how much memory the pod needs.
    pub(super) fn knows_memory(&self) -> bool {
        self.amounts.get(MEMORY).is_some_and(|amount| *amount > 0)
    }

    pub(super) fn is_selected(&self, node: &Node) -> bool {
        let labels = node.metadata.labels.as_ref();
        self.selector.iter().all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value))
    }

    /// The taint that keeps the pod off a node.
    pub(super) fn obstacle<'a>(&self, node: &'a Node) -> Option<&'a Taint> {
        let taints = node.spec.as_ref()?.taints.as_deref()?;
        let keeps_off = |taint: &&Taint| taint.effect != "PreferNoSchedule";
        taints.iter().filter(keeps_off).find(|taint| !self.tolerations.iter().any(|it| tolerates(it, taint)))
    }

    pub(super) fn fits(&self, left: &Amounts) -> bool {
        self.amounts.iter().all(|(name, amount)| *amount <= left.get(name).copied().unwrap_or(0))
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|it| it.is_empty() || it == found);
    let any_value = toleration.operator.as_deref() == Some("Exists");
    let value = toleration.value.as_deref().unwrap_or_default();
    is(&toleration.effect, &taint.effect)
        && is(&toleration.key, &taint.key)
        && (any_value || toleration.key.is_some() && value == taint.value.as_deref().unwrap_or_default())
}

/// What a pod requests: its containers together, or one of its init containers, whichever is more. Init containers that are
/// always restarted stay beside those after them.
pub(super) fn requested(spec: &PodSpec) -> Amounts {
    let mut sum = Amounts::from([("pods".to_owned(), 1000)]);
    let of_container = |resources: Option<&ResourceRequirements>| {
        let Some(resources) = resources else { return Amounts::default() };
        // A limit without a request is one, too.
        let mut all = resources.limits.as_ref().map(wanted).unwrap_or_default();
        all.extend(resources.requests.as_ref().map(wanted).unwrap_or_default());
        all
    };
    for container in &spec.containers {
        add(&mut sum, &of_container(container.resources.as_ref()));
    }
    let (mut sidecars, mut most) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let mut beside = sidecars.clone();
        add(&mut beside, &of_container(container.resources.as_ref()));
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.clone_from(&beside);
        }
        for (name, amount) in beside {
            let most = most.entry(name).or_default();
            *most = amount.max(*most);
        }
    }
    add(&mut sum, &sidecars);
    for (name, amount) in most {
        let sum = sum.entry(name).or_default();
        *sum = amount.max(*sum);
    }
    add(&mut sum, &spec.overhead.as_ref().map(wanted).unwrap_or_default());
    sum
}

fn add(sum: &mut Amounts, amounts: &Amounts) {
    for (name, amount) in amounts {
        let sum = sum.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*amount);
    }
}

/// An amount that cannot be read is too large to fit.
fn wanted(quantities: &BTreeMap<String, resource::Quantity>) -> Amounts {
    amounts(quantities, u64::MAX)
}

/// Of an amount that cannot be read, nothing is left.
pub(super) fn offered(quantities: &BTreeMap<String, resource::Quantity>) -> Amounts {
    amounts(quantities, 0)
}

fn amounts(quantities: &BTreeMap<String, resource::Quantity>, unreadable: u64) -> Amounts {
    let thousandths = |text: &str| text.parse::<Quantity>().ok().and_then(|it| it.thousandths()).unwrap_or(unreadable);
    quantities.iter().map(|(name, quantity)| (name.clone(), thousandths(&quantity.0))).collect()
}
