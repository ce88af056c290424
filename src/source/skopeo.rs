//! Running skopeo: raw documents, and its proxy for policy and blobs.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use containers_image_proxy::{
    Error as ProxyError, ImageProxy, ImageProxyConfig, OpenedImage, oci_spec::image::Digest,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};

use super::{
    AuthFile, Failing, SourceError,
    credentials::Credentials,
    policy::PolicyError,
    skopeo_words::{classify, message_of, without_secrets},
};
use crate::{
    document::{DOCUMENT_LIMIT_BYTES, Descriptor, DocumentError},
    error::Doing,
    sys::Leash,
};

/// What must come of a blob within [`SkopeoOptions::idle`]: a registry that
/// sends a byte now and then would hold a sync for years.
const PROGRESS_BYTES: usize = 64 << 10;

/// How skopeo is run. It reads its own environment and configuration, as ever:
/// registries.conf, registries.d, policy.json.
#[derive(Debug, Clone)]
pub struct SkopeoOptions {
    /// The program: a name that is looked for in `PATH`, or a path.
    pub program: PathBuf,
    /// Another policy than the host's (`--policy`).
    pub policy: Option<PathBuf>,
    /// Another registries.conf than the host's (`--registries-conf`).
    pub registries_conf: Option<PathBuf>,
    /// Files of credentials, besides the wanted image's own: the first that has
    /// any is used, else skopeo's defaults. Missing and empty ones are no error.
    pub auth_files: Vec<AuthFile>,
    /// `false` talks to registries without a certificate, or without TLS;
    /// `true` leaves it to registries.conf.
    pub tls_verify: bool,
    /// How long nothing may come, or less than 64 KiB of a blob, before the
    /// fetch is given up; a document must be whole by then.
    pub idle: Duration,
}

impl Default for SkopeoOptions {
    fn default() -> Self {
        Self {
            program: "skopeo".into(),
            policy: None,
            registries_conf: None,
            auth_files: Vec::new(),
            tls_verify: true,
            idle: Duration::from_secs(120),
        }
    }
}

/// One way of running skopeo: its options, with the credentials chosen.
pub(super) struct Skopeo<'a> {
    pub(super) options: &'a SkopeoOptions,
    pub(super) tls_verify: bool,
    pub(super) credentials: Option<Credentials>,
}

