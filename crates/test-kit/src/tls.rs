//! TLS in front of a server: a certificate of its own that nobody trusts unless told to.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};

/// Listens with TLS on 127.0.0.1 and passes what comes on to a server; it ends when dropped.
pub struct TlsFront {
    address: SocketAddr,
    certificate_pem: String,
    accepting: JoinHandle<()>,
}

impl TlsFront {
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])
            .map_err(io::Error::other)?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(io::Error::other)?;
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .map_err(io::Error::other)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, acceptor, server));
        Ok(Self { address, certificate_pem: made.cert.pem(), accepting })
    }

    /// `https://127.0.0.1:PORT`
    pub fn base_url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// What a client has to trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, server: SocketAddr) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // A client that does not trust us goes away: that is what tests are about.
            let Ok(mut outer) = acceptor.accept(stream).await else { return };
            let Ok(mut inner) = TcpStream::connect(server).await else { return };
            let _ = copy_bidirectional(&mut outer, &mut inner).await;
        });
    }
}
