//! `VkBufferCreateInfo` and `VkImageCreateInfo`: from keywords, or from a struct of any binding.

use ash::vk;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyList, PyString, PyTuple};

use super::iterables::{self, MOST_FAMILIES};
use super::numbers::{
    BUFFER_CREATE_FLAGS, BUFFER_USAGE, FORMAT, FlagClass, IMAGE_CREATE_FLAGS, IMAGE_LAYOUT,
    IMAGE_TILING, IMAGE_TYPE, IMAGE_USAGE, SAMPLE_COUNT, SHARING_MODE, of_class, quantity,
    refuse_handle, unsigned_32, wide_of_class,
};
use crate::errors::invalid;
use crate::package::{IS_STRUCT_AT, STRUCT_ADDRESS};
use crate::process::forks::in_one_process;

/// A create info, and what its pointers point to.
pub struct Built<T> {
    /// The struct for the driver; its pointers are valid while `Built` lives.
    pub info: T,
    /// Target of `pQueueFamilyIndices`.
    _indices: Vec<u32>,
    /// Target of `pNext`, for a usage of more than 32 bits.
    _usage: Option<Box<vk::BufferUsageFlags2CreateInfoKHR<'static>>>,
    /// The caller's struct, which owns the targets of its pointers.
    _source: Option<Py<PyAny>>,
}

/// Keywords that buffers and images have in common.
#[derive(Default)]
pub struct CommonKeywords {
    create_flags: Option<u32>,
    sharing_mode: Option<u32>,
    indices: Vec<u32>,
    info: Option<Py<PyAny>>,
    /// The first keyword that repeats what a struct says.
    repeated: Option<String>,
}

impl CommonKeywords {
    /// Whether a struct was given by name.
    pub fn has_info(&self) -> bool {
        self.info.is_some()
    }

    /// Reads a keyword of a buffer; returns false if it is unknown.
    pub fn take(&mut self, key: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.take_with_flags(key, value, &BUFFER_CREATE_FLAGS)
    }

    /// Reads a keyword of a buffer or an image; `create_flags` must be of the given class. Returns false if
    /// it is unknown.
    fn take_with_flags(
        &mut self,
        key: &str,
        value: &Bound<'_, PyAny>,
        create_flags: &FlagClass,
    ) -> PyResult<bool> {
        match key {
            "create_flags" => self.create_flags = Some(of_class(value, key, create_flags)?),
            "sharing_mode" => self.sharing_mode = Some(of_class(value, key, &SHARING_MODE)?),
            "queue_family_indices" => {
                let index = |it: &_| unsigned_32(it, key);
                self.indices.extend(iterables::read(value, key, MOST_FAMILIES, index)?);
            }
            "info" if value.is_none() => {}
            "info" => self.info = Some(value.clone().unbind()),
            _ => return Ok(false),
        }
        if key != "info" {
            self.repeated = Some(key.into());
        }
        Ok(true)
    }

    /// Raises if a keyword repeats what a struct says.
    pub fn refuse_repeated(&self, py: Python<'_>) -> PyResult<()> {
        match &self.repeated {
            None => Ok(()),
            // Neither value silently wins.
            Some(key) => {
                Err(invalid(py, format!("{key}= stands beside a struct that says it too")))
            }
        }
    }

    fn sharing_mode(&self) -> vk::SharingMode {
        let concurrent = vk::SharingMode::CONCURRENT.as_raw();
        // Several families imply concurrent sharing, unless the caller says otherwise.
        let implied = if self.indices.len() > 1 { concurrent as u32 } else { 0 };
        vk::SharingMode::from_raw(self.sharing_mode.unwrap_or(implied) as i32)
    }
}

/// A Vulkan struct that starts with `sType`.
trait CreateInfo: Copy {
    const NAME: &'static str;
    const TYPE: vk::StructureType;
    fn set_type(&mut self);
}

impl CreateInfo for vk::BufferCreateInfo<'static> {
    const NAME: &'static str = "VkBufferCreateInfo";
    const TYPE: vk::StructureType = vk::StructureType::BUFFER_CREATE_INFO;
    fn set_type(&mut self) {
        self.s_type = Self::TYPE;
    }
}

impl CreateInfo for vk::ImageCreateInfo<'static> {
    const NAME: &'static str = "VkImageCreateInfo";
    const TYPE: vk::StructureType = vk::StructureType::IMAGE_CREATE_INFO;
    fn set_type(&mut self) {
        self.s_type = Self::TYPE;
    }
}

