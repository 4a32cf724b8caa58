//! Tasks of other shapes than a server's: on one thread, on the blocking pool, local to a thread, cancelled, panicking,
//! very many, and inside the frames of a game. `mixed SCENE...` plays the scenes named.
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use tasks::{closure, report, task, Kind};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::{spawn_blocking, spawn_local, yield_now, JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

static SHORT: Kind = Kind::new("short");
static BLOCKING: Kind = Kind::new("blocking");
static MEMBER: Kind = Kind::new("member");
static RACER: Kind = Kind::new("racer");
static LATE: Kind = Kind::new("late");
static LOCAL: Kind = Kind::new("local");
static PANICKING: Kind = Kind::new("panicking");
static ABORTED: Kind = Kind::new("aborted");
static OUTER: Kind = Kind::new("outer");
static LOADER: Kind = Kind::new("loader");
static WIDE: Kind = Kind::new("wide");

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// 100,000 tasks, each polled once, never more than a hundred at a time.
async fn short() -> usize {
    let mut sum = 0;
    for hundred in 0..1000 {
        let tasks: Vec<_> = (0..100)
            .map(|i| tokio::spawn(task(&SHORT, async move { vec![i as u8; 48].len() + hundred % 2 })))
            .collect();
        for one in tasks {
            sum += one.await.unwrap();
        }
    }
    sum
}

async fn blocking() -> usize {
    let mut sum = 0;
    let jobs: Vec<_> = (0..50).map(|i| spawn_blocking(closure(&BLOCKING, move || vec![1u8; 100 + i].len()))).collect();
    for job in jobs {
        sum += job.await.unwrap();
    }
    sum
}

async fn set() -> usize {
    let mut members = JoinSet::new();
    for i in 0..20usize {
        members.spawn(task(&MEMBER, async move {
            for _ in 0..i {
                yield_now().await;
            }
            format!("member {i}").len()
        }));
    }
    let mut sum = 0;
    while let Some(length) = members.join_next().await {
        sum += length.unwrap();
    }
    sum
}

async fn select() -> usize {
    let mut won = 0;
    for i in 0..10usize {
        let (send, receive) = oneshot::channel();
        let racer = tokio::spawn(task(&RACER, async move {
            yield_now().await;
            send.send(vec![0u8; i]).unwrap();
        }));
        tokio::select! {
            block = receive => won += block.unwrap().len(),
            _ = sleep(Duration::from_secs(60)) => unreachable!(),
        }
        racer.await.unwrap();
    }
    won
}

async fn late() -> usize {
    let mut expired = 0;
    for _ in 0..5 {
        let slow = tokio::spawn(task(&LATE, timeout(Duration::from_millis(3), pending::<()>())));
        expired += slow.await.unwrap().is_err() as usize;
    }
    expired
}

async fn local() -> usize {
    let shared = Rc::new(vec![7u8; 30]);
    let set = LocalSet::new();
    set.run_until(async {
        let mut sum = 0;
        for _ in 0..12 {
            let shared = shared.clone();
            let one = spawn_local(task(&LOCAL, async move {
                yield_now().await;
                shared.iter().map(|&b| b as usize).sum::<usize>()
            }));
            sum += one.await.unwrap();
        }
        sum
    })
    .await
}

async fn panicking() -> usize {
    std::panic::set_hook(Box::new(|_| {}));
    let mut caught = 0;
    for i in 0..6 {
        let falls = tokio::spawn(task(&PANICKING, async move {
            let kept = vec![1u8; 64];
            yield_now().await;
            assert!(i > 100, "{}", kept.len());
        }));
        caught += falls.await.unwrap_err().is_panic() as usize;
    }
    caught
}

/// Each waits when it is aborted: the runtime polls it once more, to end it, and its future is not asked.
async fn aborted() -> usize {
    let mut cancelled = 0;
    for _ in 0..7 {
        let waits = tokio::spawn(task(&ABORTED, async {
            let _kept = vec![1u8; 80];
            pending::<()>().await
        }));
        yield_now().await;
        waits.abort();
        cancelled += waits.await.unwrap_err().is_cancelled() as usize;
    }
    cancelled
}

/// A task on the blocking pool that runs a runtime of its own: its tasks are polled inside it.
async fn nested() -> usize {
    let outer = closure(&OUTER, || one_thread().block_on(set()));
    spawn_blocking(outer).await.unwrap()
}

/// A frame of a game: waits for what its loaders bring.
#[no_mangle]
#[inline(never)]
pub extern "C" fn game_frame(runtime: &Runtime, number: usize) -> usize {
    let scratch = vec![0u8; 200 + number];
    runtime.block_on(async {
        let loader = tokio::spawn(task(&LOADER, async move {
            yield_now().await;
            vec![1u8; 500 + number]
        }));
        loader.await.unwrap().len() + scratch.len()
    })
}

fn game() -> usize {
    let runtime = one_thread();
    (0..60).map(|number| game_frame(&runtime, number)).sum()
}

/// Futures of which one is too large for a pool's block, one aligned wider than the runtime's own data.
async fn wide() -> usize {
    #[repr(align(64))]
    struct Lane([u8; 64]);
    let large = tokio::spawn(task(&WIDE, async {
        let block = [3u8; 12000];
        yield_now().await;
        block.iter().map(|&b| b as usize).sum::<usize>()
    }));
    let aligned = tokio::spawn(task(&WIDE, async {
        let lane = Lane([2; 64]);
        yield_now().await;
        lane.0.len() + (&lane as *const Lane as usize) % 64
    }));
    large.await.unwrap() + aligned.await.unwrap()
}

fn main() {
    for scene in std::env::args().skip(1) {
        let result = match scene.as_str() {
            "short" => one_thread().block_on(short()),
            "blocking" => one_thread().block_on(blocking()),
            "set" => one_thread().block_on(set()),
            "select" => one_thread().block_on(select()),
            "late" => one_thread().block_on(late()),
            "local" => one_thread().block_on(local()),
            "panicking" => one_thread().block_on(panicking()),
            "aborted" => one_thread().block_on(aborted()),
            "nested" => one_thread().block_on(nested()),
            "game" => game(),
            "wide" => one_thread().block_on(wide()),
            _ => panic!("no scene {scene}"),
        };
        println!("{scene} {result}");
    }
    report(&[&SHORT, &BLOCKING, &MEMBER, &RACER, &LATE, &LOCAL, &PANICKING, &ABORTED, &OUTER, &LOADER, &WIDE]);
}
