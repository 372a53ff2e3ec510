//! What a remembered hit id takes of memory, at any number of them; and, asked for, of time:
//! `cargo test --release -p state --test hits -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use hashbrown::HashSet;
use shared::clock::Clock;
use state::log::HitSet;

/// Counts what is allocated, and the most that ever was.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
/// One measurement at a time.
static MEASURING: Mutex<()> = Mutex::new(());

#[allow(unsafe_code, reason = "an allocator cannot be written otherwise; it adds counts to the system's")]
// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as above. Pages that are zero already are not touched.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn add(bytes: usize) {
    let now = ALLOCATED.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(now, Ordering::Relaxed);
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Ids as a stream brings them: the high half by visitor, the low half counted.
fn id(number: u64) -> u128 {
    (u128::from(0x2f00_0000_0000_0000 | (number * 7919 % 100_000)) << 64) | u128::from(number)
}

/// Bytes an id takes when so many are there, and the most it ever took on the way.
fn bytes_of<S>(ids: u64, mut set: S, insert: impl Fn(&mut S, u128) -> bool) -> (f64, f64) {
    let before = ALLOCATED.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    (0..ids).for_each(|n| assert!(insert(&mut set, id(n))));
    let per_id = |bytes: usize| bytes.saturating_sub(before) as f64 / ids as f64;
    let bytes = (per_id(ALLOCATED.load(Ordering::Relaxed)), per_id(MOST.load(Ordering::Relaxed)));
    drop(set);
    bytes
}

#[test]
fn a_hit_id_takes_less_than_24_bytes_at_any_number_of_them() {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    for ids in [100_000, 1_000_000, 1_100_000, 1_300_000, 1_500_000, 3_000_000, 5_000_000] {
        let (bytes, most) = bytes_of(ids, HitSet::default(), HitSet::insert);
        println!("{ids} ids: {bytes:.1} bytes each, {most:.1} at most on the way");
        assert!(bytes < 24.0 && most < 25.0, "{ids} ids: {bytes} bytes each, {most} at most");
    }
}

#[test]
fn ids_that_are_forgotten_give_their_memory_back() {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let before = ALLOCATED.load(Ordering::Relaxed);
    let mut set = HitSet::default();
    // A window that moves on: as many go as come.
    (0..300_000).for_each(|n| assert!(set.insert(id(n))));
    for n in 300_000..1_500_000 {
        assert!(set.insert(id(n)) && set.remove(id(n - 300_000)));
    }
    let per_id = |ids: usize| (ALLOCATED.load(Ordering::Relaxed) - before) as f64 / ids as f64;
    assert!(set.len() == 300_000 && per_id(300_000) < 32.0, "{}", per_id(300_000));
    (1_200_000..1_500_000).for_each(|n| assert!(set.remove(id(n))));
    assert!(set.is_empty() && per_id(1) < 100_000.0, "{}", per_id(1));
}

#[test]
#[ignore = "prints a measurement"]
fn memory_and_time_of_a_hit_id() {
    const TURNS: u64 = 5;
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{:>9}  {:>26}  {:>26}", "", "ours", "hashbrown");
    println!(
        "{:>9}  {:>6} {:>6} {:>6} {:>6}  {:>6} {:>6} {:>6} {:>6}",
        "ids", "bytes", "most", "insert", "again", "bytes", "most", "insert", "again"
    );
    for ids in [1_000_000, 3_000_000, 5_000_000, 7_000_000] {
        let ours = bytes_of(ids, HitSet::default(), HitSet::insert);
        let theirs = bytes_of(ids, HashSet::<u128>::new(), HashSet::insert);
        let mut times = [[f64::MAX; 2]; 2];
        for _ in 0..TURNS {
            let mut set = HitSet::default();
            times[0] = fastest(times[0], ids, |id| set.insert(id));
            let mut set = HashSet::<u128>::new();
            times[1] = fastest(times[1], ids, |id| set.insert(id));
        }
        print!("{ids:>9}");
        for ((bytes, most), [insert, again]) in [ours, theirs].into_iter().zip(times) {
            print!("  {bytes:>6.1} {most:>6.1} {insert:>6.0} {again:>6.0}");
        }
        println!();
    }
    println!(
        "bytes of an id, with all there and at most while growing; nanoseconds to insert it, and to find it known"
    );
}

/// The least nanoseconds to insert an id, and to insert it again.
fn fastest(so_far: [f64; 2], ids: u64, mut insert: impl FnMut(u128) -> bool) -> [f64; 2] {
    let mut turn = |new| {
        let clock = Clock::system();
        let start = clock.steady();
        (0..ids).for_each(|n| assert_eq!(black_box(insert(id(n))), new));
        start.until(clock.steady()).as_nanos() as f64 / ids as f64
    };
    [so_far[0].min(turn(true)), so_far[1].min(turn(false))]
}
