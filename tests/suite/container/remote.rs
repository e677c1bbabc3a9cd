//! Remote engines: nothing on this machine is mistaken for theirs.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

#[test]
fn without_an_exact_way_the_peak_is_a_lower_bound_or_unknown() {
    let url = engine_or_skip!();
    // Through an address that is not one of this machine's sockets.
    let port = 20_000 + std::process::id() % 20_000;
    let mut relay = relay(&url, port);
    let host = format!("tcp://127.0.0.1:{port}");
    let remote =
        ran(&["--host", &host, "--image", "exec-form", "--probe", "never", "--", "/task", "touch", "20", "2000"]);
    let probed = ran(&["--host", &host, "--image", "exec-form", "--", "/task", "touch", "20", "5"]);
    relay.kill().unwrap();
    relay.wait().unwrap();
    assert_eq!(remote.json["peak"]["exactness"]["kind"], "lower-bound", "{:#}", remote.json);
    assert_eq!(remote.json["peak"]["source"], "container-cgroup", "{:#}", remote.json);
    assert_exact(&probed.json, "probe", 20);
}

/// Pids from there are not trusted here, whatever they are.
#[test]
fn an_engine_on_another_machine_is_measured_by_the_probe_alone() {
    let Ok(url) = std::env::var("HIGHWATER_TEST_ELSEWHERE") else {
        crate::harness::skip("there is no engine on another machine (use tests/engine/elsewhere)");
        return;
    };
    let kernel = text(&Command::new("uname").arg("-r").output().unwrap().stdout);
    // Found through DOCKER_HOST.
    let probed = ran(&["--image", "exec-form", "--", "/task", "touch", "200", "5"]);
    assert_exact(&probed.json, "probe", 200);
    assert_ne!(probed.json["container"]["engine"]["kernel"], kernel.trim(), "{url} is this machine");
    assert_eq!(probed.json["host"]["kernel"], kernel.trim());
    let unseen = ran(&["--image", "exec-form", "--probe", "never", "--", "/task", "touch", "20", "3000"]);
    assert_eq!((unseen.status, &unseen.json["peak"]), (Some(0), &"unsupported".into()), "{:#}", unseen.json);
    assert_eq!(unseen.json["series"]["taken"], 0, "{:#}", unseen.json);
    assert!(unseen.json["warnings"].to_string().contains("another machine"), "{:#}", unseen.json);
    let killed = ran(&["--limit", "30Mi", "--image", "tiny", "--", "/task", "touch", "100", "0"]);
    assert_eq!(killed.json["outcome"]["kind"], "oom-killed", "{:#}", killed.json);
    assert_eq!(containers_with("highwater.owner"), "");
}

/// Forwards connections from a port to the engine's socket; ready when this returns.
fn relay(url: &str, port: u32) -> std::process::Child {
    let socket = url.strip_prefix("unix://").unwrap();
    let script = format!(
        "import socket, threading\n\
         s = socket.create_server(('127.0.0.1', {port}))\n\
         print('ready', flush=True)\n\
         def pump(a, b):\n\
         \twhile True:\n\
         \t\ttry: d = a.recv(65536)\n\
         \t\texcept OSError: d = b''\n\
         \t\tif not d: break\n\
         \t\tb.sendall(d)\n\
         \ttry: b.shutdown(socket.SHUT_WR)\n\
         \texcept OSError: pass\n\
         while True:\n\
         \tc, _ = s.accept()\n\
         \te = socket.socket(socket.AF_UNIX); e.connect('{socket}')\n\
         \tfor p in ((c, e), (e, c)): threading.Thread(target=pump, args=p, daemon=True).start()\n"
    );
    let mut relay = Command::new("python3").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(relay.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    relay
}
