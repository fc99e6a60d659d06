//! `Transfers.explain`

use pyo3::prelude::*;
use pyo3::types::PyInt;
use vkmem_vulkan::TransferDirection;

use super::copies::Part;
use super::image_place::{ImagePlace, RegionKeywords, used_image};
use super::image_way::{Asked, choose_image};
use super::source::Source;
use super::transfers::Transfers;
use super::way::{Place, choose, explain};
use crate::arguments::numbers::unsigned;
use crate::arguments::text::Text;
use crate::errors::invalid;
use crate::objects::image::Image;

fn direction(given: &Text, py: Python<'_>) -> PyResult<TransferDirection> {
    match given.0.as_str() {
        "upload" => Ok(TransferDirection::Upload),
        "download" => Ok(TransferDirection::Download),
        other => {
            let other = other.escape_debug();
            Err(invalid(py, format!("direction is '{other}'; it must be 'upload' or 'download'")))
        }
    }
}

#[pymethods]
impl Transfers {
    /// Which way a transfer would take, and why. `array` is an array, or a number of bytes; `direction` is
    /// "upload" or "download".
    ///
    /// Raises what the transfer would raise at once.
    #[pyo3(signature = (array, resource, direction = None), text_signature = "($self, array, resource, direction='upload')")]
    fn explain(
        &self,
        py: Python<'_>,
        array: &Bound<'_, PyAny>,
        resource: &Bound<'_, PyAny>,
        direction: Option<Text>,
    ) -> PyResult<String> {
        let _inside = self.state.enter(py, &self.allocator)?;
        let direction = match direction {
            Some(given) => self::direction(&given, py)?,
            None => TransferDirection::Upload,
        };
        let (size, host) = if array.is_instance_of::<PyInt>() {
            (unsigned(array, "array")?, None)
        } else {
            let source = Source::read(array, None, "array")?;
            let size = source.size();
            (size as u64, source.address().map(|address| (address, size)))
        };
        if let Ok(image) = resource.cast::<Image>() {
            let place = ImagePlace::of(py, &self.allocator, image, &RegionKeywords::default())?;
            let used = used_image(image, None)?;
            let asked = Asked { direction, host, wanted: None };
            let chosen = choose_image(image, &self.state, &place, &used, &asked)?;
            return Ok(explain(&chosen, &place.resource, size, &self.state.engine, direction));
        }
        let part = Part::read_if_no_image(resource)?;
        let place = Place::of(py, &self.allocator, &part, 0, size)?;
        let chosen = choose(py, &self.state, &place, direction, host, None)?;
        Ok(explain(&chosen, &place.resource, size, &self.state.engine, direction))
    }
}
