//! An API server by itself, for trying clients against: `apiserver PORT DIRECTORY [STATE.DB]`.
//!
//! DIRECTORY holds server.crt, server.key, ca.crt (client CA) and sa.key, all PEM.
//! The bearer token `admin` may do anything.

use std::path::{Path, PathBuf};

use server::{Config, Server, StaticToken, User};

fn main() -> stdx::Result<()> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().and_then(|text| text.parse().ok()).unwrap_or(6443);
    let directory = PathBuf::from(args.next().unwrap_or_else(|| ".".into()));
    let database = args.next();
    rt::block_on(serve(port, &directory, database.as_deref()))
}

async fn serve(port: u16, directory: &Path, database: Option<&str>) -> stdx::Result<()> {
    let read = |name: &str| rt::fs::read(directory.join(name));
    let store = match database {
        Some(path) => store::Store::open(Path::new(path), store::Limits::default()).await,
        None => store::Store::open_memory(&store::Disk::default(), store::Limits::default()).await,
    };
    let store = store.map_err(|error| stdx::Error::wrap("open the store", error))?;
    let client_ca = read("ca.crt")?;
    let config = Config {
        advertise_addresses: vec![[192, 0, 2, 1].into()],
        advertise_port: port,
        service_account_key: read("sa.key")?,
        client_ca: client_ca.clone(),
        static_tokens: vec![StaticToken { token: "admin".into(), user: User::admin() }],
        ..Config::default()
    };
    let server = Server::start(config, store).await?;
    let identity = http::tls::Identity::from_pem(&read("server.crt")?, &read("server.key")?)?;
    let tls = http::tls::server_config(identity, Some(http::tls::roots(&client_ca)?))?;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let listener = rt::net::TcpListener::bind(address)
        .await
        .map_err(|error| stdx::Error::wrap(format!("listen on {address}"), error))?;
    let service = server.service(None);
    http::server::serve(listener, Some(tls), service, http::server::Limits::default()).await
}
