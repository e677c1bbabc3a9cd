//! A device, or an instance of one, and what is read of it.

use std::collections::BTreeMap;
use std::collections::HashMap;

use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::AccountingStats;

use super::{GpuFacts, Processes};
use crate::model::problem::one_line;
use crate::model::units::Bytes;

/// A device with MIG says so by this mode (`NVML_DEVICE_MIG_ENABLE`).
const PARTITIONED: u32 = 1;

/// The driver's account of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) pid: u32,
    pub(super) peak: Option<Bytes>,
    pub(super) utilization: Option<u32>,
    pub(super) is_running: bool,
}

/// One look at a device.
pub(super) struct Sample {
    /// The memory of each process that uses it; `None` if the driver does not report it.
    processes: BTreeMap<u32, Option<Bytes>>,
    /// How busy it was, in percent.
    utilization: Option<u32>,
}

/// The sums of all samples so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sampled {
    /// Number of samples.
    pub(super) taken: u64,
    /// The most memory that the run had at one time, as far as the driver reports it; `None` without samples.
    pub(super) own: Option<Bytes>,
    /// The same of others.
    pub(super) others: Option<Bytes>,
    /// The most memory of each process of the run; `None` if the driver does not report it.
    pub(super) processes: BTreeMap<u32, Option<Bytes>>,
    /// Processes that ended before it was known whose they were.
    pub(super) unknown: Vec<u32>,
    /// The sum and number of the readings of the utilization, and the highest.
    pub(super) utilization: (u64, u64, u32),
}

pub(super) struct Device {
    handle: nvml_wrapper::Device<'static>,
    pub(super) uuid: String,
    pub(super) model: String,
    pub(super) instance_of: Option<String>,
    /// `None` if the driver cannot keep accounts of it.
    pub(super) accounting: Option<bool>,
    /// Its memory and what was in use of it before the run.
    pub(super) memory: Option<(Bytes, Bytes)>,
    /// When each process that had an account before the run was started, in the driver's own unit; `None` if there are no
    /// accounts.
    accounted: Option<HashMap<u32, u64>>,
    pub(super) sampled: Sampled,
    /// The first reading that failed.
    pub(super) problem: Option<String>,
}

/// All devices, and the problems with some. Partitioned ones (MIG) are represented by their instances.
pub(super) fn all(nvml: &'static Nvml) -> Result<(Vec<Device>, Vec<String>), String> {
    let count = nvml.device_count().map_err(|error| format!("the devices cannot be counted: {}", one_line(&error)))?;
    let (mut devices, mut problems) = (Vec::new(), Vec::new());
    for index in 0..count {
        if let Err(error) = add(nvml, index, &mut devices) {
            problems.push(format!("device {index}: {}", one_line(&error)));
        }
    }
    Ok((devices, problems))
}

