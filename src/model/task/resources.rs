//! Limits and requests of a task.

use crate::model::quantity::{Quantity, QuantityError};
use crate::model::units::Bytes;

/// `resources`: limits and requests, without those of the scale rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// The limits.
    pub limits: Amounts,
    /// The requests, which the scheduler reserves; Docker has none.
    pub requests: Amounts,
}

/// Amounts of resources by name: `memory`, `cpu`, and resources of the cluster, such as `nvidia.com/gpu`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    memory: Option<(Quantity, Bytes)>,
    others: Vec<(String, Quantity)>,
}

impl Amounts {
    /// Sets or replaces an amount.
    ///
    /// # Errors
    /// If an amount of memory is negative, or larger than Kubernetes supports.
    pub fn set(&mut self, name: &str, quantity: Quantity) -> Result<(), QuantityError> {
        if name == "memory" {
            let bytes = quantity.bytes()?;
            self.memory = Some((quantity, bytes));
        } else if let Some((_, old)) = self.others.iter_mut().find(|(known, _)| known == name) {
            *old = quantity;
        } else {
            self.others.push((name.to_owned(), quantity));
        }
        Ok(())
    }

    /// The memory, in bytes.
    pub fn memory(&self) -> Option<Bytes> {
        self.memory.as_ref().map(|(_, bytes)| *bytes)
    }

    /// The number of CPUs.
    pub fn cpu(&self) -> Option<&Quantity> {
        self.get("cpu")
    }

    /// The name and the number of GPUs, of any vendor: `gpu`, `nvidia.com/gpu`, `amd.com/gpu`.
    pub fn gpu(&self) -> Option<(&str, &Quantity)> {
        self.iter().find(|(name, _)| *name == "gpu" || name.ends_with("/gpu"))
    }

    /// The amount of the resource with this name, as written.
    pub fn get(&self, name: &str) -> Option<&Quantity> {
        self.iter().find(|(known, _)| *known == name).map(|(_, quantity)| quantity)
    }

    /// All amounts as written: memory first, the others in the order of the document.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Quantity)> {
        let memory = self.memory.iter().map(|(quantity, _)| ("memory", quantity));
        memory.chain(self.others.iter().map(|(name, quantity)| (name.as_str(), quantity)))
    }

    /// Whether there are no amounts.
    pub fn is_empty(&self) -> bool {
        self.memory.is_none() && self.others.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bytes_and_all_else_is_as_written() {
        let mut amounts = Amounts::default();
        amounts.set("cpu", "500m".parse().unwrap()).unwrap();
        amounts.set("memory", "1.5Gi".parse().unwrap()).unwrap();
        amounts.set("nvidia.com/gpu", "1".parse().unwrap()).unwrap();
        amounts.set("cpu", "2".parse().unwrap()).unwrap();
        assert_eq!(amounts.memory(), Some(Bytes(3 << 29)));
        assert_eq!(amounts.cpu().map(Quantity::source), Some("2"));
        assert_eq!(amounts.gpu().map(|(name, count)| (name, count.source())), Some(("nvidia.com/gpu", "1")));
        assert_eq!(amounts.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["memory", "cpu", "nvidia.com/gpu"]);
        assert!(amounts.set("memory", "-1".parse().unwrap()).is_err());
    }
}
