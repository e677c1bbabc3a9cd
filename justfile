# What can be done with this repository. `tests/run` installs what these recipes need and calls `ci`.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Lists the recipes.
default:
    @just --list --unsorted

# Everything that has to hold before a change is taken in.
ci: forget-ran fmt clippy doc test check-reports test-engine fuzz test-v2 test-v2-systemd ran

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

# The tests of containers, on a Docker Engine of their own on this host.
test-engine: build-suite
    mkdir -p target/ran
    tests/engine/run -- "$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' target/suite.log)" container:: --test-threads 2 2>&1 | tee target/ran/engine.log

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
      "$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' target/suite.log)" 2>&1 | tee target/ran/{{ name }}.log

[private]
build-suite:
    cargo build --locked --example workload
    cargo test --locked --test suite --no-run 2>&1 | tee target/suite.log

# Fuzzes rules, quantities and patterns, so many seconds each; a stable toolchain does.
fuzz seconds="60":
    command -v cargo-fuzz > /dev/null || cargo install --locked --quiet cargo-fuzz
    mkdir -p fuzz/corpus/{rule,quantity,pattern}
    cat fixtures/rules/{accepted,refused}.txt | split -l 1 -a 3 - fuzz/corpus/rule/seed-
    cat fixtures/rules/{quantities,no-quantities}.txt | split -l 1 -a 3 - fuzz/corpus/quantity/seed-
    split -l 1 -a 3 fixtures/rules/patterns.txt fuzz/corpus/pattern/seed-
    for target in rule quantity pattern; do \
      cargo fuzz run -s none $target fuzz/corpus/$target -- -max_total_time={{ seconds }} -max_len=96 -print_final_stats=1; \
    done

# The program for distribution, target/dist/highwater: static and at fixed addresses, which halves the time it takes to start.
release:
    cargo rustc --locked --release --bin highwater -- -C target-feature=+crt-static -C relocation-model=static
    mkdir -p target/dist
    cp target/release/highwater target/dist/highwater

# How many tests the last runs ran, and where.
ran:
    @echo
    @awk '/^test result: ok/ { passed += $4 } /^skipped / { passed-- } \
      END { print passed " tests ran on this host (Linux '"$(uname -r)"')" }' target/ran/here.log
    @awk '/^test result: ok/ { print $4 " tests ran on a Docker Engine" }' target/ran/engine.log
    @cat $(ls -tr target/ran/v*.log) | sed -n 's/^RAN: //p'

[private]
forget-ran:
    @rm -rf target/ran

# What measuring a process costs (criterion), beside a bare spawn and time(1); needs a quiet machine.
bench-process: release
    HIGHWATER=$PWD/target/dist/highwater cargo bench --locked --bench process

# What taking the size of a channel costs, beside its peers.
bench-tree:
    command -v diskus > /dev/null || cargo install --locked --quiet diskus
    cargo bench --locked --bench tree

# What reading and evaluating scale rules costs (criterion).
bench-rules:
    cargo bench --locked --bench rules

# What a report on 10,000 runs costs (criterion): 2 seconds and 5 MB of HTML at most.
bench-report:
    cargo bench --locked --bench report

# Makes the example reports in reports/ again, from the recorded sweep. Another folder is for comparing.
reports into="reports":
    cargo build --locked --quiet --bin highwater
    rm -rf {{ into }}/segment
    mkdir -p {{ into }}/segment
    for ending in html md csv json txt; do \
      target/debug/highwater report fixtures/records/segment/observations.jsonl -o {{ into }}/segment/report.$ending; \
    done
    target/debug/highwater report fixtures/records/segment/observations.jsonl --plots {{ into }}/segment/plots > /dev/null

# The example reports are what the program makes of the recorded sweep, byte for byte.
check-reports: (reports "target/reports")
    diff --recursive --brief reports/segment target/reports/segment

# Records the sweep of fixtures/records/segment anew.
record-segment: release
    fixtures/records/segment/record target/release/highwater

# How often `highwater check` cries wolf, and how often it sleeps: real runs, 200 checks, 50 planted changes of each kind.
gate checks="200" planted="50":
    tests/gate {{ checks }} {{ planted }}

# Records the hosts of fixtures/hosts anew.
record-hosts:
    fixtures/hosts/record
