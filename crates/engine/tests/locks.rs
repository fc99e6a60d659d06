//! Tests of the order in which locks may be taken.
#![cfg(any(debug_assertions, feature = "validate"))]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use vkmem_engine::lock::{self, Condvar, Mutex, ReentrantMutex, RwLock, rank};

type First = Mutex<u32, rank::Live>;
type Second = Mutex<u32, rank::Arena>;
type Last = RwLock<u32, rank::HeapReport>;

thread_local! {
    /// Whether this thread pretends to hold the GIL.
    static HAS: Cell<bool> = const { Cell::new(false) };
}

/// Returns the panic message of a function; empty if it does not panic.
fn panic_of(run: impl FnOnce()) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(run)) else { return String::new() };
    panic.downcast_ref::<String>().expect("a text").clone()
}

#[track_caller]
fn assert_names(text: &str, taken: &str, held: &str) {
    let words = format!("the lock {taken} is taken by a thread that holds {held}");
    assert!(text.contains(&words), "{text}");
}

#[test]
fn upwards_passes_and_reads_and_writes() {
    let (first, second, last) = (First::new(1), Second::new(2), Last::default());
    for _ in 0..2 {
        let mut one = first.lock();
        let two = second.lock();
        *last.write() += *two;
        *one += *last.read();
    }
    assert_eq!((*first.lock(), *last.read()), (1 + 2 + 4, 4));
    assert_eq!(format!("{first:?}"), "Mutex { data: 7 }");
}

#[test]
fn downwards_panics_with_both_names() {
    let (first, second, last) = (First::default(), Second::default(), Last::default());
    let held = second.lock();
    assert_names(&panic_of(|| drop(first.lock())), "Live", "Arena");
    drop(held);
    let held = last.read();
    assert_names(&panic_of(|| drop(second.lock())), "Arena", "HeapReport");
    drop(held);
    let held = last.write();
    assert_names(&panic_of(|| drop(second.lock())), "Arena", "HeapReport");
    drop(held);
    // Nothing is still locked or counted.
    let (_first, _second, _last) = (first.lock(), second.lock(), last.write());
}

#[test]
fn two_of_one_rank_panic() {
    let (one, other) = (Second::default(), Second::default());
    let held = one.lock();
    assert_names(&panic_of(|| drop(other.lock())), "Arena", "Arena");
    assert_names(&panic_of(|| drop(one.lock())), "Arena", "Arena");
    drop(held);
    let last = Last::default();
    let held = last.read();
    // A writer that waits in between would wait for the first reader, and the second reader for the writer.
    assert_names(&panic_of(|| drop(last.read())), "HeapReport", "HeapReport");
    drop(held);
}

#[test]
fn guards_are_dropped_in_any_order() {
    let (first, second, last) = (First::default(), Second::default(), Last::default());
    let (one, two) = (first.lock(), second.lock());
    drop(one);
    assert_names(&panic_of(|| drop(first.lock())), "Live", "Arena");
    let three = last.read();
    drop(two);
    assert_names(&panic_of(|| drop(second.lock())), "Arena", "HeapReport");
    drop(three);
    drop(first.lock());
}

#[test]
fn what_is_tried_may_come_in_any_order_and_counts() {
    let (first, second, last) = (First::default(), Second::default(), Last::default());
    let held = second.lock();
    let tried = first.try_lock().expect("nobody has it");
    assert!(first.try_lock().is_none());
    drop(held);
    drop(second.lock());
    drop(tried);
    let tried = last.try_read_recursive().expect("nobody has it");
    assert_names(&panic_of(|| drop(first.lock())), "Live", "HeapReport");
    drop(tried);
    drop(first.lock());
}

#[test]
fn threads_do_not_count_for_each_other() {
    let (first, last) = (First::default(), Last::default());
    let held = last.read();
    thread::scope(|scope| {
        let other = scope.spawn(|| panic_of(|| drop(first.lock())));
        assert_eq!(other.join().expect("it returns"), "");
        let other = scope.spawn(|| {
            let _last = last.read();
            panic_of(|| drop(first.lock()))
        });
        assert_names(&other.join().expect("it returns"), "Live", "HeapReport");
    });
    drop(held);
}

#[test]
fn reentrant_ones_of_a_rank_go_by_their_addresses() {
    type Writers = ReentrantMutex<u32, rank::Writers>;
    let all = [Writers::default(), Writers::default(), Writers::default()];
    let held = (all[0].lock(), all[1].lock(), all[2].lock());
    // A lock that the thread holds may be taken again.
    drop((all[1].lock(), all[0].lock()));
    drop(held);
    let held = all[2].lock();
    drop(all[2].lock());
    assert_names(&panic_of(|| drop(all[1].lock())), "Writers", "Writers");
    drop(held);
    drop(all[1].lock());
    // May be taken again, but not while a higher rank is held.
    let first = First::default();
    let held = first.lock();
    assert_names(&panic_of(|| drop(all[1].lock())), "Writers", "Live");
    drop(held);
}

#[test]
fn who_waits_holds_nothing_above() {
    struct Place {
        state: Mutex<bool, rank::Arena>,
        changed: Condvar,
    }
    let place = Arc::new(Place { state: Mutex::default(), changed: Condvar::new() });
    let theirs = place.clone();
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_millis(5));
        *theirs.state.lock() = true;
        theirs.changed.notify_all();
    });
    let mut state = place.state.lock();
    while !*state {
        place.changed.wait(&mut state);
    }
    let below = First::default();
    // After the wait the lock counts as held again.
    assert_names(&panic_of(|| drop(below.lock())), "Live", "Arena");
    let last = Last::default();
    let held = last.read();
    assert_names(&panic_of(|| place.changed.wait(&mut state)), "Arena", "HeapReport");
    drop((held, state));
    drop(below.lock());
    other.join().expect("it returns");
}

#[test]
fn a_panic_on_its_way_is_not_hidden_by_a_second() {
    struct Late<'a>(&'a First);
    impl Drop for Late<'_> {
        fn drop(&mut self) {
            *self.0.lock() += 1;
        }
    }
    let (first, last) = (First::default(), Last::default());
    let said = panic_of(|| {
        let _held = last.read();
        let _late = Late(&first);
        panic!("{}", "the first");
    });
    assert_eq!((said.as_str(), *first.lock()), ("the first", 1));
}

#[test]
fn the_interpreter_is_one_of_them() {
    lock::set_interpreter_check(|| HAS.get());
    let (mapping, short) = (Mutex::<u32, rank::Mapping>::default(), First::default());
    // A lock that may be held during driver calls is not waited for while holding the GIL.
    HAS.set(true);
    assert_names(&panic_of(|| drop(mapping.lock())), "Mapping", "Interpreter");
    drop(mapping.try_lock().expect("nobody has it"));
    drop(short.lock());
    HAS.set(false);
    // With such a lock held, the thread may wait for the GIL; not with a short one.
    let held = mapping.lock();
    lock::check::<rank::Interpreter>();
    drop(held);
    let held = short.lock();
    let said = panic_of(lock::check::<rank::Interpreter>);
    assert_names(&said, "Interpreter", "Live");
    drop(held);
    lock::check::<rank::Interpreter>();
}