/// Copies the caller's struct, shallowly: the caller keeps what it points to.
fn from_struct<T: CreateInfo>(source: &Bound<'_, PyAny>, keyword: &str) -> PyResult<Built<T>> {
    let py = source.py();
    let what = (source, T::NAME, size_of::<T>(), keyword);
    let found = in_one_process(py, || STRUCT_ADDRESS.get(py)?.call1(what))??;
    let (address, verified): (usize, bool) = found.extract()?;
    if address == 0 || !address.is_multiple_of(align_of::<T>()) {
        return Err(invalid(py, format!("{address:#x} is not the address of a {}", T::NAME)));
    }
    // SAFETY: interop found a struct of this size there, or readable memory where the caller says that one
    // is. `sType` is the first member of every such struct.
    let s_type = unsafe { *(address as *const i32) };
    // Some bindings leave `sType` to the caller; then the struct's class name identifies it.
    let unset = verified && s_type == 0;
    if s_type != T::TYPE.as_raw() && !unset {
        return Err(invalid(
            py,
            format!("sType is {s_type}, not that of a {} ({})", T::NAME, T::TYPE.as_raw()),
        ));
    }
    // SAFETY: interop found a struct of this size, and `sType` identifies it.
    let mut info = unsafe { *(address as *const T) };
    info.set_type();
    let source = Some(source.clone().unbind());
    Ok(Built { info, _indices: Vec::new(), _usage: None, _source: source })
}

/// Returns the caller's struct and its name in errors, if it was passed by position or as `info=`. `name` is
/// the argument that is first otherwise.
fn given_struct<'py, T: CreateInfo>(
    common: &CommonKeywords,
    arguments: &[Option<&Bound<'py, PyAny>>],
    name: &str,
    py: Python<'py>,
) -> PyResult<Option<(Bound<'py, PyAny>, &'static str)>> {
    let first = arguments[0];
    let others = arguments[1..].iter().any(Option::is_some);
    let source = match (&common.info, first) {
        (None, None) => return Ok(None),
        // A text with further arguments is a format, or an invalid size.
        (None, Some(first)) if others && first.is_instance_of::<PyString>() => return Ok(None),
        (None, Some(first)) if is_integer(first) && (others || !is_address::<T>(first)?) => {
            return Ok(None);
        }
        // With further arguments, the first one is not a struct, whatever its type.
        (None, Some(first)) if others => {
            let kind = first.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "{name} must be an integer, not {kind} (a create-info struct stands alone, and \
                 allocation_info= is a keyword)"
            )));
        }
        (None, Some(first)) => (first.clone(), "the first argument"),
        (Some(info), None) if !others => (info.bind(py).clone(), "info"),
        (Some(_), _) => {
            return Err(invalid(py, "info= stands instead of the positional arguments"));
        }
    };
    common.refuse_repeated(py)?;
    Ok(Some(source))
}

/// Returns whether a single number is the address of such a struct, rather than a size or a format without a
/// usage.
fn is_address<T: CreateInfo>(number: &Bound<'_, PyAny>) -> PyResult<bool> {
    let what = (number, T::NAME, size_of::<T>(), T::TYPE.as_raw());
    IS_STRUCT_AT.get(number.py())?.call1(what)?.extract()
}

/// Returns whether a value is an integer; not for a `Buffer` and the like, which are integers only where a
/// handle is expected.
fn is_integer(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyInt>()
        || value.hasattr("__index__").unwrap_or(false) && refuse_handle(value, "").is_ok()
}

/// Builds a buffer of size and usage only; returns the usage as well if it has more than 32 bits.
#[inline(always)]
pub fn plain_buffer(
    size: &Bound<'_, PyAny>,
    usage: &Bound<'_, PyAny>,
) -> PyResult<(vk::BufferCreateInfo<'static>, Option<u64>)> {
    let bits = wide_of_class(usage, "buffer_usage", &BUFFER_USAGE)?;
    if bits == 0 {
        return Err(invalid(usage.py(), "buffer_usage is 0: say what the buffer is used for"));
    }
    let wide = (bits >> u32::BITS != 0).then_some(bits);
    let (size, usage) = (quantity(size, "size")?, vk::BufferUsageFlags::from_raw(bits as u32));
    Ok((vk::BufferCreateInfo { size, usage, ..Default::default() }, wide))
}