impl Skopeo<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.options.program);
        if let Some(policy) = &self.options.policy {
            command.arg("--policy").arg(policy);
        }
        if let Some(path) = &self.options.registries_conf {
            command.arg("--registries-conf").arg(path);
        }
        command
    }

    /// The bytes that the registry serves for `reference` (`docker://..`):
    /// neither converted nor chosen from, and not believed either.
    pub(super) async fn raw_document(&self, reference: &str) -> Result<Vec<u8>, SourceError> {
        const DOING: &str = "inspect";
        let mut command = self.command();
        command.args(["inspect", "--raw"]);
        if let Some(credentials) = &self.credentials {
            command.arg("--authfile").arg(credentials.path());
        }
        if !self.tls_verify {
            command.arg("--tls-verify=false");
        }
        command.arg(reference);
        self.run(command, DOING, reference, self.options.idle).await
    }

    /// Has skopeo judge the image in the folder `from`, a `dir:`, by the policy
    /// of the options: it copies nothing else. It checks manifest and signatures
    /// alone, so layers may lie in the folder `to`, an `oci:`, by name only.
    pub(super) async fn judge_dir(
        &self,
        from: &Path,
        to: &Path,
        reference: &str,
    ) -> Result<(), SourceError> {
        let named = |transport: &str, path: &Path| {
            let mut name = OsString::from(transport);
            name.push(path);
            name
        };
        let mut command = self.command();
        command.args(["copy", "--quiet", "--remove-signatures"]);
        command.args([named("dir:", from), named("oci:", to)]);
        let limit = self.options.idle;
        let told = self.run(command, "check the signature of", reference, limit);
        told.await.map(drop)
    }

    /// What `command` prints, bounded in length and time.
    async fn run(
        &self,
        mut command: Command,
        doing: &'static str,
        reference: &str,
        limit: Duration,
    ) -> Result<Vec<u8>, SourceError> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let _leash = Leash::tie(&mut command).doing("prepare", &self.options.program)?;
        let mut command = tokio::process::Command::from(command);
        let mut child = command
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| self.not_spawned(error))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let all = async {
            let (stdout, stderr) = tokio::try_join!(
                read_at_most(stdout, DOCUMENT_LIMIT_BYTES + 1),
                read_at_most(stderr, 64 << 10)
            )?;
            Ok::<_, io::Error>((stdout, stderr, child.wait().await?))
        };
        let (stdout, stderr, status) = timeout(limit, all)
            .await
            .map_err(|_| timed_out(doing, reference, limit))?
            .doing("read from", &self.options.program)?;
        if stdout.len() as u64 > DOCUMENT_LIMIT_BYTES {
            return Err(SourceError::Document {
                what: "manifest".into(),
                origin: reference.to_owned(),
                source: DocumentError::TooLong {
                    found: stdout.len() as u64,
                },
            });
        }
        if !status.success() {
            let message = message_of(&String::from_utf8_lossy(&stderr));
            return Err(failed(doing, reference, &message, self.secrets()));
        }
        Ok(stdout)
    }

    /// Copies what `from` names, all platforms of it, to `to`, byte for byte, but
    /// for the signatures that skopeo keeps elsewhere. It is given up after
    /// `limit`, and where the folder `growing` does not grow for as long as the
    /// options say.
    pub(super) async fn copy(
        &self,
        from: &str,
        to: &str,
        judge: Judge,
        limit: Duration,
        growing: Option<&Path>,
    ) -> Result<(), SourceError> {
        const DOING: &str = "copy";
        let mut command = self.command();
        if judge == Judge::Nobody {
            command.arg("--insecure-policy");
        }
        command.args(["copy", "--quiet", "--all", "--preserve-digests"]);
        command.arg("--remove-signatures");
        for side in ["src", "dest"] {
            if let Some(credentials) = &self.credentials {
                command
                    .arg(format!("--{side}-authfile"))
                    .arg(credentials.path());
            }
            if !self.tls_verify {
                command.arg(format!("--{side}-tls-verify=false"));
            }
        }
        command.args([from, to]);
        let copied = self.run(command, DOING, from, limit);
        tokio::pin!(copied);
        let mut before = None;
        loop {
            tokio::select! {
                done = &mut copied => return done.map(drop),
                () = sleep(self.options.idle) => {
                    let now = growing.map(bytes_below);
                    if now.is_some() && now <= before {
                        return Err(self.timeout(DOING, from));
                    }
                    before = now;
                }
            }
        }
    }

    /// Opens `reference` in a proxy: now skopeo has judged it by the policy.
    pub(super) async fn open(&self, reference: &str) -> Result<Session, SourceError> {
        const DOING: &str = "open";
        let mut command = self.command();
        let mut leash = Leash::tie(&mut command).doing("prepare", &self.options.program)?;
        let mut config = ImageProxyConfig::default();
        config.skopeo_cmd = Some(command);
        config.authfile = self.credentials.as_ref().map(Credentials::path);
        config.insecure_skip_tls_verification = Some(!self.tls_verify);
        let started = timeout(self.options.idle, ImageProxy::new_with_config(config)).await;
        let proxy = match started {
            Ok(Err(ProxyError::SkopeoSpawnError(error))) => return Err(self.not_spawned(error)),
            Ok(Err(error)) => {
                return Err(proxy_failed(
                    "start the proxy for",
                    reference,
                    &error,
                    self.secrets(),
                ));
            }
            Ok(Ok(proxy)) => {
                leash.hold().doing("watch", &self.options.program)?;
                proxy
            }
            Err(_) => {
                leash.hold().doing("watch", &self.options.program)?;
                return Err(self.timeout("start the proxy for", reference));
            }
        };
        let image = timeout(self.options.idle, proxy.open_image(reference))
            .await
            .map_err(|_| self.timeout(DOING, reference))?
            .map_err(|error| proxy_failed(DOING, reference, &error, self.secrets()))?;
        Ok(Session {
            image,
            has_judged: has_judged(proxy.protocol_version()),
            proxy,
            reference: reference.to_owned(),
            idle: self.options.idle,
            secrets: self.secrets().to_vec(),
            _leash: leash,
        })
    }

    fn secrets(&self) -> &[String] {
        self.credentials.as_ref().map_or(&[], Credentials::secrets)
    }

    fn not_spawned(&self, error: io::Error) -> SourceError {
        if error.kind() == io::ErrorKind::NotFound {
            return SourceError::NoSkopeo {
                program: self.options.program.clone(),
            };
        }
        crate::error::PathError {
            verb: "run",
            path: self.options.program.clone(),
            source: error,
        }
        .into()
    }

    fn timeout(&self, doing: &'static str, reference: &str) -> SourceError {
        timed_out(doing, reference, self.options.idle)
    }
}

/// Bytes of all files below a folder; what vanishes meanwhile does not count.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}

/// Who judges what skopeo copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judge {
    /// The policy of the options, or the host's.
    Policy,
    /// Nobody: it is data, or was judged.
    Nobody,
}

