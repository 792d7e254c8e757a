//! A way to a database on which an answer can get lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rt::io::{AsyncReadExt, AsyncWriteExt};
use rt::net::{TcpListener, TcpStream};

pub(crate) struct Losing {
    /// Where clients connect.
    pub(crate) address: String,
    lose: Arc<AtomicBool>,
    _task: rt::Task<()>,
}

impl Losing {
    pub(crate) async fn before(target: (String, u16)) -> Losing {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let lose = Arc::new(AtomicBool::new(false));
        let losing = Arc::clone(&lose);
        let task = rt::spawn(async move {
            let mut ways = Vec::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect((target.0.as_str(), target.1)).await;
                let Ok(server) = server else { continue };
                let there = copy(client.clone(), server.clone(), None);
                let back = copy(server, client, Some(Arc::clone(&losing)));
                ways.push(rt::spawn(rt::future::or(there, back)));
            }
        });
        Losing { address, lose, _task: task }
    }

    /// The next answer, on whichever connection, is lost with its connection.
    pub(crate) fn lose(&self) {
        self.lose.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_lost(&self) -> bool {
        !self.lose.load(Ordering::SeqCst)
    }
}

async fn copy(mut from: TcpStream, mut to: TcpStream, lose: Option<Arc<AtomicBool>>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = from.read(&mut buffer).await.unwrap_or(0);
        let lost = lose.as_ref().is_some_and(|lose| lose.swap(false, Ordering::SeqCst));
        if n == 0 || lost || to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
