//! What passes by itself: an API server that restarts, and a quota that is used up.

use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Namespace, Running, await_that, json, kubectl};

/// Stands between highwater and the API server, which the other tests need.
#[derive(Clone, Default)]
struct Proxy {
    is_cut: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// Starts it; returns also a kubeconfig.
    fn start(folder: &Path) -> (Self, String) {
        let config = std::env::var("HIGHWATER_TEST_KUBERNETES").unwrap();
        let text = std::fs::read_to_string(&config).unwrap();
        let server = text.split("https://").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let keys = Path::new(&config).parent().unwrap().join("pki/");
        let text = text.replace(&server, &address).replace("pki/", keys.to_str().unwrap());
        let path = folder.join("kubeconfig");
        std::fs::write(&path, text).unwrap();
        let proxy = Self::default();
        let own = proxy.clone();
        // Ends with the suite: it waits for a connection that does not come.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if !own.is_cut.load(Ordering::Relaxed) {
                    own.connect(client, &server);
                }
            }
        });
        (proxy, path.to_str().unwrap().to_owned())
    }

    fn connect(&self, client: TcpStream, server: &str) {
        let server = TcpStream::connect(server).unwrap();
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        self.streams.lock().unwrap().extend([client, server]);
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.is_cut.store(false, Ordering::Relaxed);
    }
}

#[test]
fn a_run_outlasts_an_api_server_that_is_away() {
    cluster_or_skip!();
    let (namespace, folder) = (Namespace::new("away"), tempfile::tempdir().unwrap());
    let (proxy, kubeconfig) = Proxy::start(folder.path());
    let task = "echo one; sleep 2; echo two";
    let running = Running::start(&namespace, &["--kubeconfig", &kubeconfig, "--", "/bin/sh", "-c", task]);
    namespace.await_running();
    proxy.cut();
    std::thread::sleep(Duration::from_secs(3));
    proxy.mend();
    let ran = running.end();
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), "one\ntwo\n"), "{ran:#?}");
    assert_eq!(ran.record["peak"]["exactness"]["kind"], "exact", "{ran:#?}");
    assert_eq!(namespace.leftovers(), "");
}

#[test]
fn a_pod_waits_for_the_quota_of_its_namespace() {
    cluster_or_skip!();
    let namespace = Namespace::new("quota");
    let name = namespace.0.as_str();
    kubectl(&["create", "quota", "pods", "--hard=pods=0", "--namespace", name]);
    let known = ["get", "quota", "pods", "--namespace", name, "-o", "jsonpath={.status.hard.pods}"];
    await_that("the quota is known", || kubectl(&known) == "0");
    let running = Running::start(&namespace, &["--pending-timeout", "30s", "--", "/task", "touch", "20", "0"]);
    std::thread::sleep(Duration::from_secs(1));
    kubectl(&["patch", "quota", "pods", "--namespace", name, "-p", "{\"spec\": {\"hard\": {\"pods\": \"1\"}}}"]);
    let ran = running.end();
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    ran.assert_exact(20);
    kubectl(&["patch", "quota", "pods", "--namespace", name, "-p", "{\"spec\": {\"hard\": {\"pods\": \"0\"}}}"]);
    await_that("the quota is known", || kubectl(&known) == "0");
    let ran = namespace.run(&["--pending-timeout", "1s", "--", "/task", "touch", "20", "0"]);
    assert_eq!((ran.status, &ran.record["outcome"]["kind"]), (Some(3), &json!("lost")), "{ran:#?}");
    assert!(ran.notes().contains("exceeded quota"), "{ran:#?}");
    assert_eq!(namespace.leftovers(), "");
}
