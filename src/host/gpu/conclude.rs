//! What the driver's accounts and the samples of a device say about the peak of a run.

use std::collections::BTreeMap;

use super::Processes;
use super::device::{Account, Device, Sampled};
use crate::model::observation::{Exactness, Gpu, GpuPeak, GpuProcess, GpuSource, Utilization};
use crate::model::reading::Reading;
use crate::model::units::Bytes;

/// The looks at which a process of the run was first and last seen. It began between the first and the one before, and
/// ended between the last and the one after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetimes {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// The record of a device.
pub(super) fn gpu(device: Device, accounts: Option<Vec<Account>>, processes: &Processes, comparable: bool) -> Gpu {
    let sampled = &device.sampled;
    let readable = |bytes: Option<Bytes>| bytes.map_or(Reading::Unsupported, Reading::Value);
    let (sum, count, highest) = sampled.utilization;
    let mean = sum.checked_div(count).and_then(|mean| u32::try_from(mean).ok());
    let mut gpu = Gpu {
        instance_of: device.instance_of.clone(),
        utilization: mean.map_or(Reading::Unsupported, |mean| Reading::Value(Utilization::new(mean, highest))),
        before: readable(device.memory.map(|(_, used)| used)),
        samples: sampled.taken,
        ..Gpu::new(&device.uuid, &device.model)
    };
    if comparable {
        let (reason, remedy) = why_sampled(&device);
        gpu.others = readable(sampled.others);
        (gpu.peak, gpu.processes, gpu.unmatched) = match accounts {
            Some(accounts) => accounted(&accounts, sampled, processes),
            None => sampled_only(sampled, Exactness::LowerBound { reason, remedy }),
        };
    }
    gpu
}

/// Why there are no accounts, and what to do about it.
fn why_sampled(device: &Device) -> (String, String) {
    let sampled = "processes were sampled every 100 ms or less often";
    match (&device.instance_of, device.accounting) {
        (Some(_), _) => (
            format!("{sampled}: the driver keeps no peaks of processes on MIG instances"),
            "measure on a device without MIG".to_owned(),
        ),
        (None, Some(false)) => (
            format!("{sampled}: the driver's accounting mode is off"),
            "have root switch it on for the whole machine with `nvidia-smi -am 1`".to_owned(),
        ),
        (None, Some(true)) => (format!("{sampled}: the accounts could not be read"), "see the notes".to_owned()),
        (None, None) => (
            format!("{sampled}: the driver has no accounting mode for this device"),
            "measure on a device whose driver has one".to_owned(),
        ),
    }
}

type Conclusion = (Reading<GpuPeak>, Vec<GpuProcess>, Vec<u32>);

fn sampled_only(sampled: &Sampled, exactness: Exactness) -> Conclusion {
    let is_readable = sampled.processes.is_empty() || sampled.processes.values().any(Option::is_some);
    let peak = sampled
        .own
        .filter(|_| is_readable)
        .map_or(Reading::Unsupported, |bytes| Reading::Value(GpuPeak::new(bytes, GpuSource::Sampled, exactness)));
    let process =
        |(pid, peak): (&u32, &Option<Bytes>)| GpuProcess::new(*pid, peak.map_or(Reading::Unsupported, Reading::Value));
    (peak, sampled.processes.iter().map(process).collect(), sampled.unknown.clone())
}

