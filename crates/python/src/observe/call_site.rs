//! Call sites: the Python stack that created a resource, stored as the code object and the instruction of
//! each frame. Lines and names are looked up only when they are read.

use std::ffi::c_int;
use std::sync::Arc;
use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{ffi, intern};
use vkmem_engine::KeyMap;
use vkmem_engine::lock::{Mutex, rank};

/// Text of a call site without a frame of the caller, as in a finaliser at interpreter exit.
pub const NOWHERE: &str = "no Python code";

/// Where and when a resource was created.
#[derive(Clone, Copy)]
pub struct Origin {
    /// Number of the call site.
    pub site: u32,
    /// Time of creation.
    pub at: Instant,
}

/// A frame: the address of its code object, which the table keeps alive, and a byte offset in its bytecode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Frame {
    code: usize,
    instruction: i32,
}

/// Frames from the innermost outwards.
type Stack = Arc<[Frame]>;

struct Code {
    /// Kept alive, so that its address is not reused by another code object.
    object: Py<PyAny>,
    /// Whether it belongs to this package or the import system, which are left out of call sites.
    is_inner: bool,
}

#[derive(Default)]
struct Table {
    codes: KeyMap<usize, Code>,
    stacks: Vec<Stack>,
    numbers: KeyMap<Stack, u32>,
}

impl Table {
    /// Returns the number of a stack, which it adds if need be; `None` if there is no host memory for it.
    fn intern(&mut self, frames: &[Frame]) -> Option<u32> {
        if let Some(number) = self.numbers.get(frames) {
            return Some(*number);
        }
        let reserved = self.stacks.try_reserve(1).and_then(|()| self.numbers.try_reserve(1));
        reserved.ok()?;
        let stack: Stack = frames.into();
        let number = u32::try_from(self.stacks.len()).expect("fewer than 2^32 call sites");
        self.stacks.push(stack.clone());
        self.numbers.insert(stack, number);
        Some(number)
    }
}

/// The call sites of one allocator, by number. Each stack and each code object is stored once.
pub struct CallSites {
    /// Number of frames to store for each new resource; 0 to store none.
    depth: usize,
    /// Never held while Python code runs: attributes, new frames and integers may start a garbage collection,
    /// whose finalisers come back here.
    table: Mutex<Table, rank::CallSites>,
}

type GetBack = unsafe extern "C" fn(*mut ffi::PyFrameObject) -> *mut ffi::PyFrameObject;
type GetInstruction = unsafe extern "C" fn(*mut ffi::PyFrameObject) -> c_int;

/// Functions that read a frame faster than its attributes. They are not in the limited API, so they are
/// looked up at run time; without them the attributes are read.
#[derive(Clone, Copy)]
struct Direct {
    back: GetBack,
    instruction: GetInstruction,
}

#[cfg(unix)]
fn direct() -> Option<Direct> {
    static FOUND: std::sync::OnceLock<Option<Direct>> = std::sync::OnceLock::new();
    *FOUND.get_or_init(|| {
        // SAFETY: null-terminated names.
        let find =
            |name: &std::ffi::CStr| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        let (back, instruction) = (find(c"PyFrame_GetBack"), find(c"PyFrame_GetLasti"));
        if back.is_null() || instruction.is_null() {
            return None;
        }
        // SAFETY: public functions of CPython 3.11 and later, with these signatures.
        unsafe {
            Some(Direct {
                back: std::mem::transmute::<*mut libc::c_void, GetBack>(back),
                instruction: std::mem::transmute::<*mut libc::c_void, GetInstruction>(instruction),
            })
        }
    })
}

#[cfg(not(unix))]
fn direct() -> Option<Direct> {
    None
}

/// Returns the running frame.
fn innermost(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    // SAFETY: under the GIL; a borrowed reference, or null without an exception.
    unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyEval_GetFrame().cast()) }
}

fn outer<'py>(frame: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let py = frame.py();
    match direct() {
        // SAFETY: a frame object; returns a new reference, or null without an exception.
        Some(direct) => unsafe {
            Bound::from_owned_ptr_or_opt(py, (direct.back)(frame.as_ptr().cast()).cast())
        },
        None => frame.getattr(intern!(py, "f_back")).ok().filter(|back| !back.is_none()),
    }
}

fn instruction(frame: &Bound<'_, PyAny>) -> i32 {
    match direct() {
        // SAFETY: a frame object.
        Some(direct) => unsafe { (direct.instruction)(frame.as_ptr().cast()) },
        None => {
            let instruction = frame.getattr(intern!(frame.py(), "f_lasti"));
            instruction.and_then(|it| it.extract()).unwrap_or(-1)
        }
    }
}

fn code<'py>(frame: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    // SAFETY: a frame object; returns a new reference, never null.
    unsafe { Bound::from_owned_ptr(frame.py(), ffi::PyFrame_GetCode(frame.as_ptr().cast()).cast()) }
}

