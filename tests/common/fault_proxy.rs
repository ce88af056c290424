//! A proxy in front of the loopback registry that does wrong what a test wants,
//! and counts what it was asked for.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing is ever answered.
    Silence,
    /// The body stops after so many bytes, the connection stays.
    StallAfter(usize),
    /// The connection is reset before any answer.
    Reset,
    /// The connection ends after so many bytes of the body.
    CutAfter(usize),
    /// One byte of the body, in its middle, is another.
    Flip,
    /// The body comes byte by byte, so many milliseconds apart.
    Drip(u64),
    /// The headers of this name are replaced, or added.
    Header(&'static str, String),
    /// Another answer: status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
}

/// A status without a body.
pub fn status(code: u16) -> Fault {
    Fault::Answer(code, Vec::new(), Vec::new())
}

/// The requests whose path contains a text, by their number from 0.
struct Rule {
    path: String,
    requests: Range<usize>,
    fault: Fault,
    seen: usize,
}

/// What came of a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub requests: usize,
    /// Of bodies, as far as they were sent.
    pub bytes: usize,
}

struct Shared {
    upstream: String,
    rules: Mutex<Vec<Rule>>,
    counts: Mutex<BTreeMap<String, Count>>,
    ended: AtomicBool,
}

/// A running proxy; all its connections end when it is dropped.
pub struct FaultProxy {
    shared: Arc<Shared>,
    /// `127.0.0.1:PORT`
    pub address: String,
}

impl FaultProxy {
    /// One in front of `upstream`, `127.0.0.1:PORT`.
    pub fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            rules: Mutex::default(),
            counts: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if of_thread.ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&of_thread);
                // A client that goes away is what some tests are about.
                thread::spawn(move || client.map(|client| shared.serve(client)));
            }
        });
        Self { shared, address }
    }

    /// From now on, only `rules`: text in the path, which of its requests, what
    /// is wrong with them. The first that fits holds. Counts begin anew.
    pub fn set(&self, rules: &[(&str, Range<usize>, Fault)]) {
        let rules = rules.iter().map(|(path, requests, fault)| Rule {
            path: (*path).to_owned(),
            requests: requests.clone(),
            fault: fault.clone(),
            seen: 0,
        });
        *self.shared.rules.lock().unwrap() = rules.collect();
        self.shared.counts.lock().unwrap().clear();
    }

    /// What was asked for of paths that contain `text`.
    pub fn count(&self, text: &str) -> Count {
        let counts = self.shared.counts.lock().unwrap();
        let fitting = counts.iter().filter(|(path, _)| path.contains(text));
        fitting.fold(Count::default(), |sum, (_, count)| Count {
            requests: sum.requests + count.requests,
            bytes: sum.bytes + count.bytes,
        })
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let path = self.path_of(&client)?;
        let fault = self.fault_for(&path);
        self.add(&path, 1, 0);
        if matches!(fault, Some(Fault::Reset)) {
            // Closing what was not read resets.
            return Ok(());
        }
        let mut reader = BufReader::new(client.try_clone()?);
        let mut request = String::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let name = line.split(':').next().unwrap().to_ascii_lowercase();
            match name.as_str() {
                "connection" => {}
                _ if line.trim().is_empty() => break,
                _ => request.push_str(&line),
            }
        }
        request.push_str("Connection: close\r\n\r\n");
        let (head, body) = match &fault {
            Some(Fault::Silence) => return self.wait(&client),
            Some(Fault::Answer(code, headers, body)) => answer(*code, headers, body),
            _ => self.ask(&request)?,
        };
        let head = match &fault {
            Some(Fault::Header(name, value)) => with_header(&head, name, value),
            _ => head,
        };
        client.write_all(head.as_bytes())?;
        match fault {
            Some(Fault::StallAfter(length)) => {
                self.send(&mut client, &path, &body[..length.min(body.len())])?;
                self.wait(&client)
            }
            Some(Fault::CutAfter(length)) => {
                self.send(&mut client, &path, &body[..length.min(body.len())])
            }
            Some(Fault::Flip) => {
                let mut body = body;
                let middle = body.len() / 2;
                body[middle] ^= 1;
                self.send(&mut client, &path, &body)
            }
            Some(Fault::Drip(pause)) => {
                for byte in body {
                    if self.ended.load(Ordering::SeqCst) {
                        break;
                    }
                    self.send(&mut client, &path, &[byte])?;
                    thread::sleep(Duration::from_millis(pause));
                }
                Ok(())
            }
            _ => self.send(&mut client, &path, &body),
        }
    }

    /// The path of the request, which stays unread.
    fn path_of(&self, client: &TcpStream) -> io::Result<String> {
        let mut seen = [0; 2048];
        while !self.ended.load(Ordering::SeqCst) {
            let length = client.peek(&mut seen)?;
            let text = String::from_utf8_lossy(&seen[..length]);
            if let [_, path, _version, ..] = text.split(' ').collect::<Vec<_>>()[..] {
                return Ok(path.to_owned());
            }
            if length == 0 {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    fn fault_for(&self, path: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let mut found = None;
        for rule in rules.iter_mut().filter(|rule| path.contains(&rule.path)) {
            if found.is_none() && rule.requests.contains(&rule.seen) {
                found = Some(rule.fault.clone());
            }
            rule.seen += 1;
        }
        found
    }

    fn add(&self, path: &str, requests: usize, bytes: usize) {
        let mut counts = self.counts.lock().unwrap();
        let count = counts.entry(path.to_owned()).or_default();
        count.requests += requests;
        count.bytes += bytes;
    }

    /// The registry's answer: the head with its empty line, the body.
    fn ask(&self, request: &str) -> io::Result<(String, Vec<u8>)> {
        let mut upstream = TcpStream::connect(&self.upstream)?;
        upstream.write_all(request.as_bytes())?;
        let mut reply = Vec::new();
        upstream.read_to_end(&mut reply)?;
        let end = reply.windows(4).position(|four| four == b"\r\n\r\n");
        let body = reply.split_off(end.ok_or(io::ErrorKind::UnexpectedEof)? + 4);
        Ok((String::from_utf8(reply).unwrap(), body))
    }

    fn send(&self, client: &mut TcpStream, path: &str, bytes: &[u8]) -> io::Result<()> {
        client.write_all(bytes)?;
        self.add(path, 0, bytes.len());
        Ok(())
    }

    /// Until the client goes, or the proxy ends.
    fn wait(&self, mut client: &TcpStream) -> io::Result<()> {
        client.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut byte = [0];
        while !self.ended.load(Ordering::SeqCst) {
            match client.read(&mut byte) {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
                _ => {}
            }
        }
        Ok(())
    }
}

fn answer(code: u16, headers: &[(&str, String)], body: &[u8]) -> (String, Vec<u8>) {
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {code} Wrong\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    );
    (head, body.to_vec())
}

fn with_header(head: &str, name: &str, value: &str) -> String {
    let prefix = format!("{}:", name.to_ascii_lowercase());
    let lines = head.trim_end().split("\r\n");
    let mut kept: Vec<&str> = lines
        .filter(|line| !line.to_ascii_lowercase().starts_with(&prefix))
        .collect();
    let added = format!("{name}: {value}");
    kept.push(&added);
    kept.join("\r\n") + "\r\n\r\n"
}
