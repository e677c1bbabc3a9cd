//! Whether a pod fits on a node, as the scheduler sees it: what the node can allocate, minus what its pods request.
//!
//! Of the rules of the scheduler, the node selector, taints and the number of pods are considered; affinity, topology and
//! priorities are not.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Resource;
use kube::api::{Api, ListParams};
use serde::de::DeserializeOwned;

use super::PodError;
use super::cluster::Cluster;
use super::demand::{Amounts, CPU, Demand, MEMORY, offered, requested};
use crate::model::units::Bytes;
use crate::runner::patience::Patience;

/// How many objects to list at a time.
const PAGE: u32 = 500;

/// The taints of a node that is not ready, is full or is drained begin with this. They pass.
const PASSING: &str = "node.kubernetes.io/";

/// Whether and when a pod fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Now,
    /// On some node, once other pods have ended.
    Later(String),
    /// On no node, even if it is empty.
    Never(String),
}

/// The nodes of a cluster, and what is left of each.
#[derive(Debug, Default)]
pub(super) struct Capacity {
    nodes: BTreeMap<String, (Node, Amounts)>,
    /// Pods that wait for a node. They come first.
    waiting: Vec<Demand>,
}

impl Capacity {
    pub(super) fn add_node(&mut self, node: Node) {
        let status = node.status.as_ref();
        let left = status.and_then(|status| status.allocatable.as_ref()).map(offered).unwrap_or_default();
        self.nodes.insert(node.metadata.name.clone().unwrap_or_default(), (node, left));
    }

    /// Adds a pod; all nodes must have been added.
    pub(super) fn add_pod(&mut self, pod: &Pod) {
        let Some(spec) = &pod.spec else { return };
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return;
        }
        match &spec.node_name {
            Some(name) => self.take(name, &requested(spec)),
            None => self.waiting.push(Demand::new(spec)),
        }
    }

    fn take(&mut self, node: &str, amounts: &Amounts) {
        let Some((_, left)) = self.nodes.get_mut(node) else { return };
        for (name, amount) in amounts {
            if let Some(left) = left.get_mut(name) {
                *left = left.saturating_sub(*amount);
            }
        }
    }

    /// Whether a pod fits beside those that are there.
    pub(super) fn fit(mut self, wanted: &Demand) -> Fit {
        if let Some(reason) = self.reason_for_never(wanted) {
            return Fit::Never(reason);
        }
        for pod in std::mem::take(&mut self.waiting) {
            if let Some(node) = self.room(&pod) {
                self.take(&node, &pod.amounts);
            }
        }
        match self.room(wanted) {
            Some(_) => Fit::Now,
            None => Fit::Later(self.reason_for_later(wanted)),
        }
    }

    /// A node with room.
    fn room(&self, wanted: &Demand) -> Option<String> {
        let nodes = self.nodes.iter().filter(|(_, (node, left))| is_open(node, wanted) && wanted.fits(left));
        nodes.map(|(name, _)| name.clone()).next()
    }

    fn reason_for_never(&self, wanted: &Demand) -> Option<String> {
        let nodes: Vec<&Node> = self.nodes.values().map(|(node, _)| node).collect();
        if nodes.is_empty() {
            return Some("the cluster has no nodes".to_owned());
        }
        let nodes: Vec<&Node> = nodes.into_iter().filter(|node| wanted.is_selected(node)).collect();
        if nodes.is_empty() {
            let labels: Vec<String> = wanted.selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
            return Some(format!("no node has the labels of its node selector, {}", labels.join(", ")));
        }
        let lasting = |node: &&&Node| wanted.obstacle(node).is_some_and(|taint| !taint.key.starts_with(PASSING));
        let (closed, open): (Vec<&Node>, Vec<&Node>) = nodes.iter().partition(|node| lasting(node));
        if let (Some(taint), true) = (closed.first().and_then(|node| wanted.obstacle(node)), open.is_empty()) {
            let value = taint.value.as_deref().filter(|value| !value.is_empty());
            let value = value.map(|value| format!("={value}")).unwrap_or_default();
            return Some(format!("it does not tolerate the taint {}{value}:{} of the nodes", taint.key, taint.effect));
        }
        let all: Vec<Amounts> = open.iter().map(|node| allocatable(node)).collect();
        if all.iter().any(|all| wanted.fits(all)) {
            return None;
        }
        Some(lacking(wanted, &all, "any of the nodes that it may run on can allocate"))
    }

    fn reason_for_later(&self, wanted: &Demand) -> String {
        let left: Vec<Amounts> =
            self.nodes.values().filter(|(node, _)| is_open(node, wanted)).map(|(_, left)| left.clone()).collect();
        if left.is_empty() {
            return "none of the nodes that it may run on is ready".to_owned();
        }
        lacking(wanted, &left, "any node has left")
    }
}

