//! Transfers of images as Python calls them: those of `Transfers`, and the short forms of `Image`.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::download::Wanted;
use super::image_place::{RegionKeywords, shape_of};
use super::source::Source;
use super::state::{Transfer, Way};
use super::transfers::Transfers;
use super::{image_download, image_upload, mipmaps};
use crate::arguments::sequences::about_item;
use crate::errors::invalid;
use crate::objects::image::Image;

impl Transfers {
    /// `upload` of an image.
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    pub fn start_image_upload(
        &self,
        array: &Bound<'_, PyAny>,
        image: &Bound<'_, Image>,
        region: &RegionKeywords<'_, '_>,
        dtype: Option<&Bound<'_, PyAny>>,
        layout: Option<&Bound<'_, PyAny>>,
        progress: Option<&Bound<'_, PyAny>>,
        way: Option<Way>,
    ) -> PyResult<Py<Transfer>> {
        let py = array.py();
        self.allocator.change(py, || {
            let _inside = self.state.enter(py, &self.allocator)?;
            let source = Source::read(array, dtype, "array")?;
            let (state, allocator) = (&self.state, &self.allocator);
            let prepared = image_upload::Prepared::new(
                py, state, allocator, source, image, region, layout, way,
            )?;
            prepared.check_shape(py, shape_of(array).as_deref())?;
            state.retire_some(py, allocator);
            prepared.start(py, state, allocator, state.batch(), progress)
        })
    }

    /// Fills the first mip level of a new image, makes the others if wanted, and waits for that.
    pub fn fill_new_image(
        &self,
        image: &Bound<'_, Image>,
        (data, shape): (Source, Option<Vec<u64>>),
        layout: Option<&Bound<'_, PyAny>>,
        with_mips: bool,
    ) -> PyResult<()> {
        let py = image.py();
        let _inside = self.state.enter(py, &self.allocator)?;
        let region = RegionKeywords::default();
        // One submission for both, where nothing is larger than a piece of the ring.
        let (filled, made) = self.together(py, |batch| {
            let (state, allocator) = (&self.state, &self.allocator);
            let filled = image_upload::Prepared::new(
                py, state, allocator, data, image, &region, layout, None,
            )?;
            filled.check_shape(py, shape.as_deref())?;
            let filled = filled.start(py, state, allocator, batch, None)?;
            let made =
                with_mips.then(|| mipmaps::start(py, state, allocator, batch, image, None, layout));
            Ok((filled, made))
        })?;
        let filled = filled.get().result(py, None);
        if let Some(made) = made {
            // What went wrong with the data is the one to tell.
            let made = made.and_then(|made| made.get().result(py, None));
            return filled.and(made).map(drop);
        }
        filled.map(drop)
    }

    /// `download` of an image.
    pub fn start_image_download(
        &self,
        image: &Bound<'_, Image>,
        region: &RegionKeywords<'_, '_>,
        wanted: &Wanted<'_, '_>,
        progress: Option<&Bound<'_, PyAny>>,
        way: Option<Way>,
    ) -> PyResult<Py<Transfer>> {
        let py = image.py();
        let _inside = self.state.enter(py, &self.allocator)?;
        let (state, allocator) = (&self.state, &self.allocator);
        if wanted.size.is_some() {
            return Err(invalid(py, "size is a keyword of buffers: an image has an extent"));
        }
        let prepared =
            image_download::Prepared::new(py, state, allocator, image, region, wanted, way)?;
        state.retire_some(py, allocator);
        prepared.start(py, state, allocator, state.batch(), progress)
    }