/// The accounts have the peak of each process. Their sum is that of the run if they were reached at one time, and an
/// upper bound otherwise.
fn accounted(accounts: &[Account], sampled: &Sampled, processes: &Processes) -> Conclusion {
    let is_other = |pid: &u32| processes.others.contains(pid);
    let (own, rest): (Vec<Account>, Vec<Account>) =
        accounts.iter().partition(|account| processes.own.contains_key(&account.pid) && !is_other(&account.pid));
    let mut unmatched: Vec<u32> =
        sampled.unknown.iter().copied().filter(|pid| !processes.own.contains_key(pid)).collect();
    unmatched.extend(
        rest.iter().filter(|account| !account.is_running && !is_other(&account.pid)).map(|account| account.pid),
    );
    unmatched
        .extend(rest.iter().map(|account| account.pid).filter(|pid| is_other(pid) && processes.own.contains_key(pid)));
    unmatched.sort_unstable();
    unmatched.dedup();
    let by_pid: BTreeMap<u32, &Account> = own.iter().map(|account| (account.pid, account)).collect();
    let without_account = sampled.processes.keys().find(|pid| !by_pid.contains_key(pid));
    let unreadable = own.iter().find(|account| account.peak.is_none());

    let highest = own.iter().filter_map(|account| account.peak).max().unwrap_or_default();
    let bytes = highest.max(sampled.own.unwrap_or_default());
    let most = together(&own, processes);
    let lower = |reason: String, remedy: &str| Exactness::LowerBound { reason, remedy: remedy.to_owned() };
    let mut at_most = None;
    let exactness = if let Some(account) = unreadable {
        lower(format!("the driver does not report the memory of process {}", account.pid), "use another driver")
    } else if let Some(pid) = without_account {
        lower(format!("process {pid} used the device, and the driver has no account of it"), "run the task again")
    } else if let Some(pid) = unmatched.first() {
        let others = if unmatched.len() > 1 { format!(" and {} more", unmatched.len() - 1) } else { String::new() };
        lower(
            format!("process {pid}{others} used the device and ended before it was seen whose it was"),
            "run the task again while no other task uses the device",
        )
    } else if own.iter().any(|account| account.is_running) {
        lower("a process of the task is still running".to_owned(), "a task whose processes can be killed")
    } else if most > bytes {
        at_most = Some(most);
        lower(
            "several processes used the device, and the driver keeps the peak of each, not of all together".to_owned(),
            "a task that uses the device in one process",
        )
    } else {
        Exactness::Exact { error_bound_bytes: Bytes::ZERO }
    };
    let is_unknown = own.iter().all(|account| account.peak.is_none()) && !own.is_empty() && bytes == Bytes::ZERO;
    let peak = match is_unknown {
        true => Reading::Unsupported,
        false => Reading::Value(GpuPeak { at_most, ..GpuPeak::new(bytes, GpuSource::Accounting, exactness) }),
    };
    let mut found: BTreeMap<u32, GpuProcess> = BTreeMap::new();
    for (pid, peak) in &sampled.processes {
        found.insert(*pid, GpuProcess::new(*pid, peak.map_or(Reading::Unsupported, Reading::Value)));
    }
    for account in &own {
        let process = found.entry(account.pid).or_insert(GpuProcess::new(account.pid, Reading::Unsupported));
        process.peak = account.peak.map_or(process.peak, Reading::Value);
        process.utilization_percent = account.utilization.map_or(Reading::Unsupported, Reading::Value);
    }
    (peak, found.into_values().collect(), unmatched)
}