/// Builds the buffer of `create_buffer(size, buffer_usage)` or `create_buffer(struct)`.
pub fn buffer(
    py: Python<'_>,
    first: Option<&Bound<'_, PyAny>>,
    usage: Option<&Bound<'_, PyAny>>,
    common: CommonKeywords,
) -> PyResult<Built<vk::BufferCreateInfo<'static>>> {
    let is_number = |it: &Bound<'_, PyAny>| it.is_exact_instance_of::<PyInt>();
    // The usual case, in which there is no struct to look for.
    let is_plain = common.info.is_none() && first.is_some_and(is_number) && usage.is_some();
    if !is_plain {
        let given = given_struct::<vk::BufferCreateInfo>(&common, &[first, usage], "size", py)?;
        if let Some((source, keyword)) = given {
            return from_struct(&source, keyword);
        }
    }
    let (Some(size), Some(usage)) = (first, usage) else {
        return Err(PyTypeError::new_err(
            "a buffer needs size= and buffer_usage=, as in create_buffer(1024, \
             BufferUsage.VERTEX_BUFFER), or a VkBufferCreateInfo or its address",
        ));
    };
    let (mut info, wide) = plain_buffer(size, usage)?;
    let usage = wide.map(|bits| {
        let usage = vk::BufferUsageFlags2KHR::from_raw(bits);
        Box::new(vk::BufferUsageFlags2CreateInfoKHR::default().usage(usage))
    });
    if let Some(usage) = &usage {
        info.p_next = (&raw const **usage).cast();
    }
    info.flags = vk::BufferCreateFlags::from_raw(common.create_flags.unwrap_or(0));
    info.sharing_mode = common.sharing_mode();
    let indices = common.indices;
    info.queue_family_index_count = indices.len() as u32;
    info.p_queue_family_indices = indices.as_ptr();
    Ok(Built { info, _indices: indices, _usage: usage, _source: None })
}

/// Keywords of images only.
#[derive(Default)]
pub struct ImageKeywords {
    /// Keywords of images and buffers.
    pub common: CommonKeywords,
    image_type: Option<u32>,
    mip_levels: Option<u32>,
    array_layers: Option<u32>,
    samples: Option<u32>,
    tiling: Option<u32>,
    initial_layout: Option<u32>,
}

impl ImageKeywords {
    /// Returns a copy of the keywords for the next image of `create_images`, which has no `info=`.
    pub fn for_another(&self) -> Self {
        let common = CommonKeywords {
            create_flags: self.common.create_flags,
            sharing_mode: self.common.sharing_mode,
            indices: self.common.indices.clone(),
            info: None,
            repeated: self.common.repeated.clone(),
        };
        Self { common, ..*self }
    }

    /// Whether the number of mip levels was given.
    pub fn has_mip_levels(&self) -> bool {
        self.mip_levels.is_some()
    }

    /// Reads a keyword; returns false if it is unknown.
    pub fn take(&mut self, key: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (number, class) = match key {
            "image_type" => (&mut self.image_type, Some(&IMAGE_TYPE)),
            "mip_levels" => (&mut self.mip_levels, None),
            "array_layers" => (&mut self.array_layers, None),
            "samples" => (&mut self.samples, Some(&SAMPLE_COUNT)),
            "tiling" => (&mut self.tiling, Some(&IMAGE_TILING)),
            "initial_layout" => (&mut self.initial_layout, Some(&IMAGE_LAYOUT)),
            _ => return self.common.take_with_flags(key, value, &IMAGE_CREATE_FLAGS),
        };
        if !value.is_none() {
            *number = Some(match class {
                Some(class) => of_class(value, key, class)?,
                None => unsigned_32(value, key)?,
            });
            self.common.repeated = Some(key.into());
        }
        Ok(true)
    }
}

/// Reads a plane index, or several different ones.
pub fn planes(value: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    let mut planes = Vec::new();
    let mut add = |plane: &Bound<'_, PyAny>| {
        let plane = unsigned_32(plane, "plane")?;
        if plane >= MOST_PLANES || planes.contains(&plane) {
            let why = format!("plane is {plane}; planes are 0, 1 and 2, each once");
            return Err(invalid(value.py(), why));
        }
        planes.push(plane);
        Ok(())
    };
    match value.try_iter() {
        Ok(all) => all.into_iter().try_for_each(|plane| add(&plane?))?,
        Err(_) => add(value)?,
    }
    if planes.is_empty() {
        return Err(invalid(value.py(), "plane is empty: name one plane at least"));
    }
    Ok(planes)
}

