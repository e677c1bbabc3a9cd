# What can be done with this repository. `tests/run` installs what these recipes need and calls `ci`.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Lists the recipes.
default:
    @just --list --unsorted

# Everything that has to hold before a change is taken in, with the time of each step.
ci: forget-ran
    #!/usr/bin/env bash
    set -euo pipefail
    mkdir -p target/ran
    step() {
      local started=$SECONDS
      {{ just_executable() }} "$1"
      echo "just $1 took $((SECONDS - started)) s" | tee -a target/ran/times
    }
    # Kubernetes and what packs a release are built beside steps that measure nothing and often leave a processor idle.
    { tests/kubernetes/build && packaging/dist --tools; } > target/kubernetes.log 2>&1 & building=$!
    trap 'kill $building 2> /dev/null || true' EXIT
    for name in fmt clippy doc book deny build-tests; do step $name; done
    wait $building || { cat target/kubernetes.log; exit 1; }
    trap - EXIT
    for name in test check-reports test-engine test-podman test-elsewhere test-slurm test-kubernetes \
        test-dist test-v2 test-v2-systemd ran; do
      step $name
    done
    cat target/ran/times

# What to run while working on a change: no engine, no virtual machine.
quick: fmt clippy test

# Formatting.
fmt:
    cargo fmt --all --check

# Lints; a warning is a failure.
clippy:
    cargo clippy --locked --all-targets -- -D warnings
    for features in "" "containers gpu operators" "kubernetes plots templates"; do \
      cargo clippy --locked --lib --no-default-features --features "$features" -- -D warnings; \
    done
    cargo clippy --locked --manifest-path fuzz/Cargo.toml --all-targets -- -D warnings

# The documentation of the library builds without a warning.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib

# Builds docs/ as a book in target/book/docs. Warnings and broken links are failures. Pages link to files of the repository,
# so the recipe copies those to target/book.
book:
    #!/usr/bin/env bash
    set -euo pipefail
    command -v mdbook > /dev/null || \
      cargo install --locked --quiet --debug --no-default-features --features search mdbook
    rm -rf target/book
    mdbook build 2>&1 | tee target/book.log
    ! grep -E 'WARN|ERROR' target/book.log
    git ls-files -z -- action.yml examples fixtures/ci fixtures/records reports | xargs -0 cp --parents -t target/book
    cd target/book/docs
    for page in *.html; do
      grep -oP '(?:href|src)="(?!/)\K[^"#:]+(?=[#"])' "$page" | sort -u | while read -r link; do
        [ -e "$link" ] || echo "docs/${page/%html/md}: $link is not in the book"
      done
    done > ../links
    ! grep . ../links

# Licenses, sources and versions of the dependencies, those of other systems included: what a
# build here has not downloaded is fetched first.
deny:
    command -v cargo-deny > /dev/null || cargo install --locked --quiet --debug cargo-deny
    cargo fetch --locked
    cargo deny --locked --offline check bans licenses sources

[private]
build-tests: build-suite
    cargo test --locked --no-run

# All tests on this host.
test:
    mkdir -p target/ran
    cargo test --locked 2>&1 | tee target/ran/here.log
    cargo test --locked --lib --no-default-features a_build_without

# The tests of containers, on a Docker Engine of their own on this host.
test-engine: build-suite
    tests/engine/run -- {{ suite }} container:: --test-threads 2 2>&1 | tee target/ran/docker.log

# The same on Podman.
test-podman: build-suite
    tests/engine/run --podman -- {{ suite }} container:: --test-threads 2 2>&1 | tee target/ran/podman.log

# The tests of pods, on a Kubernetes of their own; builds it first, which takes 7 CPU minutes once.
test-kubernetes: build-suite
    tests/kubernetes/run -- {{ suite }} kubernetes:: --test-threads 4 2>&1 | tee target/ran/kubernetes.log

# From this host on a Docker Engine in a virtual machine, of which nothing is to be seen here.
test-elsewhere: build-suite
    tests/engine/elsewhere -- {{ suite }} container::remote::an_engine 2>&1 | tee target/ran/elsewhere.log