/// An image that is open in a proxy. Dropping it kills the proxy.
pub(super) struct Session {
    /// Whether skopeo has asked the policy before it opened the image.
    pub(super) has_judged: bool,
    image: OpenedImage,
    proxy: ImageProxy,
    reference: String,
    idle: Duration,
    secrets: Vec<String>,
    _leash: Leash,
}

impl Session {
    /// Gets a blob of the image's repository, piece by piece. skopeo hashes it
    /// too, but `sink` must not rely on that.
    pub(super) async fn blob(
        &self,
        blob: &Descriptor,
        mut sink: impl FnMut(&[u8]) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        const DOING: &str = "fetch a blob of";
        let fail = |error: ProxyError| proxy_failed(DOING, &self.reference, &error, &self.secrets);
        let digest: Digest = blob.digest.to_string().parse().map_err(|error| {
            let message = format!("{}: {error}", blob.digest);
            failed(DOING, &self.reference, &message, &self.secrets)
        })?;
        let get = self.proxy.get_blob(&self.image, &digest, blob.size);
        let (mut reader, driver) = timeout(self.idle, get)
            .await
            .map_err(|_| timed_out(DOING, &self.reference, self.idle))?
            .map_err(fail)?;
        let too_slow = || timed_out(DOING, &self.reference, self.idle);
        let copy = async {
            let mut buffer = vec![0; 1 << 17];
            let (mut waited, mut came) = (Duration::ZERO, 0);
            loop {
                let begun = Instant::now();
                let left = self.idle.saturating_sub(waited);
                let length = timeout(left, reader.read(&mut buffer))
                    .await
                    .map_err(|_| too_slow())?
                    .doing("read from the proxy for", &self.reference)?;
                if length == 0 {
                    return Ok(());
                }
                waited += begun.elapsed();
                came += length;
                if came >= PROGRESS_BYTES {
                    (waited, came) = (Duration::ZERO, 0);
                }
                sink(&buffer[..length])?;
            }
        };
        let driver = async { driver.await.map_err(fail) };
        tokio::pin!(copy, driver);
        tokio::select! {
            copied = &mut copy => {
                copied?;
                // If skopeo stopped early, its reason is worth more than the
                // short blob.
                timeout(self.idle, driver).await.map_err(|_| too_slow())?
            }
            judged = &mut driver => {
                judged?;
                copy.await
            }
        }
    }
}

/// One thread is enough: there is one child, and one pipe to read.
pub(super) fn runtime() -> Result<Runtime, SourceError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    Ok(runtime.doing("start", "the event loop for skopeo")?)
}

/// Proxies before protocol 0.2.6 (skopeo 1.14) open any image and never look at
/// a policy (skopeo-experimental-image-proxy(1), "protocol history"; measured
/// on 1.9.3, which opens what policy.json rejects).
fn has_judged(protocol: &impl std::fmt::Display) -> bool {
    let text = protocol.to_string();
    let mut parts = text.split('.').map(|part| part.parse::<u64>().ok());
    let parts = [parts.next(), parts.next(), parts.next()].map(Option::flatten);
    parts >= [Some(0), Some(2), Some(6)]
}

async fn read_at_most(reader: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut reader) = reader {
        (&mut reader).take(limit).read_to_end(&mut bytes).await?;
        // The rest is let go, so that the child does not wait for us.
        tokio::io::copy(&mut reader, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

fn timed_out(doing: &'static str, reference: &str, idle: Duration) -> SourceError {
    SourceError::Timeout {
        doing,
        reference: reference.to_owned(),
        idle_secs: idle.as_secs(),
    }
}

fn proxy_failed(
    doing: &'static str,
    reference: &str,
    error: &ProxyError,
    secrets: &[String],
) -> SourceError {
    let mut failed = failed(doing, reference, &message_of(&error.to_string()), secrets);
    if let SourceError::Skopeo { failing, .. } = &mut failed
        && *failing == Failing::Other
        && error.is_retryable()
    {
        *failing = Failing::Transient;
    }
    failed
}

fn failed(doing: &'static str, reference: &str, message: &str, secrets: &[String]) -> SourceError {
    let failing = classify(message);
    let message = without_secrets(message, secrets);
    if failing == Failing::Denied {
        return SourceError::Denied {
            wanted: reference.to_owned(),
            origin: "its registry".to_owned(),
            source: Box::new(PolicyError::Skopeo { message }),
        };
    }
    SourceError::Skopeo {
        doing,
        reference: reference.to_owned(),
        message,
        failing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_proxies_do_not_judge() {
        for (version, judges) in [
            ("0.2.3", false),
            ("0.2.5", false),
            ("0.2.6", true),
            ("0.2.10", true),
            ("0.3.0", true),
            ("1.0.0", true),
            ("", false),
            ("x.y.z", false),
        ] {
            assert_eq!(has_judged(&version), judges, "{version}");
        }
    }
}
