//! Recorded machines, read like the running one.

use std::fmt::Write as _;
use std::path::Path;

use highwater::host::HostRoots;
use highwater::host::cgroup::{memory_cgroup, v1_companions};
use highwater::host::memory::MemoryReader;
use highwater::host::processes::proportional_sizes;

/// Everything that can be read of the recorded task, one value per line.
fn reading_of(case: &str) -> String {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts").join(case);
    let roots = HostRoots::recorded(&tree);
    let pid = std::fs::read_to_string(tree.join("task.pid")).unwrap().trim().to_owned();
    let mut text = String::new();
    match memory_cgroup(&roots, &pid) {
        Err(error) => {
            writeln!(text, "error      {}", error.to_string().replace(&tree.display().to_string(), "")).unwrap()
        }
        Ok(cgroup) => {
            let companions = v1_companions(&roots, &pid).unwrap();
            let mut reader = MemoryReader::new(&cgroup).with_companions(&companions);
            let place = cgroup.path.strip_prefix(&roots.sys_fs_cgroup).unwrap();
            writeln!(text, "version    {:?}", cgroup.version()).unwrap();
            writeln!(text, "cgroup     {}", place.display()).unwrap();
            writeln!(text, "ancestors  {}", cgroup.ancestry().count() - 1).unwrap();
            writeln!(text, "peak       {:?}", reader.peak().unwrap()).unwrap();
            writeln!(text, "current    {:?}", reader.current().unwrap()).unwrap();
            writeln!(text, "split      {:?}", reader.split().unwrap()).unwrap();
            writeln!(text, "limit      {:?}", reader.limit().unwrap()).unwrap();
            writeln!(text, "events     {:?}", reader.events().unwrap()).unwrap();
            writeln!(text, "swap       {:?}", reader.swap().unwrap()).unwrap();
            writeln!(text, "swap peak  {:?}", reader.swap_peak().unwrap()).unwrap();
            writeln!(text, "swap limit {:?}", reader.swap_limit().unwrap()).unwrap();
            writeln!(text, "cpu        {:?}", reader.cpu().unwrap()).unwrap();
            writeln!(text, "io         {:?}", reader.io().unwrap()).unwrap();
            writeln!(text, "pids peak  {:?}", reader.pids_peak().unwrap()).unwrap();
            writeln!(text, "pressure   {:?}", reader.pressure().unwrap()).unwrap();
        }
    }
    writeln!(text, "process    {:?}", proportional_sizes(&roots, &[pid.parse().unwrap()])).unwrap();
    text
}

macro_rules! recorded {
    ($($name:ident: $case:literal,)*) => {
        $(
            #[test]
            fn $name() {
                insta::assert_snapshot!(reading_of($case));
            }
        )*
    };
}

recorded! {
    a_bare_v2_host_is_read: "v2-bare",
    a_v2_host_under_systemd_is_read: "v2-systemd",
    a_v2_host_before_linux_5_19_is_read_without_a_peak: "v2-before-5.19",
    a_v1_host_is_read: "v1",
    a_container_on_a_v1_host_is_read: "v1-container",
    a_hybrid_host_with_memory_on_v1_is_read: "hybrid",
    a_hybrid_host_with_memory_on_v2_is_read: "hybrid-v2",
    a_container_in_a_container_is_read: "nested-container",
    rootless_podman_is_read: "podman-rootless",
}