# The tests of sweeps on Slurm, on a cluster of one node on this host.
test-slurm: build-suite
    tests/slurm/run -- {{ suite }} slurm:: --test-threads 2 2>&1 | tee target/ran/slurm.log

# Peaks of so many runs each: every one has to be exact. TARGET is engine, v2, v2-systemd or podman.
test-exact target="engine" runs="50": build-suite
    export HIGHWATER_TEST_RUNS={{ runs }}; \
    run=({{ suite }} container::exact::every --nocapture --test-threads 1); \
    machine=(tests/machine/run --timeout 36000 --env HIGHWATER_TEST_RUNS --env HIGHWATER_TEST_TASK); \
    case {{ target }} in \
      engine) tests/engine/run -- "${run[@]}" ;; \
      podman) tests/engine/run --podman -- "${run[@]}" ;; \
      v2) "${machine[@]}" -- tests/engine/run -- "${run[@]}" ;; \
      v2-systemd) "${machine[@]}" --systemd -- tests/engine/run --systemd -- "${run[@]}" ;; \
    esac

# The tests that depend on the kernel, on cgroup v2.
test-v2: (test-in-machine "v2")

# Under systemd: as an ordinary user with delegation, and as root what depends on where the cgroup is made.
test-v2-systemd: (test-in-machine "v2-systemd" "--systemd")

# The same on cgroup v1.
test-v1: (test-in-machine "v1" "--cgroup" "v1")

# The same on cgroup v2 before Linux 5.19, which keeps no peak.
test-v2-old: (test-in-machine "v2-old" "--kernel" "bullseye")

# What packaging/dist packs, of a debug build and in clean Debian roots; as root.
test-dist:
    packaging/dist --dev
    {{ just_executable() }} build-suite
    tests/dist target/dist-dev {{ suite }}

[private]
test-in-machine name *options: build-suite
    tests/machine/run {{ options }} --timeout 3000 --env HIGHWATER_TEST_RUNS=1 --env HIGHWATER_TEST_TASK -- \
      tests/machine/suite {{ suite }} 2>&1 | tee target/ran/{{ name }}.log

[private]
build-suite:
    mkdir -p target/ran
    cargo build --locked --example workload --example nvml_stand_in
    tests/engine/build-task target/task
    cargo test --locked --test suite --no-run 2>&1 | tee target/suite.log

# What the build has to say of where the tests are.
suite := '''"$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' target/suite.log)"'''

# The program in the images of the tests.
export HIGHWATER_TEST_TASK := justfile_directory() / "target/task"