impl Cluster {
    /// Whether a pod fits now.
    pub(super) fn fit(&self, wanted: &Demand, patience: &mut Patience<'_>) -> Result<Fit, PodError> {
        let mut capacity = Capacity::default();
        self.for_each("nodes", ListParams::default(), patience, |node| capacity.add_node(node))?;
        let going = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        self.for_each("pods of all namespaces", going, patience, |pod: Pod| capacity.add_pod(&pod))?;
        Ok(capacity.fit(wanted))
    }

    /// Lists objects of the whole cluster, page by page.
    fn for_each<K>(
        &self,
        what: &str,
        params: ListParams,
        patience: &mut Patience<'_>,
        mut each: impl FnMut(K),
    ) -> Result<(), PodError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let objects: Api<K> = Api::all(self.client().clone());
        let mut params = params.limit(PAGE);
        loop {
            let page = self.persist(patience, &format!("list the {what}"), || objects.list(&params))?;
            page.items.into_iter().for_each(&mut each);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(()),
            }
        }
    }
}

/// Whether the scheduler would place the pod there now.
fn is_open(node: &Node, wanted: &Demand) -> bool {
    let is_cordoned = node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    is_ready && !is_cordoned && wanted.is_selected(node) && wanted.obstacle(node).is_none()
}

/// Describes the first resource that is insufficient; `where_` introduces the largest available amount.
fn lacking(wanted: &Demand, nodes: &[Amounts], where_: &str) -> String {
    let most = |name: &str| nodes.iter().filter_map(|amounts| amounts.get(name)).max().copied().unwrap_or(0);
    let short = wanted.amounts.iter().filter(|(name, amount)| **amount > most(name));
    let short: Vec<String> = short
        .map(|(name, amount)| {
            format!("it requests {}, and the most that {where_} is {}", shown(name, *amount), shown(name, most(name)))
        })
        .collect();
    if short.is_empty() { "no single node has enough of all that it requests".to_owned() } else { short.join("; ") }
}

fn shown(name: &str, thousandths: u64) -> String {
    let whole = thousandths.div_ceil(1000);
    match name {
        MEMORY => format!("{} of memory", Bytes(whole)),
        CPU => format!("{} CPUs", thousandths as f64 / 1000.0),
        "ephemeral-storage" => format!("{} of ephemeral storage", Bytes(whole)),
        other => format!("{whole} {other}"),
    }
}

