//! The Python interpreter: its exit, subinterpreters, acquiring and releasing the GIL, warnings.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyImportError, PyResourceWarning};
use pyo3::ffi;
use pyo3::marker::Ungil;
use pyo3::prelude::*;
use vkmem_engine::lock::{self, rank};

/// Set by the last `atexit` callback: what runs after it runs at interpreter exit.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Records that the interpreter is exiting.
pub fn set_ending() {
    IS_ENDING.store(true, Ordering::Release);
}

/// Returns whether the interpreter is exiting: modules lose their contents then.
pub fn is_ending() -> bool {
    IS_ENDING.load(Ordering::Acquire)
}

/// Raises in every interpreter but the main one: classes, locks and devices exist once per process, and
/// objects of one interpreter must not be used by another.
pub fn check_is_main(py: Python<'_>) -> PyResult<()> {
    // SAFETY: attached, so there is a current interpreter.
    let id = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    match id {
        0 => Ok(()),
        ..0 => Err(PyErr::fetch(py)),
        _ => Err(PyImportError::new_err(
            "vk_mem cannot be imported in a subinterpreter: use it in the main interpreter, or in a \
             process of its own",
        )),
    }
}

/// Makes PyO3 check now whether the interpreter runs: it checks when a thread first attaches by itself, and
/// panics if that is at interpreter exit.
pub fn attach_once(py: Python<'_>) {
    detach(py, || Python::attach(|_| ()));
}

/// To be called by every thread before it may run Python code from inside of this library: see [`parking`].
/// Costs one read of a thread-local value after the first call.
#[inline]
pub fn enter_thread() {
    // Python code that was run while a short lock was held comes back through here.
    check_locks();
    parking::enter_thread();
}

/// Checks the locks before Python code may run: in checked builds panics if this thread holds a lock that
/// must not be held then.
#[inline(always)]
#[cfg_attr(any(debug_assertions, feature = "validate"), track_caller)]
pub fn check_locks() {
    lock::check::<rank::Interpreter>();
}

/// Releases the GIL, runs a function and acquires the GIL again. The only place of this crate that releases
/// it.
#[inline(always)]
#[cfg_attr(any(debug_assertions, feature = "validate"), track_caller)]
pub fn detach<T: Ungil>(py: Python<'_>, run: impl FnOnce() -> T + Ungil) -> T {
    check_locks();
    py.detach(run)
}

/// Acquires the GIL, if the interpreter runs, and calls a function; for code that may run with or without the
/// GIL.
#[inline(always)]
#[cfg_attr(any(debug_assertions, feature = "validate"), track_caller)]
pub fn try_attach<T>(run: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    check_locks();
    Python::try_attach(run)
}

/// Lets the lock checks ask whether this thread holds the GIL: see [`lock`].
///
/// # Panics
/// If that cannot be determined: the checks would always pass.
#[cfg(all(unix, any(debug_assertions, feature = "validate")))]
pub fn check_locks_by_gil(py: Python<'_>) {
    assert!(holds_gil(), "this thread has the interpreter");
    detach(py, || assert!(!holds_gil(), "this thread has let the interpreter go"));
    lock::set_interpreter_check(holds_gil);
}

/// Returns whether this thread holds the GIL.
#[cfg(all(unix, any(debug_assertions, feature = "validate")))]
fn holds_gil() -> bool {
    use std::sync::OnceLock;

    type Current = unsafe extern "C" fn() -> *mut ffi::PyThreadState;

    /// Not in the limited API: returns the thread state that holds the GIL or, since 3.12, that of this
    /// thread if it holds the GIL.
    static CURRENT: OnceLock<Option<Current>> = OnceLock::new();
    let current = *CURRENT.get_or_init(|| {
        let names = [c"PyThreadState_GetUnchecked", c"_PyThreadState_UncheckedGet"];
        // SAFETY: null-terminated names.
        let find =
            |name: &std::ffi::CStr| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        let found = names.into_iter().map(find).find(|it| !it.is_null())?;
        // SAFETY: functions of CPython with this signature.
        Some(unsafe { std::mem::transmute::<*mut std::ffi::c_void, Current>(found) })
    });
    let Some(current) = current else { return false };
    // SAFETY: both may be called by any thread, with or without the GIL.
    let (current, mine) = unsafe { (current(), ffi::PyGILState_GetThisThreadState()) };
    !mine.is_null() && current == mine
}