    /// `upload_many` of images.
    pub fn upload_images(
        &self,
        py: Python<'_>,
        arrays: &[Bound<'_, PyAny>],
        images: &[&Bound<'_, Image>],
        dtype: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Py<Transfer>>> {
        let (state, allocator) = (&self.state, &self.allocator);
        if arrays.len() != images.len() {
            return Err(invalid(py, format!("{} arrays need as many images", arrays.len())));
        }
        let region = RegionKeywords::default();
        let prepare =
            |(index, (array, image)): (usize, (&Bound<'_, PyAny>, &&Bound<'_, Image>))| {
                let source = Source::read(array, dtype, "array");
                let prepared = source.and_then(|source| {
                    image_upload::Prepared::new(
                        py, state, allocator, source, image, &region, None, None,
                    )
                });
                let prepared = prepared
                    .and_then(|it| it.check_shape(py, shape_of(array).as_deref()).map(|()| it));
                prepared.map_err(|error| about_item(py, index, error))
            };
        let all: Vec<_> =
            arrays.iter().zip(images).enumerate().map(prepare).collect::<PyResult<_>>()?;
        state.retire_some(py, allocator);
        self.together(py, |batch| {
            all.into_iter().map(|it| it.start(py, state, allocator, batch, None)).collect()
        })
    }

    /// `download_many` of images.
    pub fn download_images(
        &self,
        py: Python<'_>,
        images: &[&Bound<'_, Image>],
        dtype: Option<&Bound<'_, PyAny>>,
        shape: Option<&Bound<'_, PyAny>>,
        outs: Option<&[Bound<'_, PyAny>]>,
    ) -> PyResult<Vec<Py<Transfer>>> {
        let (state, allocator) = (&self.state, &self.allocator);
        let region = RegionKeywords::default();
        let prepare = |(index, image): (usize, &&Bound<'_, Image>)| {
            let out = outs.map(|it| &it[index]);
            let wanted = Wanted { dtype, shape, out, ..Wanted::default() };
            let prepared =
                image_download::Prepared::new(py, state, allocator, image, &region, &wanted, None);
            prepared.map_err(|error| about_item(py, index, error))
        };
        let all: Vec<_> = images.iter().enumerate().map(prepare).collect::<PyResult<_>>()?;
        state.retire_some(py, allocator);
        self.together(py, |batch| {
            all.into_iter().map(|it| it.start(py, state, allocator, batch, None)).collect()
        })
    }
}

#[pymethods]
impl Transfers {
    /// Makes all mip levels of an image after the first one, each from the one before, by blits on the
    /// device's queue. `filter` is "LINEAR" where the format can be filtered and "NEAREST" for integers,
    /// depth and stencil. The image is left in `layout`, by default in that which it was in.
    ///
    /// Raises `InvalidArgumentError` (one mip level; created without `ImageUsage.TRANSFER_SRC` or
    /// `TRANSFER_DST`; several samples, aspects or planes; no contents) and `FeatureNotPresentError` (a queue
    /// without `GRAPHICS`; a format that cannot be blitted or filtered, by the name of the feature).
    #[pyo3(signature = (image, filter = None, layout = None))]
    fn generate_mipmaps(
        &self,
        py: Python<'_>,
        image: &Bound<'_, PyAny>,
        filter: Option<&Bound<'_, PyAny>>,
        layout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Transfer>> {
        self.allocator.change(py, || {
            let _inside = self.state.enter(py, &self.allocator)?;
            let image = image.cast::<Image>().map_err(|_| {
                let kind = image.get_type().name().map_or("?".into(), |name| name.to_string());
                PyTypeError::new_err(format!("image must be a vk_mem.Image, not {kind}"))
            })?;
            let (state, allocator) = (&self.state, &self.allocator);
            state.retire_some(py, allocator);
            mipmaps::start(py, state, allocator, state.batch(), image, filter, layout)
        })
    }
}

#[pymethods]
impl Image {
    /// Copies an array into a box of texels, and waits until the device has it:
    /// `Allocator.transfers.upload(array, image, ...).result()`.
    ///
    /// The box is of one `mip_level`, of `layer_count` array layers from `base_layer` on (by default all that
    /// follow), and of an `extent` of up to three sides at an `offset`, width first, in texels (by default to
    /// the end of the level; sides that are left out are 1). `aspect` is one `ImageAspect` of the format,
    /// by default the first one: `DEPTH` and `STENCIL` are copied one at a time, and so are planes, whose
    /// offset and extent are in texels of the plane.
    ///
    /// The array has the bytes of the texels in the order layers, depth, rows, columns, in that shape, flat or in
    /// another one, but not with the width before the height: of blocks where the format is compressed, and of 32 bits for 24 bits of depth. What is told of
    /// sources and of `dtype` in `Transfers.upload` holds here, too.
    ///
    /// The image is left in `layout`: by default in the one that it was in, and a new image in the first one
    /// that fits: `GENERAL` of tiling `LINEAR`, `SHADER_READ_ONLY_OPTIMAL` of usage `SAMPLED` or
    /// `INPUT_ATTACHMENT`, `GENERAL` of `STORAGE`, or that of an attachment or of transfers. What other
    /// texels hold stays, except where the layout was `UNDEFINED`.
    ///
    /// Raises `InvalidArgumentError` (other bytes than the texels have; texels that the image has not; created
    /// without `ImageUsage.TRANSFER_DST`; several samples; not bound) and what `Transfers.upload` and
    /// `Transfer.result` raise.
    #[pyo3(signature = (
        array, mip_level = None, base_layer = None, layer_count = None, offset = None, extent = None,
        aspect = None, layout = None, *, dtype = None, progress = None
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn upload(
        slf: &Bound<'_, Self>,
        array: &Bound<'_, PyAny>,
        mip_level: Option<&Bound<'_, PyAny>>,
        base_layer: Option<&Bound<'_, PyAny>>,
        layer_count: Option<&Bound<'_, PyAny>>,
        offset: Option<&Bound<'_, PyAny>>,
        extent: Option<&Bound<'_, PyAny>>,
        aspect: Option<&Bound<'_, PyAny>>,
        layout: Option<&Bound<'_, PyAny>>,
        dtype: Option<&Bound<'_, PyAny>>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let region = RegionKeywords { mip_level, base_layer, layer_count, offset, extent, aspect };
        let transfers = transfers_of(slf)?;
        let begun =
            transfers.start_image_upload(array, slf, &region, dtype, layout, progress, None)?;
        begun.get().result(slf.py(), None).map(drop)
    }

    /// Copies a box of texels into a new array, and waits for it:
    /// `Allocator.transfers.download(image, ...).result()`. The keywords of the box are those of `upload`.
    ///
    /// Its shape is `(height, width, channels)`, and `(height, width)` where a texel is one element; with a depth in front of it if the image is 3D, and layers in
    /// front of all if there are several. Its dtype is that of the components, as of `Image.numpy`: bytes
    /// where they have no one size, and blocks of bytes of compressed formats. With a `dtype` of another size
    /// the channels are counted in it, with a `shape` the bytes are arranged so. Or `out` is any writable,
    /// contiguous object of as many bytes with the buffer protocol. Without NumPy it is a `bytearray`. The
    /// image stays in its layout.
    ///
    /// Raises `InvalidArgumentError` (an image without contents, whose layout is `UNDEFINED`; created without
    /// `ImageUsage.TRANSFER_SRC`) and what `upload` raises.
    #[pyo3(signature = (
        dtype = None, shape = None, mip_level = None, base_layer = None, layer_count = None, offset = None,
        extent = None, aspect = None, *, out = None, progress = None
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn download(
        slf: &Bound<'_, Self>,
        dtype: Option<&Bound<'_, PyAny>>,
        shape: Option<&Bound<'_, PyAny>>,
        mip_level: Option<&Bound<'_, PyAny>>,
        base_layer: Option<&Bound<'_, PyAny>>,
        layer_count: Option<&Bound<'_, PyAny>>,
        offset: Option<&Bound<'_, PyAny>>,
        extent: Option<&Bound<'_, PyAny>>,
        aspect: Option<&Bound<'_, PyAny>>,
        out: Option<&Bound<'_, PyAny>>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let region = RegionKeywords { mip_level, base_layer, layer_count, offset, extent, aspect };
        let wanted = Wanted { dtype, shape, out, ..Wanted::default() };
        let transfers = transfers_of(slf)?;
        let begun = transfers.start_image_download(slf, &region, &wanted, progress, None)?;
        begun.get().result(slf.py(), None)
    }

    /// Makes all mip levels after the first one, and waits for that:
    /// `Allocator.transfers.generate_mipmaps(image, ...).result()`, where everything else is told.
    #[pyo3(signature = (filter = None, layout = None))]
    fn generate_mipmaps(
        slf: &Bound<'_, Self>,
        filter: Option<&Bound<'_, PyAny>>,
        layout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let begun = transfers_of(slf)?.generate_mipmaps(slf.py(), slf, filter, layout)?;
        begun.get().result(slf.py(), None).map(drop)
    }
}

fn transfers_of(image: &Bound<'_, Image>) -> PyResult<Transfers> {
    let resource = &image.as_super().get().resource;
    resource.check_live(image.py())?;
    Ok(Transfers::of(&resource.allocator))
}