/// The most that these processes may have had together: the largest sum of the peaks of those that may have lived at the
/// same time.
fn together(own: &[Account], processes: &Processes) -> Bytes {
    let lifetimes: Vec<(Lifetimes, Bytes)> = own
        .iter()
        .filter_map(|account| Some((*processes.own.get(&account.pid)?, account.peak.unwrap_or_default())))
        .collect();
    // Between the looks `at` and `at + 1`.
    let sum = |at: u64| {
        let alive = lifetimes.iter().filter(|(life, _)| life.first <= at + 1 && at <= life.last);
        alive.map(|(_, peak)| *peak).fold(Bytes::ZERO, Bytes::saturating_add)
    };
    lifetimes.iter().map(|(life, _)| sum(life.first.saturating_sub(1))).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn account(pid: u32, mib: u64) -> Account {
        Account { pid, peak: Some(Bytes::mib(mib)), utilization: Some(40), is_running: false }
    }

    fn of_the_run(lives: &[(u32, u64, u64)]) -> Processes {
        let own = lives.iter().map(|(pid, first, last)| (*pid, Lifetimes { first: *first, last: *last })).collect();
        Processes { own, looks: 100, ..Processes::default() }
    }

    /// The peak in MiB, `exact` or the reason, and the upper bound in MiB.
    fn peak(accounts: &[Account], sampled: &Sampled, processes: &Processes) -> (u64, String, Option<u64>) {
        let peak = accounted(accounts, sampled, processes).0.value().unwrap();
        let why = match peak.exactness {
            Exactness::Exact { .. } => "exact".to_owned(),
            Exactness::LowerBound { reason, .. } => reason,
        };
        (peak.bytes.0 >> 20, why, peak.at_most.map(|most| most.0 >> 20))
    }

    #[test]
    fn one_process_has_the_peak_of_its_account() {
        let found = peak(&[account(7, 300)], &Sampled::default(), &of_the_run(&[(7, 2, 9), (8, 1, 50)]));
        assert_eq!(found, (300, "exact".to_owned(), None));
        let unused = peak(&[], &Sampled::default(), &of_the_run(&[(7, 2, 9)]));
        assert_eq!(unused, (0, "exact".to_owned(), None));
    }

    #[test]
    fn processes_that_may_have_met_have_an_upper_bound() {
        let accounts = [account(7, 300), account(8, 200), account(9, 100)];
        let one_after_the_other = of_the_run(&[(7, 2, 4), (8, 6, 8), (9, 10, 12)]);
        assert_eq!(peak(&accounts, &Sampled::default(), &one_after_the_other), (300, "exact".to_owned(), None));
        // One may have begun before the other had ended.
        for met in [[(7, 2, 4), (8, 5, 8), (9, 10, 12)], [(8, 2, 8), (7, 5, 6), (9, 10, 12)]] {
            let (bytes, why, most) = peak(&accounts, &Sampled::default(), &of_the_run(&met));
            assert_eq!((bytes, most), (300, Some(500)), "{why}");
        }
        let sampled = Sampled { own: Some(Bytes::mib(500)), ..Sampled::default() };
        let met = of_the_run(&[(7, 2, 4), (8, 5, 8), (9, 10, 12)]);
        assert_eq!(peak(&accounts, &sampled, &met), (500, "exact".to_owned(), None));
    }

    #[test]
    fn a_process_that_may_be_of_the_run_makes_a_lower_bound() {
        let mut processes = of_the_run(&[(7, 2, 9)]);
        processes.others.insert(9);
        let (bytes, why, most) =
            peak(&[account(7, 300), account(8, 900), account(9, 20)], &Sampled::default(), &processes);
        assert!((bytes, most) == (300, None) && why.starts_with("process 8 used the device and ended"), "{why}");
        let sampled = Sampled { processes: BTreeMap::from([(7, Some(Bytes::mib(5)))]), ..Sampled::default() };
        let (bytes, why, _) = peak(&[], &sampled, &of_the_run(&[(7, 2, 9)]));
        assert!(bytes == 0 && why.contains("the driver has no account of it"), "{why}");
    }

    #[test]
    fn memory_that_the_driver_does_not_report_is_not_0() {
        let hidden = Account { peak: None, ..account(7, 0) };
        assert_eq!(accounted(&[hidden], &Sampled::default(), &of_the_run(&[(7, 2, 9)])).0, Reading::Unsupported);
        let sampled = Sampled { own: Some(Bytes::ZERO), processes: BTreeMap::from([(7, None)]), ..Sampled::default() };
        let exactness = Exactness::LowerBound { reason: String::new(), remedy: String::new() };
        assert_eq!(sampled_only(&sampled, exactness.clone()).0, Reading::Unsupported);
        assert_eq!(sampled_only(&Sampled::default(), exactness).0, Reading::Unsupported);
    }
}
