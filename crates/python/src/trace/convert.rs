//! Fields of events as Python objects.

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use vkmem_trace::Value;

/// Returns a field as an object of the standard library; `request` stands for a request.
pub fn to_object<'py>(
    py: Python<'py>,
    value: &Value<'_>,
    request: u32,
) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::None => Ok(py.None().into_bound(py)),
        Value::Bool(it) => it.into_bound_py_any(py),
        Value::Number(it) => it.into_bound_py_any(py),
        Value::Signed(it) => it.into_bound_py_any(py),
        Value::Real(it) => it.into_bound_py_any(py),
        Value::Text(it) => it.into_bound_py_any(py),
        Value::Numbers(it) => {
            let numbers: Vec<u32> = it.iter().collect();
            Ok(PyTuple::new(py, numbers)?.into_any())
        }
        Value::List(items) => {
            let list = PyList::empty(py);
            for it in items {
                list.append(to_object(py, it, request)?)?;
            }
            Ok(list.into_any())
        }
        Value::Fields(fields) => Ok(to_dict(py, fields, request)?.into_any()),
        Value::Request(_) => request.into_bound_py_any(py),
    }
}

/// Returns fields by their names.
pub fn to_dict<'py>(
    py: Python<'py>,
    fields: &[(&'static str, Value<'_>)],
    request: u32,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in fields {
        dict.set_item(name, to_object(py, value, request)?)?;
    }
    Ok(dict)
}
