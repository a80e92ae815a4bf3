//! Whom to trust, and who we are.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::error::FetchError;

/// Certificates, as PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authorities to trust; none: the system's.
    pub ca: Option<Vec<u8>>,
    /// Our own certificate, with its chain, and its key.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        f.debug_struct("Tls")
            .field("own_ca", &self.ca.is_some())
            .field("client", &self.client.is_some())
            .finish()
    }
}

/// Without a `Tls`, nothing is trusted: a plain client that is sent to `https` all the same fails.
pub(crate) fn client_config(tls: Option<&Tls>) -> Result<ClientConfig, FetchError> {
    let wrong = |what: String| FetchError::Tls { what };
    let mut roots = RootCertStore::empty();
    match tls {
        None => {}
        Some(Tls { ca: Some(pem), .. }) => {
            for certificate in certificates(pem)? {
                roots.add(certificate).map_err(|error| wrong(format!("the CA: {error}")))?;
            }
        }
        Some(Tls { ca: None, .. }) => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                return Err(wrong("the system trusts no authority; name a CA".into()));
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots);
    match tls.and_then(|tls| tls.client.as_ref()) {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            let key =
                PrivateKeyDer::from_pem_slice(key).map_err(|error| wrong(format!("the key: {error}")))?;
            builder
                .with_client_auth_cert(certificates(chain)?, key)
                .map_err(|error| wrong(format!("the certificate: {error}")))
        }
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FetchError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(FetchError::Tls { what: "no certificate in the PEM text".into() }),
        Err(error) => Err(FetchError::Tls { what: format!("a certificate: {error}") }),
    }
}
