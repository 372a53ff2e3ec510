//! Chromium without a window, through chromedriver. WebDriver is JSON over HTTP: the few requests that are made here need
//! no crate.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is missing: `.ci/prerequisites test` installs it");
        let mut said = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = said.find_map(|line| {
            line.unwrap().strip_suffix('.')?.rsplit_once("started successfully on port ")?.1.parse().ok()
        });
        // It must not stop at a full pipe.
        std::thread::spawn(move || said.for_each(drop));
        let mut browser =
            Self { driver, port: port.expect("chromedriver names its port"), session: String::new() };
        let mut arguments =
            vec!["--headless=new", "--hide-scrollbars", "--disable-gpu", "--disable-dev-shm-usage"];
        if rustix::process::geteuid().is_root() {
            arguments.push("--no-sandbox");
        }
        let wanted = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments },
        });
        let made = browser.ask("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        browser.session = made["sessionId"].as_str().unwrap().to_owned();
        browser.size(1280, 900);
        browser
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n");
        write!(stream, "{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}").unwrap();
        // Chromium inherits the connection by which it is started, so that one has no end.
        let (mut answer, mut head) = (BufReader::new(stream), String::new());
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(answer.read_line(&mut head).unwrap(), 0, "{head}");
        }
        let length =
            |line: &str| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok();
        let mut body = vec![0; head.lines().find_map(length).unwrap()];
        answer.read_exact(&mut body).unwrap();
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {value:#}");
        value["value"].clone()
    }

    fn post(&self, what: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}/{what}", self.session), body)
    }

    /// A command of Chromium's own protocol.
    fn chromium(&self, command: &str, parameters: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    pub(crate) fn size(&self, width: u32, height: u32) {
        let mobile = width < 500;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.chromium("Emulation.setDeviceMetricsOverride", &size);
    }

    pub(crate) fn dark(&self, dark: bool) {
        let scheme = json!({ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } });
        self.chromium("Emulation.setEmulatedMedia", &json!({ "features": [scheme] }));
    }

    pub(crate) fn open(&self, address: &str) {
        self.post("url", &json!({ "url": address }));
    }

    /// What a script returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The text of the page, as a person reads it.
    pub(crate) fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Presses keys, one after the other; WebDriver has code points of its own for those without a letter.
    pub(crate) fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }))
            })
            .collect();
        self.post("actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": strokes }] }));
    }

    /// Waits until the page shows it; so long that a service may take `within`.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, within: Duration, shown: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let text = self.text();
            if shown(&text) {
                println!("the page shows it after {:.1?}: {what}", begun.elapsed());
                return text;
            }
            if begun.elapsed() > within {
                self.shoot("failed");
                panic!("not on the page within {within:?}: {what}\n{text}\n{}", self.complaints().join("\n"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What the browser complained of: what the page's own policy forbids, and errors of its scripts.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({ "type": "browser" }));
        let lines = log.as_array().unwrap().iter().filter(|line| line["level"] == "SEVERE");
        let texts = lines.map(|line| line["message"].as_str().unwrap_or_default().to_owned());
        // A service that is away is what a scenario makes.
        texts.filter(|text| !text.contains("net::ERR_") && !text.contains("status of 4")).collect()
    }

    /// A picture of the whole page, below `target/page`.
    pub(crate) fn shoot(&self, name: &str) -> PathBuf {
        let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("page");
        std::fs::create_dir_all(&target).unwrap();
        let path = target.join(format!("{name}.png"));
        let size = self.chromium("Page.getLayoutMetrics", &json!({}))["cssContentSize"].clone();
        let height = size["height"].as_f64().unwrap().min(4_000.0);
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": height, "scale": 1 });
        self.picture(&json!({ "format": "png", "captureBeyondViewport": true, "clip": clip }), &path);
        path
    }

    /// A picture of what is seen without scrolling.
    pub(crate) fn shoot_view(&self, path: &std::path::Path) {
        self.picture(&json!({ "format": "png" }), path);
    }

    fn picture(&self, parameters: &Value, path: &std::path::Path) {
        let shot = self.chromium("Page.captureScreenshot", parameters);
        std::fs::write(path, STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium too. After a panic it may have gone.
        if !self.session.is_empty()
            && let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port))
        {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = write!(
                stream,
                "DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
                self.session
            );
            let _ = stream.read_to_end(&mut Vec::new());
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
