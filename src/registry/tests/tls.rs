//! Certificates of private authorities.

use std::sync::Arc;

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

/// Whoever answers this behind TLS, with a certificate for `localhost`. Its port.
pub(super) async fn tls_server(answer: String) -> u16 {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/localhost.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
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
