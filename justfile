# What can be done with this repository. `tests/run` installs what these recipes need and calls `ci`.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Lists the recipes.
default:
    @just --list --unsorted

# Everything that has to hold before a change is taken in.
ci: forget-ran fmt clippy doc test test-v2 test-v2-systemd ran

# Formatting.
fmt:
    cargo fmt --all --check

# Lints; a warning is a failure.
clippy:
    cargo clippy --locked --all-targets -- -D warnings
    cargo clippy --locked --lib --no-default-features -- -D warnings

# The documentation of the library builds without a warning.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib

# All tests on this host.
test:
    mkdir -p target/ran
    cargo test --locked 2>&1 | tee target/ran/here.log

# The tests that depend on the kernel, on cgroup v2.
test-v2: (test-in-machine "v2")

# The same under systemd: as root, and as an ordinary user with and without delegation.
test-v2-systemd: (test-in-machine "v2-systemd" "--systemd")

# The same on cgroup v1.
test-v1: (test-in-machine "v1" "--cgroup" "v1")

# The same on cgroup v2 before Linux 5.19, which keeps no peak.
test-v2-old: (test-in-machine "v2-old" "--kernel" "bullseye")

[private]
test-in-machine name *options: build-suite
    mkdir -p target/ran
    tests/machine/run {{ options }} -- tests/machine/suite \
      "$(cat target/suite-path)" 2>&1 | tee target/ran/{{ name }}.log

[private]
build-suite:
    cargo build --locked --example workload
    cargo test --locked --test suite --no-run 2>&1 | tee /dev/stderr \
      | sed -n 's/^ *Executable .*(\(.*\))$/\1/p' > target/suite-path

# How many tests the last runs ran, and where.
ran:
    @echo
    @awk '/^test result: ok/ { passed += $4 } /^skipped / { passed-- } \
      END { print passed " tests ran on this host (Linux '"$(uname -r)"')" }' target/ran/here.log
    @cat target/ran/v*.log | sed -n 's/^RAN: //p'

[private]
forget-ran:
    @rm -rf target/ran

# What measuring a process costs (criterion).
bench-process:
    cargo bench --locked --bench process

# What reading and evaluating scale rules costs (criterion).
bench-rules:
    cargo bench --locked --bench rules

# Records the hosts of fixtures/hosts anew.
record-hosts:
    fixtures/hosts/record
