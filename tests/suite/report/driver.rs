//! A remote-controlled browser: Debian's chromium, over the WebDriver protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// A headless chromium, ended when this is dropped.
pub(super) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts it; `None` if it is not installed.
    pub(super) fn start() -> Option<Self> {
        let driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut driver = driver.ok()?;
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let started = lines.map(Result::unwrap).find(|line| line.contains("started successfully on port")).unwrap();
        let port = started.trim_end_matches('.').rsplit(' ').next().unwrap().parse().unwrap();
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self { driver, port, session: String::new(), _profile: profile };
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            &profile,
        ];
        let capabilities = json!({"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }});
        let session = browser.post("/session", &json!({"capabilities": capabilities}));
        browser.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    /// Opens a file with this screen width, in dark mode or not.
    pub(super) fn open(&self, file: &Path, width: u32, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &features);
        self.post(&format!("{}/url", self.session), &json!({"url": format!("file://{}", file.display())}));
    }

    pub(super) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post(&format!("{}/goog/cdp/execute", self.session), &json!({"cmd": command, "params": parameters}))
    }

    /// The result of a script.
    pub(super) fn run(&self, script: &str) -> Value {
        self.post(&format!("{}/execute/sync", self.session), &json!({"script": script, "args": []}))
    }

    /// The log since the last request: `browser` for errors, `performance` for requests.
    pub(super) fn log(&self, kind: &str) -> Vec<Value> {
        let log = self.post(&format!("{}/se/log", self.session), &json!({"type": kind}));
        log.as_array().unwrap().clone()
    }

    /// The whole page as PNG.
    pub(super) fn screenshot(&self) -> Vec<u8> {
        use base64::Engine;
        let parameters = json!({"captureBeyondViewport": true});
        let shot = self.devtools("Page.captureScreenshot", &parameters);
        base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()
    }

    /// The page on paper, as PDF.
    pub(super) fn print(&self) -> Vec<u8> {
        use base64::Engine;
        let printed = self.devtools("Page.printToPDF", &json!({"preferCSSPageSize": true}));
        base64::engine::general_purpose::STANDARD.decode(printed["data"].as_str().unwrap()).unwrap()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.ask("POST", path, &body.to_string()).unwrap();
        assert!(answer["value"]["error"].is_null(), "{path}: {}", answer["value"]);
        answer["value"].clone()
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> std::io::Result<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes())?;
        // The driver keeps the connection open, whatever it announces.
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer)?;
        Ok(serde_json::from_slice(&answer)?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // The driver ends its browser when it answers; if it does not answer, both are gone already.
            let _ = self.ask("DELETE", &self.session, "");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
