//! A library with a runtime of its own, for a program that knows nothing of it and opens it late.
use tokio::task::yield_now;

/// Three tasks, each polled twice.
#[no_mangle]
pub extern "C" fn late_play() -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut sum = 0;
        for i in 1..=3usize {
            let one = tokio::spawn(async move {
                yield_now().await;
                vec![1u8; i * 10].len()
            });
            sum += one.await.unwrap();
        }
        sum
    })
}
