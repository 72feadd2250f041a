//! TLS, with certificates that change.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use stagekeeper::{cluster::client::install_tls, edge::Certificates};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::lab::{Lab, PREVIEW, Upstream, in_time};

/// A folder with a certificate for `*.preview.test`, as of a mounted Secret; removed with this value.
pub struct Secret(PathBuf);

impl Secret {
    pub fn new(name: &str) -> Self {
        install_tls();
        let folder = std::env::temp_dir().join(format!("stagekeeper-edge-{name}-{}", std::process::id()));
        _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let secret = Self(folder);
        secret.renew();
        secret
    }

    pub fn certificate(&self) -> PathBuf {
        self.0.join("tls.crt")
    }

    pub fn key(&self) -> PathBuf {
        self.0.join("tls.key")
    }

    /// Another pair in place of the one before.
    fn renew(&self) {
        make(&self.certificate(), &self.key());
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn make(certificate: &Path, key: &Path) {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]);
    command.args(["-subj", "/CN=preview.test", "-addext", "subjectAltName=DNS:*.preview.test"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.arg("-keyout").arg(key).arg("-out").arg(certificate);
    let made = command.output().expect("openssl starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Speaks TLS with whoever shows exactly this certificate; what was agreed on, and the answer to a request over HTTP/1.1.
async fn ask(lab: &Lab, certificate: &Path, alpn: &[&[u8]]) -> Result<(Option<Vec<u8>>, String), String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|word| word.to_vec()).collect();
    let stream = TcpStream::connect(lab.address).await.unwrap();
    let name = ServerName::try_from(PREVIEW).unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let mut stream = in_time("a handshake", connecting).await.map_err(|error| error.to_string())?;
    let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let mut text = String::new();
    if agreed.as_deref() != Some(b"h2") {
        let request = format!("GET /secret HTTP/1.1\r\nHost: {PREVIEW}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        in_time("an answer", stream.read_to_string(&mut text)).await.unwrap();
    }
    Ok((agreed, text))
}

#[tokio::test]
async fn tls_is_spoken_and_told() {
    let secret = Secret::new("spoken");
    let certificates = Certificates::open(&secret.certificate(), &secret.key()).unwrap();
    let mut lab = Lab::behind(|_| {}, Some(certificates.config().unwrap())).await;
    let upstream = Upstream::new("a").await;
    lab.lead_preview(&[upstream.address]);
    let (agreed, text) = ask(&lab, &secret.certificate(), &[b"http/1.1"]).await.unwrap();
    assert_eq!(agreed.as_deref(), Some(b"http/1.1".as_slice()));
    for line in [
        "x-forwarded-proto: https",
        "x-forwarded-port: 443",
        &format!("forwarded: for=127.0.0.1;host={PREVIEW};proto=https"),
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let (agreed, _) = ask(&lab, &secret.certificate(), &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(agreed.as_deref(), Some(b"h2".as_slice()));
    let certificate = reqwest::Certificate::from_pem(&fs::read(secret.certificate()).unwrap()).unwrap();
    let caller = lab.caller_with(|builder| builder.tls_certs_only([certificate]));
    let answer = caller.get(lab.url(PREVIEW, "/").replace("http:", "https:")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
    // Who speaks no TLS gets no answer, and holds nobody up.
    assert!(!lab.raw(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.contains("HTTP/1.1"));
}

#[tokio::test]
async fn another_certificate_is_taken_without_a_restart() {
    let secret = Secret::new("renewed");
    let certificates = Certificates::open(&secret.certificate(), &secret.key()).unwrap();
    let mut lab = Lab::behind(|_| {}, Some(certificates.config().unwrap())).await;
    let upstream = Upstream::new("a").await;
    lab.lead_preview(&[upstream.address]);
    assert_eq!(certificates.look_again(), Ok(false));
    let old = secret.0.join("old.crt");
    fs::copy(secret.certificate(), &old).unwrap();
    secret.renew();
    assert!(ask(&lab, &old, &[]).await.is_ok(), "not before it is looked at");
    assert_eq!(certificates.look_again(), Ok(true));
    assert!(ask(&lab, &old, &[]).await.is_err());
    assert!(ask(&lab, &secret.certificate(), &[]).await.unwrap().1.starts_with("HTTP/1.1 200"));

    // Half a change: the pair before stays.
    fs::copy(secret.certificate(), &old).unwrap();
    let (other, key) = (secret.0.join("other.crt"), secret.0.join("other.key"));
    make(&other, &key);
    fs::copy(&other, secret.certificate()).unwrap();
    let why = certificates.look_again().unwrap_err();
    assert!(why.contains("tls.crt") && why.contains("together"), "{why}");
    assert!(ask(&lab, &old, &[]).await.is_ok());
    fs::write(secret.certificate(), "nothing").unwrap();
    assert!(certificates.look_again().unwrap_err().contains("no certificate"));
    fs::remove_file(secret.certificate()).unwrap();
    assert!(certificates.look_again().unwrap_err().contains("cannot be read"));
    assert!(ask(&lab, &old, &[]).await.is_ok());
}

#[tokio::test]
async fn plain_http_can_be_sent_to_https() {
    let mut lab = Lab::with(|setup| setup.redirect = true).await;
    let upstream = Upstream::new("a").await;
    lab.lead_preview(&[upstream.address]);
    let answer = lab.caller().post(lab.url(PREVIEW, "/cart?item=1")).body("x").send().await.unwrap();
    assert_eq!(answer.status(), 308);
    assert_eq!(answer.headers()["location"], format!("https://{PREVIEW}/cart?item=1"));
    assert_eq!(upstream.asked(), 0);
}
