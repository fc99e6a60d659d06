//! The keywords of `create_image` that say what the new image holds.

use std::sync::Arc;

use ash::vk;
use pyo3::prelude::*;

use crate::errors::invalid;
use crate::lifetime::ownership::AllocatorState;
use crate::objects::image::Image;
use crate::process::links::Link;
use crate::transfer::image_place::shape_of;
use crate::transfer::mipmaps::full_chain;
use crate::transfer::source::Source;
use crate::transfer::transfers::Transfers;

/// What a new image is filled with.
#[derive(Default)]
pub struct NewTexels {
    /// The array, and its shape if it has one.
    data: Option<(Source, Option<Vec<u64>>)>,
    layout: Option<Link<PyAny>>,
    with_mips: bool,
}

impl NewTexels {
    /// Reads a keyword; returns false if it is unknown.
    pub fn take(&mut self, key: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        match key {
            "data" if value.is_none() => self.data = None,
            "data" => self.data = Some((Source::read(value, None, "data")?, shape_of(value))),
            "layout" => self.layout = (!value.is_none()).then(|| Link::new(value.clone().unbind())),
            "generate_mipmaps" => self.with_mips = value.is_truthy()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Adds what the image needs for it, unless its create info is a struct of the caller.
    pub fn prepare(
        &self,
        py: Python<'_>,
        info: &mut vk::ImageCreateInfo<'_>,
        of_struct: bool,
        has_mip_levels: bool,
    ) -> PyResult<()> {
        if self.data.is_none() {
            let other = [(self.with_mips, "generate_mipmaps"), (self.layout.is_some(), "layout")];
            return match other.into_iter().find(|(is_given, _)| *is_given) {
                Some((_, name)) => Err(invalid(py, format!("{name} needs data to fill the image"))),
                None => Ok(()),
            };
        }
        if of_struct {
            return Ok(());
        }
        info.usage |= vk::ImageUsageFlags::TRANSFER_DST;
        if self.with_mips {
            info.usage |= vk::ImageUsageFlags::TRANSFER_SRC;
            if !has_mip_levels {
                info.mip_levels = full_chain(info.extent);
            }
        }
        Ok(())
    }

    /// Fills the image, or destroys it where that fails.
    pub fn fill(self, allocator: &Arc<AllocatorState>, image: &Bound<'_, Image>) -> PyResult<()> {
        let Some(data) = self.data else { return Ok(()) };
        let with_mips = self.with_mips && image.get().mip_levels > 1;
        let transfers = Transfers::of(allocator);
        let layout = self.layout.as_ref().map(|it| it.bind(image.py()));
        transfers.fill_new_image(image, data, layout, with_mips).inspect_err(|_| {
            // What went wrong with the data is the one to tell.
            let _ = image.as_super().get().destroy(image.py());
        })
    }
}
