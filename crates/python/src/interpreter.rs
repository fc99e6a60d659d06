//! The interpreter: its end, others inside of it, waiting without it, its warnings.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyImportError, PyResourceWarning};
use pyo3::ffi;
use pyo3::marker::Ungil;
use pyo3::prelude::*;
use vkmem_engine::lock::{self, rank};

/// Set by the last call that `atexit` makes: what comes after it is the end.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Notes that the interpreter ends.
pub fn set_ending() {
    IS_ENDING.store(true, Ordering::Release);
}

/// Whether the interpreter ends: modules lose what they hold.
pub fn is_ending() -> bool {
    IS_ENDING.load(Ordering::Acquire)
}

/// An exception in every interpreter but the first: classes, locks and devices exist once a process, and
/// the objects of one interpreter may not be used by another.
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

/// Has PyO3 look now whether the interpreter runs: it asks when a thread first attaches by itself, and
/// panics if that is at the end.
pub fn attach_once(py: Python<'_>) {
    detach(py, || Python::attach(|_| ()));
}

/// To be called by every thread before it may run Python code from inside of this library: see
/// [`parking`]. One look at a thread-local value after the first time.
#[inline]
pub fn enter_thread() {
    // Python code that was run with a short lock held comes back by here.
    check_locks();
    parking::enter_thread();
}

/// To be called before Python code may run: in checked builds a panic if this thread holds a lock that must
/// not be held then.
#[inline(always)]
#[cfg_attr(any(debug_assertions, feature = "validate"), track_caller)]
pub fn check_locks() {
    lock::check::<rank::Interpreter>();
}

/// Runs something without the interpreter, which is waited for afterwards. All of this crate that lets it go
/// goes through here.
#[inline(always)]
#[cfg_attr(any(debug_assertions, feature = "validate"), track_caller)]
pub fn detach<T: Ungil>(py: Python<'_>, run: impl FnOnce() -> T + Ungil) -> T {
    check_locks();
    py.detach(run)
}

/// Takes the interpreter, if it runs, for something that may happen with or without it.
#[inline(always)]
#[cfg_attr(any(debug_assertions, feature = "validate"), track_caller)]
pub fn try_attach<T>(run: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    check_locks();
    Python::try_attach(run)
}

/// Has the locks know of the interpreter: see [`lock`].
///
/// # Panics
/// Where nobody can tell who has it: then the checks would pass whatever happens.
#[cfg(all(unix, any(debug_assertions, feature = "validate")))]
pub fn check_locks_by_it(py: Python<'_>) {
    assert!(has_interpreter(), "this thread has the interpreter");
    detach(py, || assert!(!has_interpreter(), "this thread has let the interpreter go"));
    lock::ask_interpreter_by(has_interpreter);
}

/// Whether this thread has the interpreter.
#[cfg(all(unix, any(debug_assertions, feature = "validate")))]
fn has_interpreter() -> bool {
    use std::sync::OnceLock;

    type Current = unsafe extern "C" fn() -> *mut ffi::PyThreadState;

    /// No part of the limited interface: the thread state of who has the interpreter, or, since 3.12, that of
    /// this thread if it is the one.
    static CURRENT: OnceLock<Option<Current>> = OnceLock::new();
    let current = *CURRENT.get_or_init(|| {
        let names = [c"PyThreadState_GetUnchecked", c"_PyThreadState_UncheckedGet"];
        // SAFETY: names that end in a null byte.
        let find =
            |name: &std::ffi::CStr| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        let found = names.into_iter().map(find).find(|it| !it.is_null())?;
        // SAFETY: functions of CPython with this signature.
        Some(unsafe { std::mem::transmute::<*mut std::ffi::c_void, Current>(found) })
    });
    let Some(current) = current else { return false };
    // SAFETY: both may be called by any thread, with or without the interpreter.
    let (current, mine) = unsafe { (current(), ffi::PyGILState_GetThisThreadState()) };
    !mine.is_null() && current == mine
}

/// Parks threads that are inside of this library when the interpreter ends.
///
/// CPython before 3.14 ends a daemon thread that asks for the GIL after the end with `pthread_exit`, and
/// glibc unwinds the stack for that. Rust's frames may not be unwound so: the process aborts. From 3.14 on
/// such a thread waits for ever instead, which is what is done here: glibc calls the clean-up functions of
/// a thread before it unwinds anything, and the one that is entered here does not return. Other C
/// libraries and systems do not unwind.
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

    /// Both are part of glibc's binary interface since 2.2.5, but in no header.
    fn functions() -> Option<(Push, Pop)> {
        static FOUND: OnceLock<Option<(Push, Pop)>> = OnceLock::new();
        *FOUND.get_or_init(|| {
            // SAFETY: names that end in a null byte.
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

    /// What is entered in the thread's list, until the thread ends in any other way.
    struct Entered(Box<CleanUp>);

    impl Drop for Entered {
        fn drop(&mut self) {
            if let Some((_, pop)) = functions() {
                // SAFETY: entered by this thread, and not executed.
                unsafe { pop(&mut *self.0, 0) };
            }
        }
    }

    thread_local! {
        static IS_ENTERED: Cell<bool> = const { Cell::new(false) };
        static ENTERED: RefCell<Option<Entered>> = const { RefCell::new(None) };
    }

    unsafe extern "C" fn park(_: *mut c_void) {
        // Else the thread was ended by somebody else's `pthread_exit`, which is their affair.
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
        // On the heap, where glibc takes it for a frame that is left at once: its own are on the stack.
        let mut entered = Entered(Box::new(CleanUp {
            routine: None,
            argument: ptr::null_mut(),
            cancel_type: 0,
            previous: ptr::null_mut(),
        }));
        // SAFETY: stays where it is until the thread ends, and is taken off the list before.
        unsafe { push(&mut *entered.0, park, ptr::null_mut()) };
        // Fails at the very end of a thread: then it is taken off again.
        let _ = ENTERED.try_with(|it| it.replace(Some(entered)));
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod parking {
    #[inline]
    pub fn enter_thread() {}
}

/// Lets the interpreter go while this thread waits for another one, if it has it.
pub fn wait_without_interpreter(wait: &mut (dyn FnMut() + Send)) {
    if try_attach(|py| detach(py, &mut *wait)).is_none() {
        wait();
    }
}

/// Runs what may wait for the driver, and does not know whether this thread has the interpreter: an end.
pub fn without_interpreter(run: impl FnOnce() + Send) {
    let mut run = Some(run);
    wait_without_interpreter(&mut || run.take().into_iter().for_each(|run| run()));
}

/// Issues a `ResourceWarning`; an exception if warnings are turned into errors.
pub fn warn(py: Python<'_>, message: &str) -> PyResult<()> {
    check_locks();
    let category = py.get_type::<PyResourceWarning>();
    PyErr::warn(py, &category, &CString::new(message.replace('\0', "?"))?, 1)
}

/// Issues a `ResourceWarning` from a finaliser: whatever exception is on its way stays, and a warning
/// that was turned into an error is shown, not raised.
pub fn warn_unclosed(py: Python<'_>, message: &str) {
    in_finaliser(py, || warn(py, message));
}

/// Runs what may raise where nothing may be raised.
pub fn in_finaliser(py: Python<'_>, run: impl FnOnce() -> PyResult<()>) {
    let on_its_way = PyErr::take(py);
    if let Err(error) = run() {
        error.write_unraisable(py, None);
    }
    if let Some(error) = on_its_way {
        error.restore(py);
    }
}