fn allocatable(node: &Node) -> Amounts {
    node.status.as_ref().and_then(|status| status.allocatable.as_ref()).map(offered).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, memory: &str, spec: Value) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"name": name}},
            "spec": spec,
            "status": {
                "allocatable": {"memory": memory, "cpu": "2", "pods": "10"},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }))
        .unwrap()
    }

    fn spec(requests: Value, more: Value) -> PodSpec {
        let mut spec = json!({"containers": [{"name": "task", "resources": {"requests": requests}}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn pod(memory: &str, node: Option<&str>) -> Pod {
        let spec = spec(json!({"memory": memory}), json!({"nodeName": node}));
        Pod { spec: Some(spec), ..Pod::default() }
    }

    /// A cluster of a node with 4 GiB and one with 8 GiB.
    fn fit(pods: &[Pod], wanted: &PodSpec) -> Fit {
        let mut capacity = Capacity::default();
        capacity.add_node(node("small", "4Gi", json!({})));
        capacity.add_node(node(
            "large",
            "8Gi",
            json!({"taints": [{"key": "pool", "value": "gpu", "effect": "NoSchedule"}]}),
        ));
        pods.iter().for_each(|pod| capacity.add_pod(pod));
        capacity.fit(&Demand::new(wanted))
    }

    fn tolerant() -> Value {
        json!({"tolerations": [{"key": "pool", "operator": "Exists"}]})
    }

    #[test]
    fn a_pod_fits_where_its_request_is_left() {
        let wanted = spec(json!({"memory": "3Gi", "cpu": "1500m"}), json!({}));
        assert_eq!(fit(&[], &wanted), Fit::Now);
        let beside = |memory| fit(&[pod(memory, Some("small"))], &wanted);
        assert_eq!(beside("1Gi"), Fit::Now);
        let later = "it requests 3 GiB of memory, and the most that any node has left is 2.5 GiB of memory";
        assert_eq!(beside("1.5Gi"), Fit::Later(later.to_owned()));
    }

    #[test]
    fn a_pod_that_ended_takes_nothing_and_one_that_waits_comes_first() {
        let wanted = spec(json!({"memory": "3Gi"}), json!({}));
        let mut ended = pod("4Gi", Some("small"));
        ended.status = Some(serde_json::from_value(json!({"phase": "Succeeded"})).unwrap());
        assert_eq!(fit(&[ended], &wanted), Fit::Now);
        assert!(matches!(fit(&[pod("2Gi", None)], &wanted), Fit::Later(_)));
        assert_eq!(fit(&[pod("20Gi", None)], &wanted), Fit::Now, "it waits for a node that is not there");
    }

    #[test]
    fn tolerations_and_the_node_selector_decide_which_nodes_count() {
        let mut wanted = spec(json!({"memory": "6Gi"}), tolerant());
        assert_eq!(fit(&[], &wanted), Fit::Now);
        wanted.node_selector = Some([("name".to_owned(), "small".to_owned())].into());
        assert!(matches!(fit(&[], &wanted), Fit::Never(_)));
    }

    #[test]
    fn what_fits_on_no_node_is_named() {
        let never = |memory, more| match fit(&[], &spec(json!({"memory": memory}), more)) {
            Fit::Never(reason) => reason,
            other => format!("{other:?}"),
        };
        let reasons = [
            never("6Gi", json!({})),
            never("9Gi", tolerant()),
            never("1Gi", json!({"nodeSelector": {"disk": "ssd"}})),
            never("1Gi", json!({"nodeSelector": {"name": "large"}})),
        ];
        insta::assert_snapshot!(reasons.join("\n"), @"
        it requests 6 GiB of memory, and the most that any of the nodes that it may run on can allocate is 4 GiB of memory
        it requests 9 GiB of memory, and the most that any of the nodes that it may run on can allocate is 8 GiB of memory
        no node has the labels of its node selector, disk=ssd
        it does not tolerate the taint pool=gpu:NoSchedule of the nodes
        ");
    }

    #[test]
    fn init_containers_count_once_and_sidecars_always() {
        let container = |memory: &str, policy: Option<&str>| json!({"name": "c", "restartPolicy": policy, "resources": {"requests": {"memory": memory}}});
        let of_pod = |init: &[Value]| {
            let spec = spec(json!({"memory": "1Gi"}), json!({"initContainers": init}));
            requested(&spec)[MEMORY] / 1000 / (1 << 20)
        };
        assert_eq!(of_pod(&[container("512Mi", None)]), 1024);
        assert_eq!(of_pod(&[container("2Gi", None), container("3Gi", None)]), 3072);
        assert_eq!(of_pod(&[container("512Mi", Some("Always"))]), 1536);
        assert_eq!(of_pod(&[container("512Mi", Some("Always")), container("2Gi", None)]), 2560);
    }

    #[test]
    fn nothing_fits_on_a_node_whose_amounts_cannot_be_read() {
        let mut capacity = Capacity::default();
        capacity.add_node(node("odd", "much", json!({})));
        assert!(matches!(capacity.fit(&Demand::new(&spec(json!({"memory": "1Gi"}), json!({})))), Fit::Never(_)));
    }

    #[test]
    fn a_node_that_is_drained_comes_back() {
        let mut capacity = Capacity::default();
        let taint = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
        capacity.add_node(node("small", "4Gi", json!({"unschedulable": true, "taints": [taint]})));
        let expected = "none of the nodes that it may run on is ready".to_owned();
        assert_eq!(capacity.fit(&Demand::new(&spec(json!({"memory": "1Gi"}), json!({})))), Fit::Later(expected));
    }
}