/// Parks threads that are inside of this library at interpreter exit.
///
/// CPython before 3.14 ends a daemon thread that acquires the GIL after the exit with `pthread_exit`, for
/// which glibc unwinds the stack. Frames of Rust must not be unwound that way: the process aborts. From 3.14
/// on such a thread waits for ever instead, and this module does the same: glibc calls the clean-up functions
/// of a thread before it unwinds, and the one that is registered here does not return. Other C libraries and
/// systems do not unwind.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod parking {
    use std::cell::{Cell, RefCell};
    use std::ffi::{c_int, c_void};
    use std::ptr;
    use std::sync::OnceLock;

    use super::is_ending;

    /// `struct _pthread_cleanup_buffer` of pthread.h.
    #[repr(C)]
    struct CleanUp {
        routine: Option<unsafe extern "C" fn(*mut c_void)>,
        argument: *mut c_void,
        cancel_type: c_int,
        previous: *mut CleanUp,
    }

    type Push = unsafe extern "C" fn(*mut CleanUp, unsafe extern "C" fn(*mut c_void), *mut c_void);
    type Pop = unsafe extern "C" fn(*mut CleanUp, c_int);

    /// Both are part of glibc's ABI since 2.2.5, but not in a header.
    fn functions() -> Option<(Push, Pop)> {
        static FOUND: OnceLock<Option<(Push, Pop)>> = OnceLock::new();
        *FOUND.get_or_init(|| {
            // SAFETY: null-terminated names.
            let find =
                |name: &std::ffi::CStr| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
            let (push, pop) = (find(c"_pthread_cleanup_push"), find(c"_pthread_cleanup_pop"));
            if push.is_null() || pop.is_null() {
                return None;
            }
            // SAFETY: functions of glibc with these signatures.
            unsafe {
                Some((
                    std::mem::transmute::<*mut c_void, Push>(push),
                    std::mem::transmute::<*mut c_void, Pop>(pop),
                ))
            }
        })
    }

    /// The entry in the thread's clean-up list, removed when the thread ends normally.
    struct Entered(Box<CleanUp>);

    impl Drop for Entered {
        fn drop(&mut self) {
            if let Some((_, pop)) = functions() {
                // SAFETY: pushed by this thread, and not executed.
                unsafe { pop(&mut *self.0, 0) };
            }
        }
    }

    thread_local! {
        static IS_ENTERED: Cell<bool> = const { Cell::new(false) };
        static ENTERED: RefCell<Option<Entered>> = const { RefCell::new(None) };
    }

    unsafe extern "C" fn park(_: *mut c_void) {
        // Otherwise another library called `pthread_exit`, which is not handled here.
        while is_ending() {
            std::thread::park();
        }
    }

    #[inline]
    pub fn enter_thread() {
        if !IS_ENTERED.get() {
            enter();
        }
    }

    #[cold]
    fn enter() {
        IS_ENTERED.set(true);
        let Some((push, _)) = functions() else { return };
        // Boxed: glibc's own entries are on the stack, and it takes the address of this one for that of a
        // frame which the unwinding leaves at once, so it calls the function first.
        let mut entered = Entered(Box::new(CleanUp {
            routine: None,
            argument: ptr::null_mut(),
            cancel_type: 0,
            previous: ptr::null_mut(),
        }));
        // SAFETY: the entry does not move until the thread ends, and is removed from the list before it is
        // freed.
        unsafe { push(&mut *entered.0, park, ptr::null_mut()) };
        // Fails when the thread is being destroyed: then dropping the entry removes it from the list.
        let _ = ENTERED.try_with(|it| it.replace(Some(entered)));
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod parking {
    #[inline]
    pub fn enter_thread() {}
}

/// Waits for another thread, with the GIL released if this thread holds it.
pub fn wait_without_gil(wait: &mut (dyn FnMut() + Send)) {
    if try_attach(|py| detach(py, &mut *wait)).is_none() {
        wait();
    }
}

/// Runs a function that may wait for the driver, with the GIL released if this thread holds it; for
/// destructors.
pub fn without_gil(run: impl FnOnce() + Send) {
    let mut run = Some(run);
    wait_without_gil(&mut || run.take().into_iter().for_each(|run| run()));
}

/// Issues a `ResourceWarning`; raises an exception if warnings are turned into errors.
pub fn warn(py: Python<'_>, message: &str) -> PyResult<()> {
    check_locks();
    let category = py.get_type::<PyResourceWarning>();
    PyErr::warn(py, &category, &CString::new(message.replace('\0', "?"))?, 1)
}

/// Issues a `ResourceWarning` from a finaliser: keeps the current exception, and prints a warning that is
/// turned into an error instead of raising it.
pub fn warn_unclosed(py: Python<'_>, message: &str) {
    in_finaliser(py, || warn(py, message));
}

/// Runs a function that may raise in a place where nothing may be raised: prints its exception and keeps the
/// current one.
pub fn in_finaliser(py: Python<'_>, run: impl FnOnce() -> PyResult<()>) {
    let on_its_way = PyErr::take(py);
    if let Err(error) = run() {
        error.write_unraisable(py, None);
    }
    if let Some(error) = on_its_way {
        error.restore(py);
    }
}
