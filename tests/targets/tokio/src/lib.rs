//! Kinds of tasks, and their counts. Built with the feature `counted`, each task counts when it begins, when it is
//! polled and when it ends, and `report` prints what an observer from outside should have seen; without it a task is
//! what the program wrote, and nothing is printed.

#[cfg(feature = "counted")]
use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll},
};

pub struct Kind {
    pub name: &'static str,
    #[cfg(feature = "counted")]
    counts: [AtomicU64; 3], // begun, ended, polls
}

impl Kind {
    #[allow(clippy::declare_interior_mutable_const)]
    pub const fn new(name: &'static str) -> Kind {
        #[cfg(feature = "counted")]
        const ZERO: AtomicU64 = AtomicU64::new(0);
        Kind {
            name,
            #[cfg(feature = "counted")]
            counts: [ZERO; 3],
        }
    }
}

#[cfg(not(feature = "counted"))]
mod what {
    pub fn task<F>(_: &'static super::Kind, future: F) -> F {
        future
    }
    pub fn closure<F>(_: &'static super::Kind, function: F) -> F {
        function
    }
    pub fn report(_: &[&'static super::Kind]) {}
}

#[cfg(feature = "counted")]
mod what {
    use super::*;

    pub struct Task<F> {
        life: Life,
        future: F,
    }

    struct Life(&'static Kind);

    impl Life {
        fn begin(kind: &'static Kind) -> Life {
            kind.counts[0].fetch_add(1, Relaxed);
            Life(kind)
        }
        fn poll(&self) {
            self.0.counts[2].fetch_add(1, Relaxed);
        }
    }

    impl Drop for Life {
        fn drop(&mut self) {
            self.0.counts[1].fetch_add(1, Relaxed);
        }
    }

    impl<F: Future> Future for Task<F> {
        type Output = F::Output;

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
            self.life.poll();
            // SAFETY: the future is never moved out of the task that is pinned.
            unsafe { self.map_unchecked_mut(|task| &mut task.future) }.poll(context)
        }
    }

    pub fn task<F: Future>(kind: &'static Kind, future: F) -> Task<F> {
        Task { life: Life::begin(kind), future }
    }

    /// A closure for `spawn_blocking`: one poll.
    pub fn closure<R>(kind: &'static Kind, function: impl FnOnce() -> R) -> impl FnOnce() -> R {
        let life = Life::begin(kind);
        move || {
            life.poll();
            function()
        }
    }

    pub fn report(kinds: &[&'static Kind]) {
        for kind in kinds {
            let [begun, ended, polls] = [0, 1, 2].map(|i| kind.counts[i].load(Relaxed));
            eprintln!("{} {} {} {}", kind.name, begun, ended, polls);
        }
    }
}

pub use what::{closure, report, task};
