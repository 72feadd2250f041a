//! Where the API is, and a client that gives a token to nobody else: TLS or this machine, no redirects.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use reqwest::{Certificate, Client, Url, redirect::Policy};

use crate::{cli::failure::Failure, cluster::client::install_tls};

const USER_AGENT: &str = concat!("stagekeeper/", env!("CARGO_PKG_VERSION"));

/// The handshakes of a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// The URL of an API that a token may be sent to.
///
/// # Errors
/// It is no URL of a server, or the way to it is open to everybody.
pub fn url(text: &str) -> Result<Url, Failure> {
    let next = "write it as https://stagekeeper.example.com; http:// is for this machine only (127.0.0.1)";
    let wrong = |why: &str| Failure::usage(format!("--server: {why}"), next);
    // The parser's messages are fixed sentences: they never quote what they were given.
    let mut url = Url::parse(text).map_err(|error| wrong(&format!("it is no URL: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("there are credentials in it; they have no use here"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has a query or a fragment"));
    }
    match url.scheme() {
        "https" => {}
        "http" if is_here(&url) => {}
        "http" => return Err(wrong("a token would go over the network for everybody to read; it was not sent")),
        _ => return Err(wrong("it is neither https nor http")),
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("it names no host"));
    }
    let path = url.path().trim_end_matches('/').trim_end_matches("/api/v1").to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Whether a URL names this machine.
fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A client for that URL, which trusts the authorities of the machine and those of a file.
///
/// # Errors
/// The file is not there or holds no certificates.
pub fn client(url: &Url, ca: Option<&Path>) -> Result<Client, Failure> {
    install_tls();
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT)
        // A token follows nobody elsewhere.
        .redirect(Policy::none())
        .referer(false);
    if url.scheme() == "http" {
        // Neither a proxy nor a name that somebody else answers for stands between.
        let port = url.port_or_known_default().unwrap_or(80);
        let here = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let here = here.map(|address| SocketAddr::new(address, port));
        builder = builder.no_proxy().resolve_to_addrs("localhost", &here);
    } else {
        builder = builder.https_only(true);
    }
    if let Some(path) = ca {
        builder = builder.tls_certs_merge(certificates(path)?);
    }
    builder.build().map_err(|error| Failure::failed(format!("no client for HTTPS can be made: {error}"), ""))
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, Failure> {
    let wrong =
        |why: String| Failure::usage(format!("--server-ca: {} {why}", path.display()), "expected certificates in PEM");
    let pem = std::fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|_| wrong("holds no valid PEM".into()))?;
    if certificates.is_empty() {
        return Err(wrong("holds no certificate".into()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_through_tls_or_stay_on_this_machine() {
        for (text, whole) in [
            ("https://keeper.example.com", "https://keeper.example.com/"),
            ("https://example.com:8443/keeper/", "https://example.com:8443/keeper"),
            ("https://example.com/keeper/api/v1", "https://example.com/keeper"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("http://127.9.9.9", "http://127.9.9.9/"),
            ("http://[::1]:8080/", "http://[::1]:8080/"),
            ("http://localhost:8080", "http://localhost:8080/"),
        ] {
            assert_eq!(url(text).map(|url| url.to_string()), Ok(whole.into()), "{text}");
        }
        for (text, why) in [
            ("http://keeper.example.com", "for everybody to read; it was not sent"),
            ("http://10.0.0.1:8080", "for everybody to read"),
            ("http://localhost.example.com", "for everybody to read"),
            ("http://127.0.0.1.example.com", "for everybody to read"),
            ("https://jane:hunter2@example.com", "credentials"),
            ("https://example.com?token=hunter2", "a query"),
            ("ftp://example.com", "neither https nor http"),
            ("keeper.example.com", "no URL"),
            ("", "no URL"),
        ] {
            let said = url(text).expect_err(text).to_string();
            assert!(said.contains(why), "{text}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