# Fuzzes rules, quantities, patterns and documents with templates for SECONDS each, two at a time, on a stable
# toolchain. An input that takes 10 s or 1 GB is a failure. Not in CI: the instrumented build alone takes 8 minutes.
fuzz seconds="30":
    #!/usr/bin/env bash
    set -euo pipefail
    command -v cargo-fuzz > /dev/null || cargo install --locked --quiet --debug cargo-fuzz
    mkdir -p fuzz/corpus/{rule,quantity,pattern,document}
    cat fixtures/rules/{accepted,refused}.txt | split -l 1 -a 3 - fuzz/corpus/rule/seed-
    cat fixtures/rules/{quantities,no-quantities}.txt | split -l 1 -a 3 - fuzz/corpus/quantity/seed-
    split -l 1 -a 3 fixtures/rules/patterns.txt fuzz/corpus/pattern/seed-
    split -l 1 -a 3 fixtures/templates/costly.txt fuzz/corpus/document/seed-
    cp fixtures/tasks/{good,bad}/*.json fuzz/corpus/document
    fuzz() {
      cargo fuzz run -s none "$1" fuzz/corpus/"$1" -- -max_total_time={{ seconds }} -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 "${@:2}"
    }
    cargo fuzz build -s none
    fuzz rule -max_len=96 & other=$!
    fuzz quantity -max_len=96
    wait $other
    fuzz pattern -max_len=96 & other=$!
    fuzz document -max_len=2048 -dict=fuzz/document.dict
    wait $other

# The program for distribution, target/dist/highwater: static and at fixed addresses, which halves the time it takes to start.
release:
    cargo rustc --locked --release --bin highwater -- -C target-feature=+crt-static -C relocation-model=static
    mkdir -p target/dist
    cp target/release/highwater target/dist/highwater

# What a release consists of, in target/dist: archive, .deb, wheel, image, SBOM and checksums.
dist:
    packaging/dist

# How many tests the last runs ran, and where.
ran:
    @echo
    @awk '/^test result: ok/ { passed += $4 } /^skipped / { passed-- } \
      END { print passed " tests ran on this host (Linux '"$(uname -r)"')" }' target/ran/here.log
    @for engine in 'docker a Docker Engine' 'podman Podman' 'elsewhere a Docker Engine in a machine of its own' 'slurm Slurm' 'kubernetes Kubernetes'; do \
      awk -v where="${engine#* }" '/^test result: ok/ { passed += $4 } /^skipped / { passed-- } \
        END { print passed " tests ran on " where }' "target/ran/${engine%% *}.log"; \
    done
    @cat $(ls -tr target/ran/v*.log) | sed -n 's/^RAN: //p'

[private]
forget-ran:
    @rm -rf target/ran

# What measuring a process costs (criterion), beside a bare spawn and time(1); needs a quiet machine.
bench-process: release
    HIGHWATER=$PWD/target/dist/highwater cargo bench --locked --bench process

# What measuring a container costs, beside the engine's own calls and `docker run --rm`; needs a quiet machine.
bench-container: release
    HIGHWATER_TEST_PROGRAM=$PWD/target/dist/highwater tests/engine/run cargo bench --locked --bench container

# What taking the size of a channel costs, beside its peers.
bench-tree:
    command -v diskus > /dev/null || cargo install --locked --quiet diskus
    cargo bench --locked --bench tree

# How long it takes to stage subsets of 10,000 items, beside `cp -al`.
bench-staging:
    cargo bench --locked --bench staging

# What reading and evaluating scale rules costs (criterion).
bench-rules:
    cargo bench --locked --bench rules

# What 100,000 and a million records cost: peak memory (300 MB at most) and time of each command that reads them.
bench-records:
    cargo bench --locked --bench records

# What sweeps of up to 100,000 cells cost on a simulated Slurm of 1,000 nodes.
bench-slurm:
    cargo bench --locked --bench slurm

# What a sweep of 10,000 pods costs on a simulated Kubernetes of 1,000 nodes.
bench-kubernetes:
    cargo bench --locked --bench kubernetes

# What a report on 10,000 runs costs (criterion): 2 seconds and 5 MB of HTML at most.
bench-report:
    cargo bench --locked --bench report

# Makes the example reports in reports/ again, from the recorded sweep. Another folder is for comparing.
reports into="reports":
    cargo build --locked --quiet --bin highwater
    rm -rf {{ into }}/segment
    mkdir -p {{ into }}/segment
    printf '%s\n' html md csv json txt | xargs -P 2 -I{} \
      target/debug/highwater report fixtures/records/segment/observations.jsonl -o {{ into }}/segment/report.{}
    target/debug/highwater report fixtures/records/segment/observations.jsonl --plots {{ into }}/segment/plots > /dev/null

# The example reports are what the program makes of the recorded sweep, byte for byte.
check-reports: (reports "target/reports")
    diff --recursive --brief reports/segment target/reports/segment

# Records the sweep of fixtures/records/segment anew.
record-segment: release
    fixtures/records/segment/record target/release/highwater

# The false-positive and false-negative rates of `highwater check`: real runs, 200 checks, 50 planted changes of each kind.
gate checks="200" planted="50":
    tests/gate {{ checks }} {{ planted }}

# How far fitted rules reach: eight programs of Debian, fitted on small inputs and judged on larger ones; needs exact
# peaks. With --trial, four other programs.
programs *options: release
    HIGHWATER=target/dist/highwater tests/programs {{ options }}

# The same under noise, by simulation: false alarms and misses in CHECKS checks each.
gate-noise checks="2000":
    cargo bench --locked --bench gate -- {{ checks }}

# Records the hosts of fixtures/hosts anew.
record-hosts:
    fixtures/hosts/record
