//! A run in a cgroup of its own: the kernel keeps its peak.

use super::Ended;
use crate::host::HostError;
use crate::host::cgroup::Cgroup;
use crate::host::memory::MemoryReader;
use crate::model::observation::{Exactness, Limits, Peak, PeakSource, Swap};
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::runner::guardian::Guardian;
use crate::runner::own_cgroup::OwnCgroup;
use crate::runner::{FinishError, Finished, Sample};

#[derive(Debug)]
pub(super) struct InCgroup {
    /// `None` once it has been removed.
    own: Option<OwnCgroup>,
    reader: MemoryReader,
    keeps_peak: bool,
    noise: Bytes,
    guardian: Option<Guardian>,
}

impl InCgroup {
    pub(super) fn new(own: OwnCgroup, keeps_peak: bool, noise: Bytes) -> Self {
        let reader = MemoryReader::new(own.cgroup());
        Self { own: Some(own), reader, keeps_peak, noise, guardian: None }
    }

    /// Has the cgroup cleaned up, should highwater be killed.
    pub(super) fn guard(&mut self) {
        let (None, Some(own)) = (&self.guardian, &self.own) else { return };
        match Guardian::post(own.cgroup()) {
            Ok(guardian) => self.guardian = Some(guardian),
            Err(error) => tracing::debug!("no guardian could be posted: {error}"),
        }
    }

    pub(super) fn sample(&mut self) -> Result<Reading<Sample>, HostError> {
        let current = self.reader.current()?;
        let split = self.reader.split()?;
        Ok(current.map(|current| Sample { current, split }))
    }

    /// Kills what is left, reads everything and removes the cgroup.
    pub(super) fn finish(&mut self, ended: Ended) -> Result<Finished, FinishError> {
        let leftover = match &self.own {
            Some(own) => Reading::Value(own.kill_all()?),
            None => Reading::Gone,
        };
        let last = self.sample()?;
        let own_limit = self.reader.limit()?;
        let effective = match &self.own {
            Some(own) => effective_limit(own.cgroup(), own_limit),
            None => Reading::Gone,
        };
        let finished = Finished {
            end: ended.end,
            peak: self.peak(ended.highest, last)?,
            last,
            swap: Swap { peak: self.reader.swap_peak()?, last: self.reader.swap()? },
            limit: Limits { own: own_limit, effective },
            events: self.reader.events()?,
            cpu: self.reader.cpu()?.or(Reading::Value(ended.rusage)),
            io: self.reader.io()?,
            pids_peak: self.reader.pids_peak()?,
            pressure: self.reader.pressure()?,
            leftover_processes: leftover,
        };
        if let Some(own) = self.own.take() {
            own.remove()?;
        }
        self.guardian = None;
        Ok(finished)
    }

    fn peak(&mut self, highest: Option<Bytes>, last: Reading<Sample>) -> Result<Reading<Peak>, HostError> {
        if self.keeps_peak {
            let file = Some(self.reader.peak_file().to_owned());
            let exactness = Exactness::Exact { noise_bytes: self.noise };
            return Ok(self.reader.peak()?.map(|bytes| Peak { bytes, source: PeakSource::OwnCgroup, file, exactness }));
        }
        let highest = highest.max(last.value().map(|sample| sample.current));
        Ok(highest.map_or(Reading::Unsupported, |bytes| {
            Reading::Value(Peak {
                bytes,
                source: PeakSource::PolledCgroup,
                file: Some(self.reader.current_file().to_owned()),
                exactness: Exactness::LowerBound {
                    reason: "this kernel keeps no peak for cgroup v2 (memory.peak came with Linux 5.19)".to_owned(),
                    remedy: "use Linux 5.19 or newer, or a distribution's kernel that has it back-ported".to_owned(),
                },
            })
        }))
    }
}

/// The lowest limit of the cgroup and of all above it. Those that cannot be read are left out.
fn effective_limit(cgroup: &Cgroup, own: Reading<Option<Bytes>>) -> Reading<Option<Bytes>> {
    cgroup.ancestry().skip(1).fold(own, |lowest, above| {
        let limit = MemoryReader::new(&above).limit().ok().and_then(Reading::value).flatten();
        lowest.map(|lowest| match (lowest, limit) {
            (Some(lowest), Some(limit)) => Some(lowest.min(limit)),
            (lowest, limit) => lowest.or(limit),
        })
    })
}