fn add(nvml: &'static Nvml, index: u32, devices: &mut Vec<Device>) -> Result<(), NvmlError> {
    let handle = nvml.device_by_index(index)?;
    // Most devices cannot be partitioned, and an older driver does not know the question.
    if !handle.mig_mode().is_ok_and(|mode| mode.current == PARTITIONED) {
        devices.push(Device::new(handle, None)?);
        return Ok(());
    }
    let uuid = handle.uuid()?;
    for instance in 0..handle.mig_device_count()? {
        match handle.mig_device_by_index(instance) {
            Ok(instance) => devices.push(Device::new(instance, Some(uuid.clone()))?),
            // The count is that of the most instances that there could be.
            Err(NvmlError::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Device {
    fn new(handle: nvml_wrapper::Device<'static>, instance_of: Option<String>) -> Result<Self, NvmlError> {
        let accounting = match instance_of {
            Some(_) => None,
            None => handle.is_accounting_enabled().ok(),
        };
        let mut device = Self {
            uuid: handle.uuid()?,
            model: handle.name()?,
            accounting,
            memory: handle.memory_info().ok().map(|memory| (Bytes(memory.total), Bytes(memory.used))),
            accounted: None,
            sampled: Sampled::default(),
            problem: None,
            instance_of,
            handle,
        };
        if device.accounting == Some(true) {
            match device.accounts() {
                Ok(accounts) => {
                    device.accounted = Some(accounts.into_iter().map(|(pid, stats)| (pid, stats.start_time)).collect());
                }
                Err(error) => device.problem = Some(device.without_accounts(&error)),
            }
        }
        Ok(device)
    }

    pub(super) fn facts(&self) -> GpuFacts {
        GpuFacts {
            uuid: self.uuid.clone(),
            model: self.model.clone(),
            instance_of: self.instance_of.clone(),
            memory: self.memory.map(|(total, _)| total),
            accounting: self.accounting,
        }
    }

    fn without_accounts(&self, error: &NvmlError) -> String {
        format!("the accounts of {} cannot be read: {}", self.uuid, one_line(error))
    }

    fn accounts(&self) -> Result<Vec<(u32, AccountingStats)>, NvmlError> {
        let mut accounts = Vec::new();
        for pid in self.handle.accounting_pids()? {
            match self.handle.accounting_stats_for(pid) {
                Ok(stats) => accounts.push((pid, stats)),
                // Displaced by a newer one since it was listed.
                Err(NvmlError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(accounts)
    }

    /// The accounts of processes that were started since the run began; `None` if the driver keeps none.
    pub(super) fn accounted_since(&self) -> Result<Option<Vec<Account>>, String> {
        let Some(before) = &self.accounted else { return Ok(None) };
        let accounts = self.accounts().map_err(|error| self.without_accounts(&error))?;
        let is_new = |(pid, stats): &(u32, AccountingStats)| before.get(pid) != Some(&stats.start_time);
        let account = |(pid, stats): (u32, AccountingStats)| Account {
            pid,
            peak: stats.max_memory_usage.map(Bytes),
            utilization: stats.gpu_utilization,
            is_running: stats.is_running,
        };
        Ok(Some(accounts.into_iter().filter(is_new).map(account).collect()))
    }

    /// Looks at the device; `None` if it cannot be read.
    pub(super) fn sample(&mut self) -> Option<Sample> {
        let of_both = || {
            let graphics = match self.handle.running_graphics_processes() {
                Err(NvmlError::NotSupported) => Vec::new(),
                processes => processes?,
            };
            Ok(self.handle.running_compute_processes()?.into_iter().chain(graphics))
        };
        match of_both() {
            Ok(found) => {
                let mut processes: BTreeMap<u32, Option<Bytes>> = BTreeMap::new();
                for process in found {
                    let used = match process.used_gpu_memory {
                        UsedGpuMemory::Used(bytes) => Some(Bytes(bytes)),
                        UsedGpuMemory::Unavailable => None,
                    };
                    // One that computes and draws is in both lists, with the same memory.
                    let known = processes.entry(process.pid).or_default();
                    *known = used.max(*known);
                }
                let utilization = self.handle.utilization_rates().ok().map(|rates| rates.gpu);
                Some(Sample { processes, utilization })
            }
            // More processes have come since they were counted.
            Err(NvmlError::InsufficientSize(_)) => None,
            Err(error) => {
                self.problem.get_or_insert_with(|| {
                    format!("the processes of {} cannot be read: {}", self.uuid, one_line(&error))
                });
                None
            }
        }
    }

    /// Adds a sample.
    pub(super) fn take(&mut self, sample: Option<Sample>, processes: &mut Processes) {
        let Some(Sample { processes: found, utilization }) = sample else { return };
        let sums = &mut self.sampled;
        sums.taken += 1;
        if let Some(percent) = utilization {
            let (sum, count, highest) = sums.utilization;
            sums.utilization = (sum + u64::from(percent), count + 1, highest.max(percent));
        }
        let (mut own, mut others) = (Bytes::ZERO, Some(Bytes::ZERO));
        for (pid, used) in found {
            match processes.is_own(pid) {
                Some(true) => {
                    own = own.saturating_add(used.unwrap_or_default());
                    let highest = sums.processes.entry(pid).or_default();
                    *highest = used.max(*highest);
                }
                Some(false) => others = others.zip(used).map(|(sum, used)| sum.saturating_add(used)),
                None if sums.unknown.contains(&pid) => {}
                None => sums.unknown.push(pid),
            }
        }
        sums.own = sums.own.max(Some(own));
        // Once it is unknown, it stays so.
        sums.others = match (sums.taken, sums.others, others) {
            (1, _, others) => others,
            (_, Some(most), Some(others)) => Some(most.max(others)),
            _ => None,
        };
    }
}
