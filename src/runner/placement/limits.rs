//! The limits of a cgroup: reading, combining, and writing them to another cgroup.

use std::fs;
use std::io;
use std::path::Path;

use crate::host::cgroup::Cgroup;
use crate::model::observation::CgroupVersion;
use crate::runner::run_cgroup::write_to;

/// The limits of one or several cgroups (v2). `None` means no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `memory.max`, in bytes; on v1 `memory.limit_in_bytes`.
    pub memory_max: Option<u64>,
    /// `memory.high`, in bytes.
    pub memory_high: Option<u64>,
    /// `memory.swap.max`, in bytes.
    pub swap_max: Option<u64>,
    /// `cpu.max`: CPU time and period, in microseconds.
    pub cpu_max: Option<(u64, u64)>,
    /// `cpuset.cpus`, such as `0-3,8`.
    pub cpus: Option<String>,
    /// `cpuset.mems`.
    pub mems: Option<String>,
    /// `pids.max`.
    pub pids_max: Option<u64>,
}

/// v1 writes "no limit" as the largest multiple of the page size below 2⁶³.
const V1_UNLIMITED: u64 = (i64::MAX as u64) - 65_536;

impl Limits {
    /// Reads the limits of a cgroup. A controller that it does not have limits nothing.
    pub fn read(cgroup: &Cgroup) -> Self {
        let text = |name: &str| {
            let text = fs::read_to_string(cgroup.path.join(name)).ok()?;
            let text = text.trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        let number = |name: &str| text(name)?.parse::<u64>().ok();
        match cgroup.version() {
            CgroupVersion::V1 => Self {
                memory_max: number("memory.limit_in_bytes").filter(|limit| *limit < V1_UNLIMITED),
                ..Self::default()
            },
            CgroupVersion::V2 => Self {
                memory_max: number("memory.max"),
                memory_high: number("memory.high"),
                swap_max: number("memory.swap.max"),
                cpu_max: text("cpu.max").and_then(|text| {
                    let (quota, period) = text.split_once(' ')?;
                    Some((quota.parse().ok()?, period.parse().ok()?))
                }),
                // The cgroups above may allow fewer CPUs than this file requests.
                cpus: text("cpuset.cpus").and_then(|_| text("cpuset.cpus.effective")),
                mems: text("cpuset.mems").and_then(|_| text("cpuset.mems.effective")),
                pids_max: number("pids.max"),
            },
        }
    }

    /// Combines both limits. `self` is nearer to the task: its CPUs are a subset of those of the other.
    #[must_use]
    pub fn and(self, above: Self) -> Self {
        let least = |a: Option<u64>, b: Option<u64>| [a, b].into_iter().flatten().min();
        let share = |(quota, period): &(u64, u64)| *quota as f64 / (*period).max(1) as f64;
        Self {
            memory_max: least(self.memory_max, above.memory_max),
            memory_high: least(self.memory_high, above.memory_high),
            swap_max: least(self.swap_max, above.swap_max),
            cpu_max: [self.cpu_max, above.cpu_max].into_iter().flatten().min_by(|a, b| share(a).total_cmp(&share(b))),
            cpus: self.cpus.or(above.cpus),
            mems: self.mems.or(above.mems),
            pids_max: least(self.pids_max, above.pids_max),
        }
    }

    /// Sets them on a cgroup.
    ///
    /// # Errors
    /// If one of them cannot be set: the cgroup lacks the controller, or the file is not writable.
    pub(super) fn write(&self, cgroup: &Cgroup) -> io::Result<()> {
        let memory = match cgroup.version() {
            CgroupVersion::V1 => "memory.limit_in_bytes",
            CgroupVersion::V2 => "memory.max",
        };
        let number = |number: u64| number.to_string();
        let values = [
            (memory, self.memory_max.map(number)),
            ("memory.high", self.memory_high.map(number)),
            ("memory.swap.max", self.swap_max.map(number)),
            ("cpu.max", self.cpu_max.map(|(quota, period)| format!("{quota} {period}"))),
            ("cpuset.cpus", self.cpus.clone()),
            ("cpuset.mems", self.mems.clone()),
            ("pids.max", self.pids_max.map(number)),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                set(&cgroup.path.join(name), &value)?;
            }
        }
        Ok(())
    }

    /// The limits as unit properties of systemd (`systemd.resource-control(5)`).
    pub fn properties(&self) -> Vec<String> {
        let amount = |name: &str, amount: Option<u64>| amount.map(|amount| format!("{name}={amount}"));
        let quota = self.cpu_max.map(|(quota, period)| {
            let percent = quota.saturating_mul(100).div_ceil(period.max(1)).max(1);
            format!("CPUQuota={percent}%")
        });
        [
            amount("MemoryMax", self.memory_max),
            amount("MemoryHigh", self.memory_high),
            amount("MemorySwapMax", self.swap_max),
            quota,
            self.cpus.as_ref().map(|cpus| format!("AllowedCPUs={cpus}")),
            self.mems.as_ref().map(|mems| format!("AllowedMemoryNodes={mems}")),
            amount("TasksMax", self.pids_max),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn set(path: &Path, value: &str) -> io::Result<()> {
    write_to(path, value).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_limits_the_lower_one_holds() {
        let near = Limits {
            memory_max: Some(5),
            cpu_max: Some((50_000, 100_000)),
            cpus: Some("1".into()),
            ..Limits::default()
        };
        let far = Limits {
            memory_max: Some(9),
            pids_max: Some(7),
            cpu_max: Some((20_000, 50_000)),
            cpus: Some("0-3".into()),
            ..Limits::default()
        };
        let both = near.and(far);
        assert_eq!((both.memory_max, both.pids_max, both.cpu_max), (Some(5), Some(7), Some((20_000, 50_000))));
        assert_eq!(both.properties(), ["MemoryMax=5", "CPUQuota=40%", "AllowedCPUs=1", "TasksMax=7"]);
    }
}
