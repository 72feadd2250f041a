//! Certificates of private authorities.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;

pub(super) const CA: &[u8] = include_bytes!("tls/ca.pem");

/// A registry with one tag behind TLS, whose certificate is for `localhost`. Its port.
pub(super) async fn registry() -> u16 {
    tls_server("HTTP/1.1 200 OK\r\nContent-Length: 18\r\nConnection: close\r\n\r\n{\"tags\":[\"1.0.0\"]}".into()).await
}

/// What ends TLS with a certificate for `localhost`, and offers these protocols.
fn acceptor(protocols: &[&str]) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/localhost.key")).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Whoever answers this behind TLS, with a certificate for `localhost`. Its port.
pub(super) async fn tls_server(answer: String) -> u16 {
    let acceptor = acceptor(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = [0; 4096];
            let _read = stream.read(&mut request).await;
            let _written = stream.write_all(answer.as_bytes()).await;
            let _closed = stream.shutdown().await;
        }
    });
    port
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_given_and_only_then() {
    let port = registry().await;
    let trusting = client_with(RegistryOptions { ca_pem: Some(CA.into()), ..RegistryOptions::default() });
    let repository: Repository = format!("localhost:{port}/shop/web").parse().unwrap();
    let tags = trusting.tags_of(&repository, &Access::default()).await.unwrap();
    assert_eq!(tags.names, ["1.0.0"]);

    let error = client().tags_of(&repository, &Access::default()).await.unwrap_err();
    well_said(&error, &repository);
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_certificate_for_another_host_is_not_believed() {
    let port = registry().await;
    let trusting = client_with(RegistryOptions { ca_pem: Some(CA.into()), ..RegistryOptions::default() });
    let repository: Repository = format!("127.0.0.1:{port}/shop/web").parse().unwrap();
    let error = trusting.tags_of(&repository, &Access::default()).await.unwrap_err();
    well_said(&error, &repository);
    assert!(error.to_string().contains("certificate"), "{error}");
}

/// A registry that speaks HTTP/2 and HTTP/1.1, and holds all answers but the first back until so many requests have come.
/// Its port, and
/// how many connections and requests there were.
async fn registry_of_http2(together: usize) -> (u16, Arc<[AtomicUsize; 2]>) {
    let acceptor = acceptor(&["h2", "http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counted = counts.clone();
    let all_here = Arc::new(tokio::sync::Barrier::new(together));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted[0].fetch_add(1, Relaxed);
            let (acceptor, counted, all_here) = (acceptor.clone(), counted.clone(), all_here.clone());
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "HTTP/2 is chosen");
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    assert_eq!(request.version(), http::Version::HTTP_2);
                    let (counted, all_here) = (counted.clone(), all_here.clone());
                    tokio::spawn(async move {
                        if counted[1].fetch_add(1, Relaxed) > 0 {
                            all_here.wait().await;
                        }
                        let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                        body.send_data(r#"{"tags":["1.0.0"]}"#.into(), true).unwrap();
                    });
                }
            });
        }
    });
    (port, counts)
}

#[tokio::test]
async fn http2_is_negotiated_and_all_requests_share_its_connection_at_once() {
    let (port, counts) = registry_of_http2(20).await;
    let trusting = client_with(RegistryOptions { ca_pem: Some(CA.into()), ..RegistryOptions::default() });
    let access = Access::default();
    let all: Vec<Repository> =
        (0..20).map(|number| format!("localhost:{port}/shop/web{number}").parse().unwrap()).collect();
    trusting.tags_of(&all[0], &access).await.unwrap();
    // The server answers none of these before all have come.
    let listed = futures::future::join_all(all.iter().map(|repository| trusting.tags_of(repository, &access))).await;
    assert!(listed.iter().all(|tags| tags.as_ref().unwrap().names == ["1.0.0"]), "{listed:?}");
    assert_eq!([counts[0].load(Relaxed), counts[1].load(Relaxed)], [1, 21], "connections and requests");
}
