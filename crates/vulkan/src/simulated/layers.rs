//! Which layers of an image a command may use, and where they lie.

use ash::vk::{self, Handle};
use vkmem_engine::MemoryHandle;

use crate::simulated::driver::SimulatedDriver;
use crate::simulated::surface::{Part, Surface};

/// A usage of an image in a command, and the feature that its format needs for it.
#[derive(Clone, Copy)]
pub(super) struct Needs {
    pub(super) usage: vk::ImageUsageFlags,
    pub(super) feature: vk::FormatFeatureFlags,
}

impl SimulatedDriver {
    /// Returns the layers of an aspect of an image, as a part whose box is still empty. `Err` says what Vulkan
    /// forbids about them.
    pub(super) fn layers_of(
        &self,
        image: vk::Image,
        layers: vk::ImageSubresourceLayers,
        needs: Needs,
    ) -> Result<Part, String> {
        let handle = image.as_raw();
        let named = |what: String| format!("image {handle:#x}: {what}");
        let images = self.images.lock();
        let found = images.get(handle).map_err(named)?;
        let shape = &found.shape;
        if !shape.usage.contains(needs.usage) {
            return Err(named(format!("was created without {:?}", needs.usage)));
        }
        if layers.mip_level >= shape.mip_levels {
            return Err(named(format!("has no mip level {}", layers.mip_level)));
        }
        let (base, count) = (layers.base_array_layer, layers.layer_count);
        let end = base.checked_add(count);
        if count == 0 || end.is_none_or(|end| end > shape.array_layers) {
            let what = format!("layers {base} + {count} lie outside its {}", shape.array_layers);
            return Err(named(what));
        }
        let aspect = layers.aspect_mask;
        let bound = found.bound_at(aspect);
        // An unknown aspect is told before a missing plane.
        let nowhere = (MemoryHandle(0), 0);
        Surface::of(shape, bound.unwrap_or(nowhere), aspect, layers.mip_level).map_err(named)?;
        let place = self.live_memory(bound).map_err(named)?;
        let surface = Surface::of(shape, place, aspect, layers.mip_level).map_err(named)?;
        let features = self.features_of_shape(shape);
        if !features.contains(needs.feature) {
            let (format, missing) = (shape.format, needs.feature & !features);
            return Err(named(format!("{format:?} does not support {missing:?}")));
        }
        Ok(Part {
            image,
            aspect,
            level: layers.mip_level,
            surface,
            base_layer: base,
            layers: count,
            first: [0; 3],
            counts: [0; 3],
        })
    }
}
