//! Idle peak: the peak of a container of the image that does nothing.
//!
//! The start of runc itself is charged to the container, 2 to 20 MiB. That is a minimum of every peak; it does not add
//! to it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{ContainerLaunch, ContainerRunner, PeakMethod};
use crate::model::observation::Exactness;
use crate::model::problem::one_line;
use crate::model::units::Bytes;
use crate::runner::cache;
use crate::runner::engine::client::BRISK;
use crate::runner::patience::Patience;
use crate::runner::process::Output;
use crate::runner::{Runner, StartError, probe};

impl ContainerRunner {
    /// Measures the peak of an idle container of the image, cached for this engine, image and way to the peak.
    pub(super) fn measure_idle_peak(&mut self, patience: &mut Patience<'_>) -> Result<Option<Bytes>, StartError> {
        let peak_method = match self.peak_method()? {
            PeakMethod::EnclosingCgroup => "parent",
            PeakMethod::Probe => "probe",
            PeakMethod::ContainerCgroup { .. } => return Ok(None),
        };
        let file = self.idle_peak_file(peak_method);
        if let Some(bytes) = file.as_deref().and_then(remembered) {
            return Ok(Some(bytes));
        }
        let mut launch = ContainerLaunch::new(self.launch.image.clone());
        launch.entrypoint = Some(probe::nothing());
        launch.network.clone_from(&self.launch.network);
        (launch.stdout, launch.stderr) = (Output::Null, Output::Null);
        let mut idle = Self {
            machine: self.machine.clone(),
            engine: self.engine.clone(),
            image: self.image.clone(),
            launch,
            probe: self.probe,
            wants_idle_peak: false,
            idle_peak: None,
            needs_program: true,
            enclosing_refused: self.enclosing_refused.clone(),
        };
        let run = idle.start(patience)?;
        self.engine.wait_readable(patience, BRISK, run.ended());
        let finished = match run.finish(patience) {
            Ok(finished) => finished,
            Err(error) => {
                tracing::warn!("failed to measure an idle container: {}", one_line(&error));
                return Ok(None);
            }
        };
        let peak = finished.peak.value().filter(|peak| matches!(peak.exactness, Exactness::Exact { .. }));
        let bytes = peak.map(|peak| peak.bytes);
        if let (Some(file), Some(bytes)) = (file, bytes) {
            cache::write(&file, &format!("{}\n", bytes.0));
        }
        Ok(bytes)
    }

    /// The cache file, by image, engine, kernel and way to read the peak.
    fn idle_peak_file(&self, peak_method: &str) -> Option<PathBuf> {
        let facts = &self.engine.facts;
        let parts = [
            self.image.id.as_deref()?,
            facts.host.as_deref()?,
            facts.version.as_deref()?,
            facts.kernel.as_deref()?,
            peak_method,
        ];
        cache::file("noise", &parts.join("_"))
    }
}

fn remembered(file: &Path) -> Option<Bytes> {
    fs::read_to_string(file).ok()?.trim().parse().ok().map(Bytes)
}
