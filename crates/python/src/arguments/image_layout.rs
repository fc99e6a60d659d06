//! Layouts of images.

use ash::vk;
use pyo3::prelude::*;

use super::numbers::{IMAGE_LAYOUT, of_class};
use crate::errors::invalid;

/// Reads a layout: any `VkImageLayout`, of extensions as well that this package does not know.
pub fn read_image_layout(value: &Bound<'_, PyAny>) -> PyResult<vk::ImageLayout> {
    /// What extensions add is numbered from here on.
    const OF_EXTENSIONS: i32 = 1_000_000_000;
    let number = of_class(value, "layout", &IMAGE_LAYOUT)?;
    match i32::try_from(number) {
        Ok(known)
            if known <= vk::ImageLayout::PREINITIALIZED.as_raw() || known >= OF_EXTENSIONS =>
        {
            Ok(vk::ImageLayout::from_raw(known))
        }
        _ => Err(invalid(value.py(), format!("layout is {number}, which is no VkImageLayout"))),
    }
}
