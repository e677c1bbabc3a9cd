//! The trees: many directories with few files, and one directory with many.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;

/// The files in each directory of the deep tree.
const FILES_PER_FOLDER: usize = 100;

pub(crate) struct Trees {
    base: PathBuf,
    deep: (String, PathBuf),
    flat: (String, PathBuf),
}

impl Trees {
    /// Makes a tree of `files` in directories three deep, and another of two fifths of them in one directory.
    pub(crate) fn make(files: usize) -> Self {
        let parent = std::env::var_os("HIGHWATER_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let base = parent.join(format!("highwater-bench-{files}"));
        let (deep, flat) = (base.join("deep"), base.join("flat"));
        let (folders, flat_files) = (files.div_ceil(FILES_PER_FOLDER), files * 2 / 5);
        let finished = base.join("finished");
        if !finished.exists() {
            fs::create_dir_all(&base).expect("the temporary folder can be written");
            thread::scope(|scope| {
                scope.spawn(|| make_deep(&deep, folders));
                scope.spawn(|| fill(&flat, flat_files));
            });
            File::create(finished).expect("the temporary folder can be written");
        }
        Self {
            deep: (format!("deep: {files} files in {folders} folders three deep"), deep),
            flat: (format!("flat: {flat_files} files in one folder"), flat),
            base,
        }
    }

    pub(crate) fn roots(&self) -> [(&str, &Path); 2] {
        [&self.deep, &self.flat].map(|(name, root)| (name.as_str(), root.as_path()))
    }
}

impl Drop for Trees {
    fn drop(&mut self) {
        if std::env::var_os("HIGHWATER_BENCH_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.base);
        }
    }
}

/// 10 patients, 20 studies each, and as many series as it takes.
fn make_deep(root: &Path, folders: usize) {
    for folder in 0..folders {
        let (patient, study, series) = (folder % 10, folder / 10 % 20, folder / 200);
        fill(&root.join(format!("patient{patient:02}/study{study:02}/series{series:03}")), FILES_PER_FOLDER);
    }
}

fn fill(folder: &Path, files: usize) {
    fs::create_dir_all(folder).expect("the temporary folder can be written");
    for file in 0..files {
        let made = File::create(folder.join(format!("im{file:06}.dcm"))).expect("the temporary folder can be written");
        // A hole: sizes without the time it takes to write them.
        made.set_len((file as u64 * 7919) % 100_000).expect("a file can be made longer");
    }
}
