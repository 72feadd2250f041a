//! The certificate: from files, read again when they change.
//!
//! Kubernetes swaps a mounted Secret as a whole, but whoever reads two files may meet it in between. A certificate and a key
//! that do not belong together are not taken; the ones before stay.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// A certificate and where it is.
#[derive(Debug)]
pub struct Certificates {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Current>,
}

#[derive(Debug, Clone)]
struct Current {
    /// Of what was read.
    digest: [u8; 32],
    key: Arc<CertifiedKey>,
}

impl Certificates {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// One of them cannot be read or used, or they do not belong together.
    pub fn open(certificate: &Path, key: &Path) -> Result<Arc<Self>, String> {
        let current = read(certificate, key, None)?.ok_or("nothing was read")?;
        Ok(Arc::new(Self { certificate: certificate.into(), key: key.into(), current: RwLock::new(current) }))
    }

    /// Looks whether it is another one by now; whether it was.
    ///
    /// # Errors
    /// What is there now cannot be used; the one before stays.
    pub fn look_again(&self) -> Result<bool, String> {
        let known = self.current.read().unwrap_or_else(PoisonError::into_inner).digest;
        let Some(current) = read(&self.certificate, &self.key, Some(known))? else { return Ok(false) };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(true)
    }

    /// How TLS is spoken with it: in HTTP/2 or HTTP/1.1, as callers like.
    ///
    /// # Errors
    /// The cryptography of this build knows no version of TLS that is safe.
    pub fn config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, String> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).key.clone())
    }
}

fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()))
}

/// What is in the files; nothing if that has this digest.
fn read(certificate: &Path, key: &Path, known: Option<[u8; 32]>) -> Result<Option<Current>, String> {
    let content = |path: &Path| {
        fs::read(path).map(Zeroizing::new).map_err(|error| format!("{} cannot be read: {error}", path.display()))
    };
    let (chain_pem, key_pem) = (content(certificate)?, content(key)?);
    let digest: [u8; 32] = Sha256::new()
        .chain_update((chain_pem.len() as u64).to_be_bytes())
        .chain_update(&*chain_pem)
        .chain_update(&*key_pem)
        .finalize()
        .into();
    if known == Some(digest) {
        return Ok(None);
    }
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain_pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{} has no certificate in PEM: {error}", certificate.display()))?;
    if chain.is_empty() {
        return Err(format!("{} has no certificate in PEM", certificate.display()));
    }
    let private =
        PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| format!("{} has no private key in PEM", key.display()))?;
    let key = CertifiedKey::from_der(chain, private, &provider())
        .map_err(|error| format!("{} and {} cannot be used together: {error}", certificate.display(), key.display()))?;
    Ok(Some(Current { digest, key: Arc::new(key) }))
}