/// Maximum number of planes of a format.
const MOST_PLANES: u32 = 3;

/// Reads width, height and depth of a `VkExtent3D` or `VkExtent2D` of any binding; `None` for any other
/// object.
fn extent_of_struct(value: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u32>>> {
    let mut sides = Vec::new();
    for name in ["width", "height", "depth"] {
        let side = in_one_process(value.py(), || value.getattr(name))?;
        match side {
            Ok(side) => sides.push(unsigned_32(&side, name)?),
            Err(_) if sides.len() < 2 => return Ok(None),
            Err(_) => {}
        }
    }
    Ok(Some(sides))
}

/// Reads width, height and depth, of which the last ones may be left out; returns the number of dimensions,
/// too.
pub fn extent(value: &Bound<'_, PyAny>) -> PyResult<(vk::Extent3D, usize)> {
    // Looking up a missing attribute would cost an exception.
    let is_plain =
        value.is_exact_instance_of::<PyTuple>() || value.is_exact_instance_of::<PyList>();
    let of_struct = if is_plain {
        None
    } else {
        refuse_handle(value, "extent")?;
        extent_of_struct(value)?
    };
    let sides = match of_struct {
        Some(sides) => sides,
        None if !is_plain && is_integer(value) => vec![unsigned_32(value, "extent")?],
        None => iterables::read(value, "extent", 3, |side| unsigned_32(side, "extent"))?,
    };
    let side = |index: usize| sides.get(index).copied().unwrap_or(1);
    if sides.is_empty() {
        return Err(invalid(value.py(), "extent is (width,), (width, height) or (w, h, depth)"));
    }
    Ok((vk::Extent3D { width: side(0), height: side(1), depth: side(2) }, sides.len()))
}

/// Builds the image of `create_image(format, extent, image_usage)` or `create_image(struct)`.
pub fn image(
    py: Python<'_>,
    arguments: [Option<&Bound<'_, PyAny>>; 3],
    keywords: ImageKeywords,
) -> PyResult<Built<vk::ImageCreateInfo<'static>>> {
    let given = given_struct::<vk::ImageCreateInfo>(&keywords.common, &arguments, "format", py)?;
    if let Some((source, keyword)) = given {
        return from_struct(&source, keyword);
    }
    let [Some(format), Some(extent_given), Some(usage)] = arguments else {
        return Err(PyTypeError::new_err(
            "an image needs its format, extent and an ImageUsage, as in \
             create_image(Format.R8G8B8A8_UNORM, (256, 256), ImageUsage.SAMPLED), or a \
             VkImageCreateInfo or its address",
        ));
    };
    let (extent, dimensions) = extent(extent_given)?;
    let usage = of_class(usage, "image_usage", &IMAGE_USAGE)?;
    if usage == 0 {
        return Err(invalid(py, "image_usage is 0: say what the image is used for"));
    }
    let format = of_class(format, "format", &FORMAT)?;
    if format == 0 {
        return Err(invalid(py, "format is UNDEFINED: only a VkImageCreateInfo can mean that"));
    }
    // `VkImageType` 0, 1 and 2 have one, two and three dimensions.
    let image_type = keywords.image_type.unwrap_or(dimensions as u32 - 1) as i32;
    let mut info = vk::ImageCreateInfo {
        flags: vk::ImageCreateFlags::from_raw(keywords.common.create_flags.unwrap_or(0)),
        image_type: vk::ImageType::from_raw(image_type),
        format: vk::Format::from_raw(format as i32),
        extent,
        mip_levels: keywords.mip_levels.unwrap_or(1),
        array_layers: keywords.array_layers.unwrap_or(1),
        samples: vk::SampleCountFlags::from_raw(keywords.samples.unwrap_or(1)),
        tiling: vk::ImageTiling::from_raw(keywords.tiling.unwrap_or(0) as i32),
        usage: vk::ImageUsageFlags::from_raw(usage),
        sharing_mode: keywords.common.sharing_mode(),
        initial_layout: vk::ImageLayout::from_raw(keywords.initial_layout.unwrap_or(0) as i32),
        ..Default::default()
    };
    let indices = keywords.common.indices;
    info.queue_family_index_count = indices.len() as u32;
    info.p_queue_family_indices = indices.as_ptr();
    Ok(Built { info, _indices: indices, _usage: None, _source: None })
}