/// Returns whether a frame's module is this package or the import system.
fn is_inner(frame: &Bound<'_, PyAny>) -> bool {
    let py = frame.py();
    let name = || -> PyResult<String> {
        let globals = frame.getattr(intern!(py, "f_globals"))?;
        let name = globals.get_item(intern!(py, "__name__"))?;
        Ok(name.cast::<PyString>()?.to_string_lossy().into_owned())
    };
    let Ok(name) = name() else { return false };
    name == "vk_mem" || name.starts_with("vk_mem.") || name.starts_with("importlib._bootstrap")
}

impl CallSites {
    /// Creates the table; as a listener it stores the stack of every new resource, `depth` frames deep.
    pub fn new(depth: usize) -> Self {
        Self { depth, table: Mutex::default() }
    }

    /// Returns whether the stacks of new resources are stored.
    pub fn is_tracking(&self) -> bool {
        self.depth > 0
    }

    /// Returns the current call site, of up to `depth` frames of the caller, each a few dozen nanoseconds;
    /// `None` if there is no host memory for another call site.
    pub fn capture(&self, py: Python<'_>, depth: usize) -> Option<u32> {
        let mut frames = [Frame { code: 0, instruction: 0 }; MAX_DEPTH];
        let depth = depth.min(MAX_DEPTH);
        let mut count = 0;
        let mut next = innermost(py);
        while let Some(frame) = next {
            let code = code(&frame);
            let address = code.as_ptr() as usize;
            let known = self.table.lock().codes.get(&address).map(|code| code.is_inner);
            let inner = match known {
                Some(is_inner) => is_inner,
                None => {
                    let is_inner = is_inner(&frame);
                    let object = code.unbind();
                    let mut table = self.table.lock();
                    table.codes.try_reserve(1).ok()?;
                    table.codes.entry(address).or_insert(Code { object, is_inner });
                    is_inner
                }
            };
            if !inner {
                frames[count] = Frame { code: address, instruction: instruction(&frame) };
                count += 1;
                if count == depth {
                    break;
                }
            }
            next = outer(&frame);
        }
        self.table.lock().intern(&frames[..count])
    }

    /// Captures the call site, as deep as the allocator tracks them.
    pub fn capture_tracked(&self, py: Python<'_>) -> Option<u32> {
        self.capture(py, self.depth)
    }

    /// Returns the call site that has only the innermost frame of another one.
    pub fn head(&self, site: u32) -> Option<u32> {
        let mut table = self.table.lock();
        let stack = table.stacks[site as usize].clone();
        table.intern(&stack[..stack.len().min(1)])
    }

    /// Returns file, line and function of each frame, innermost first.
    pub fn frames(&self, py: Python<'_>, site: u32) -> Vec<(String, u32, String)> {
        let lines = self.lines(py, site).into_iter();
        lines
            .map(|line| {
                let (place, function) = line.split_once(" in ").unwrap_or((&line, ""));
                let (file, number) = place.rsplit_once(':').unwrap_or((place, "0"));
                (file.into(), number.parse().unwrap_or(0), function.into())
            })
            .collect()
    }

    /// Returns `file:line in function` for each frame, innermost first.
    pub fn lines(&self, py: Python<'_>, site: u32) -> Vec<String> {
        let codes: Vec<_> = {
            let table = self.table.lock();
            let stack = &table.stacks[site as usize];
            let code = |it: &Frame| (table.codes[&it.code].object.clone_ref(py), it.instruction);
            stack.iter().map(code).collect()
        };
        if codes.is_empty() {
            return vec![NOWHERE.into()];
        }
        let on_its_way = PyErr::take(py);
        let lines = codes.iter().map(|(code, instruction)| line_of(code.bind(py), *instruction));
        let lines = lines.collect();
        if let Some(error) = on_its_way {
            error.restore(py);
        }
        lines
    }
}

/// Maximum depth; deeper stacks are cut.
pub const MAX_DEPTH: usize = 64;

/// Returns `file:line in function`.
fn line_of(code: &Bound<'_, PyAny>, instruction: i32) -> String {
    let py = code.py();
    let text = |name: &Bound<'_, PyString>| -> String {
        let text = code.getattr(name).map(|it| it.to_string()).unwrap_or_default();
        text.chars().map(|it| if it.is_control() { '?' } else { it }).collect()
    };
    let line = || -> PyResult<u32> {
        for range in code.call_method0(intern!(py, "co_lines"))?.try_iter()? {
            let (start, end, line): (i32, i32, Option<u32>) = range?.extract()?;
            if start <= instruction
                && instruction < end
                && let Some(line) = line
            {
                return Ok(line);
            }
        }
        code.getattr(intern!(py, "co_firstlineno"))?.extract()
    };
    let file = text(intern!(py, "co_filename"));
    let function = text(intern!(py, "co_qualname"));
    format!("{file}:{} in {function}", line().unwrap_or(0))
}
