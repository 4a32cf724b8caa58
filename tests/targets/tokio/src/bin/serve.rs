//! A server in one process: eight producers feed one channel, an echo server has four clients, a ticker counts. With
//! the two tasks that keep the runtime's own two threads busy these are 20 tasks.
use std::net::SocketAddr;
use std::time::Duration;

use tasks::{report, task, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::interval;

static PRODUCER: Kind = Kind::new("producer");
static SERVER: Kind = Kind::new("server");
static CONNECTION: Kind = Kind::new("connection");
static CLIENT: Kind = Kind::new("client");
static TICKER: Kind = Kind::new("ticker");

async fn produce(id: u8, to: mpsc::Sender<Vec<u8>>) {
    for i in 0..200 {
        to.send(vec![id; 64 + i]).await.unwrap();
        if i % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

async fn echo(mut peer: TcpStream) {
    let mut buffer = vec![0; 1024];
    loop {
        let bytes = peer.read(&mut buffer).await.unwrap();
        if bytes == 0 {
            return;
        }
        peer.write_all(&buffer[..bytes]).await.unwrap();
    }
}

async fn serve(listener: TcpListener, connections: usize) {
    for _ in 0..connections {
        let (peer, _) = listener.accept().await.unwrap();
        tokio::spawn(task(&CONNECTION, echo(peer)));
    }
}

async fn talk(to: SocketAddr) -> usize {
    let mut server = TcpStream::connect(to).await.unwrap();
    let mut total = 0;
    for i in 0..50usize {
        let message = vec![i as u8; 100 + i];
        server.write_all(&message).await.unwrap();
        let mut answer = vec![0; message.len()];
        server.read_exact(&mut answer).await.unwrap();
        assert_eq!(message, answer);
        total += answer.len();
    }
    total
}

async fn tick(times: usize) -> usize {
    let mut clock = interval(Duration::from_millis(2));
    let mut letters = 0;
    for i in 0..times {
        clock.tick().await;
        letters += format!("tick {i}").len();
    }
    letters
}

async fn work() {
    let (to, mut from) = mpsc::channel(16);
    for id in 0..8 {
        tokio::spawn(task(&PRODUCER, produce(id, to.clone())));
    }
    drop(to);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(task(&SERVER, serve(listener, 4)));
    let clients: Vec<_> = (0..4).map(|_| tokio::spawn(task(&CLIENT, talk(address)))).collect();
    let ticker = tokio::spawn(task(&TICKER, tick(100)));

    let mut received = 0;
    while let Some(block) = from.recv().await {
        received += block.len();
    }
    let mut echoed = 0;
    for client in clients {
        echoed += client.await.unwrap();
    }
    server.await.unwrap();
    println!("received {received} echoed {echoed} letters {}", ticker.await.unwrap());
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work());
    drop(runtime);
    report(&[&PRODUCER, &SERVER, &CONNECTION, &CLIENT, &TICKER]);
}
