//! Commands of the simulated queue: what Vulkan forbids about them, and what they do with memory.

use std::collections::HashSet;

use ash::vk::{self, Handle};
use vkmem_engine::{Call, MemoryRange};

use crate::driver::image_layouts::{ImagePart, ImageParts};
use crate::driver::submission::{ImageUse, TransferCommand, layout_aspects};
use crate::driver::texel;
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::hazards::{Access, find_hazard};
use crate::simulated::resources::{Resource, Subresource};
use crate::simulated::rules::ImageShape;
use crate::simulated::transfer::LastCopy;
use crate::simulated::work::{Direction, Piece, Plan, Row, Work};

impl SimulatedDriver {
    /// Executes all commands; returns whether all of them are valid. Of those that are not, nothing is done.
    pub(super) fn execute_all(&self, commands: &[TransferCommand]) -> bool {
        let is_barrier = |command: &TransferCommand| matches!(command, TransferCommand::Barrier);
        // All groups, whatever one of them violates.
        let mut allowed = true;
        for group in commands.split(is_barrier) {
            allowed &= self.execute_group(group);
        }
        allowed
    }

    /// Executes commands that have no barrier between them.
    fn execute_group(&self, group: &[TransferCommand]) -> bool {
        let parts = ImageParts::of(group);
        let mut wrong = self.wrong_parts(&parts);
        let is_refused: Vec<bool> = wrong.iter().map(Option::is_some).collect();
        let mut violations: Vec<String> = wrong.iter_mut().filter_map(Option::take).collect();
        let mut users = vec![0; parts.parts.len()];
        let with_images = group.iter().filter(|it| it.has_images());
        for (image, _, layouts) in with_images.flat_map(TransferCommand::images).flatten() {
            if let Some(index) = parts.index_of(image, &layouts.range) {
                users[index] += 1;
            }
        }
        let mut is_used = vec![false; parts.parts.len()];
        let (mut works, mut accesses) = (Vec::new(), Vec::new());
        let mut last = LastCopy::default();
        for (at, command) in group.iter().enumerate() {
            if let TransferCommand::CopyBuffer { .. } = command {
                // Often many in a row, with no images.
                match self.plan_copy(command, &mut last) {
                    Err(what) => violations.push(what),
                    Ok((piece, [read, written])) => {
                        match works.last_mut() {
                            Some(Work::Copy(pieces)) => pieces.push(piece),
                            _ => works.push(Work::Copy(vec![piece])),
                        }
                        accesses.extend([(at, read), (at, written)]);
                    }
                }
                continue;
            }
            let used: Vec<usize> = command
                .images()
                .into_iter()
                .flatten()
                .filter_map(|(image, _, layouts)| parts.index_of(image, &layouts.range))
                .collect();
            // Told already.
            if used.iter().any(|index| is_refused[*index]) {
                continue;
            }
            let is_transition = matches!(command, TransferCommand::TransitionImage { .. });
            if is_transition && used.iter().any(|index| users[*index] > 1) {
                violations
                    .push("a transition of what another command uses, without a barrier".into());
                continue;
            }
            let plan = self
                .plan(command)
                .and_then(|plan| self.check_layouts(command, &parts).map(|()| plan));
            match plan {
                Err(what) => violations.push(what),
                Ok(plan) => {
                    used.iter().for_each(|index| is_used[*index] = true);
                    works.push(plan.work);
                    accesses.extend(plan.accesses.into_iter().map(|it| (at, it)));
                }
            }
        }
        violations.extend(find_hazard(&accesses));
        for (part, _) in parts.parts.iter().zip(&is_used).filter(|(_, used)| **used) {
            self.discard(part);
            self.set_layout(part);
        }
        works.iter().for_each(|work| self.perform(work));
        violations.iter().for_each(|what| self.device.report_violation(Call::Submit, what));
        violations.is_empty()
    }

    /// Returns what Vulkan forbids about the layout transition of each part.
    fn wrong_parts(&self, parts: &ImageParts) -> Vec<Option<String>> {
        let images = self.images.lock();
        let mut seen: HashSet<(vk::Image, Subresource)> = HashSet::new();
        let mut wrong_part = |part: &ImagePart| {
            let handle = part.image.as_raw();
            let named = |what: String| format!("image {handle:#x}: {what}");
            // The command that uses the image tells that it is not live.
            let found = images.get(handle).ok()?;
            let wrong = found
                .check_aspects(part.range.aspect_mask)
                .and_then(|()| found.check_usage(part.old))
                .and_then(|()| found.check_usage(part.after()));
            if let Err(what) = wrong {
                return Some(named(what));
            }
            for subresource in found.subresources(&part.range) {
                if !seen.insert((part.image, subresource)) {
                    let (_, level, layer) = subresource;
                    let what =
                        format!("two ranges that differ contain level {level} of layer {layer}");
                    return Some(named(what));
                }
                let layout = found.layout(subresource);
                // `UNDEFINED` is allowed for any current layout.
                if part.old != vk::ImageLayout::UNDEFINED && layout != part.old {
                    return Some(named(format!("is in {layout:?}, not in {:?}", part.old)));
                }
            }
            None
        };
        parts.parts.iter().map(&mut wrong_part).collect()
    }

    /// Checks that a command's layouts are those of its parts, and that these contain its texels.
    fn check_layouts(&self, command: &TransferCommand, parts: &ImageParts) -> Result<(), String> {
        let layers = match *command {
            TransferCommand::CopyBufferToImage { region, .. }
            | TransferCommand::CopyImageToBuffer { region, .. } => {
                [Some(region.image_subresource), None]
            }
            TransferCommand::CopyImage { region, .. } => {
                [Some(region.src_subresource), Some(region.dst_subresource)]
            }
            TransferCommand::BlitImage { region, .. } => {
                [Some(region.src_subresource), Some(region.dst_subresource)]
            }
            _ => [None, None],
        };
        for (of_use, layers) in command.images().into_iter().zip(layers) {
            let Some((image, of_use, layouts)) = of_use else { continue };
            if of_use != ImageUse::Read && !layouts.is_final() {
                return Err(format!("an image is not left in {:?}", layouts.new));
            }
            let handle = image.as_raw();
            let named = |what: String| format!("image {handle:#x}: {what}");
            if let Some(part) = parts.part(image, &layouts.range)
                && (part.old != layouts.old || (layouts.is_final() && part.after() != layouts.new))
            {
                let what = format!(
                    "goes from {:?} to {:?} in one command, from {:?} to {:?} in another one",
                    part.old,
                    part.after(),
                    layouts.old,
                    layouts.new
                );
                return Err(named(what));
            }
            let images = self.images.lock();
            let found = images.get(handle).map_err(named)?;
            let changed = found.subresources(&layouts.range);
            if changed.is_empty() {
                return Err(named("has none of the levels and layers of the range".into()));
            }
            let Some(layers) = layers else { continue };
            let plane = found.layout_plane(layers.aspect_mask);
            let level = layers.mip_level;
            let end = layers.base_array_layer.saturating_add(layers.layer_count);
            for layer in layers.base_array_layer..end.min(found.shape.array_layers) {
                if level < found.shape.mip_levels && !changed.contains(&(plane, level, layer)) {
                    let what = format!(
                        "level {level} of layer {layer} is put into no layout for the copy"
                    );
                    return Err(named(what));
                }
            }
        }
        Ok(())
    }

    fn set_layout(&self, part: &ImagePart) {
        if let Ok(found) = self.images.lock().get_mut(part.image.as_raw()) {
            for subresource in found.subresources(&part.range) {
                found.layouts.insert(subresource, part.after());
            }
        }
    }

    /// Returns what a command does. `Err` names the violation of Vulkan's rules.
    pub(super) fn plan(&self, command: &TransferCommand) -> Result<Plan, String> {
        self.check_queue()?;
        match *command {
            TransferCommand::FillBuffer { buffer, offset, size, value } => {
                if !offset.is_multiple_of(4) || !size.is_multiple_of(4) {
                    return Err(format!("a fill of {offset} + {size}, not multiples of 4"));
                }
                let usage = vk::BufferUsageFlags::TRANSFER_DST;
                let (memory, offset) = self.buffer_place(buffer, offset, size, usage)?;
                Ok(Plan {
                    work: Work::Fill { memory, offset, size, value },
                    accesses: vec![Access::bytes(memory, offset, size, true)],
                })
            }
            TransferCommand::CopyBuffer { .. } => {
                let (piece, accesses) = self.plan_copy(command, &mut LastCopy::default())?;
                Ok(Plan { work: Work::Copy(vec![piece]), accesses: accesses.into() })
            }
            TransferCommand::CopyBufferToImage { buffer, image, ref region, .. } => {
                self.plan_texels(buffer, image, region, Direction::ToImage)
            }
            TransferCommand::CopyImageToBuffer { image, buffer, ref region, .. } => {
                self.plan_texels(buffer, image, region, Direction::ToBuffer)
            }
            TransferCommand::CopyImage { source, target, ref region, .. } => {
                self.plan_image_copy(source, target, region)
            }
            TransferCommand::BlitImage { source, target, ref region, filter, .. } => {
                self.plan_blit(source, target, region, filter)
            }
            TransferCommand::ClearImage { image, value, ref layouts } => {
                self.plan_clear(image, value, &layouts.range)
            }
            TransferCommand::TransitionImage { .. } | TransferCommand::Barrier => {
                Ok(Plan { work: Work::Nothing, accesses: Vec::new() })
            }
        }
    }

    fn check_queue(&self) -> Result<(), String> {
        let flags = self.flags_of_queue();
        let any = vk::QueueFlags::GRAPHICS | vk::QueueFlags::COMPUTE | vk::QueueFlags::TRANSFER;
        let can_copy = flags.intersects(any);
        can_copy.then_some(()).ok_or_else(|| format!("a queue with {flags:?} cannot copy"))
    }

    /// Returns what a copy between buffers does. `Err` names the violation of Vulkan's rules.
    fn plan_copy(
        &self,
        command: &TransferCommand,
        last: &mut LastCopy,
    ) -> Result<(Piece, [Access; 2]), String> {
        let TransferCommand::CopyBuffer { source, source_offset, target, target_offset, size } =
            *command
        else {
            return Err("no copy between buffers".into());
        };
        self.check_queue()?;
        let [source, target] = last.places(self, source, target)?;
        let from = source.of_range(source_offset, size)?;
        let to = target.of_range(target_offset, size)?;
        let accesses =
            [Access::bytes(from.0, from.1, size, false), Access::bytes(to.0, to.1, size, true)];
        Ok((Piece { from, to, size }, accesses))
    }

    fn perform(&self, work: &Work) {
        match work {
            Work::Nothing => {}
            Work::Fill { memory, offset, size, value } => {
                self.device.device_fill(*memory, *offset, *size, &value.to_ne_bytes());
            }
            Work::Copy(pieces) => {
                let memory = |piece: &Piece| (piece.from.0, piece.to.0);
                for run in pieces.chunk_by(|one, other| memory(one) == memory(other)) {
                    let (source, target) = memory(&run[0]);
                    let regions = run.iter().map(|it| (it.from.1, it.to.1, it.size));
                    self.device.device_copy_regions(source, target, regions);
                }
            }
            Work::Clear(rows) => {
                for Row { range: MemoryRange { memory, offset, size }, texel } in rows {
                    self.device.device_fill(*memory, *offset, *size, texel);
                }
            }
            Work::Blit(blits) => blits.iter().for_each(|blit| blit.run(&self.device)),
        }
    }
}

impl Resource<ImageShape> {
    /// Returns the plane that an aspect's layout is tracked by: planes of a disjoint image have their own.
    pub(super) fn layout_plane(&self, aspect: vk::ImageAspectFlags) -> u32 {
        let disjoint = self.shape.flags.contains(vk::ImageCreateFlags::DISJOINT);
        if disjoint { texel::plane_of(aspect) as u32 } else { 0 }
    }

    /// Checks that the layouts of some aspects can be changed without those of the others.
    pub(super) fn check_aspects(&self, aspects: vk::ImageAspectFlags) -> Result<(), String> {
        let shape = &self.shape;
        let together = layout_aspects(shape.format);
        let disjoint = shape.flags.contains(vk::ImageCreateFlags::DISJOINT);
        let are_planes = disjoint && texel::aspects(shape.format).contains(aspects);
        let is_allowed = aspects == together || (are_planes && !aspects.is_empty());
        is_allowed.then_some(()).ok_or_else(|| {
            format!("the layout of {aspects:?} is changed alone, not of {together:?}")
        })
    }

    /// Checks that the usage of the image allows a layout.
    fn check_usage(&self, layout: vk::ImageLayout) -> Result<(), String> {
        use vk::ImageLayout as L;
        use vk::ImageUsageFlags as U;
        let needed = match layout {
            L::SHADER_READ_ONLY_OPTIMAL => U::SAMPLED | U::INPUT_ATTACHMENT,
            L::COLOR_ATTACHMENT_OPTIMAL => U::COLOR_ATTACHMENT,
            L::DEPTH_STENCIL_ATTACHMENT_OPTIMAL => U::DEPTH_STENCIL_ATTACHMENT,
            L::DEPTH_STENCIL_READ_ONLY_OPTIMAL => {
                U::DEPTH_STENCIL_ATTACHMENT | U::SAMPLED | U::INPUT_ATTACHMENT
            }
            L::TRANSFER_SRC_OPTIMAL => U::TRANSFER_SRC,
            L::TRANSFER_DST_OPTIMAL => U::TRANSFER_DST,
            _ => return Ok(()),
        };
        let usage = self.shape.usage;
        usage.intersects(needed).then_some(()).ok_or_else(|| {
            format!("cannot be in {layout:?}: it was created for {usage:?}, without {needed:?}")
        })
    }

    /// Returns the planes, mip levels and layers of a range.
    pub(super) fn subresources(&self, range: &vk::ImageSubresourceRange) -> Vec<Subresource> {
        let count = |count: u32, base: u32, whole: u32| {
            let rest = whole.saturating_sub(base);
            if count == vk::REMAINING_MIP_LEVELS { rest } else { count.min(rest) }
        };
        let shape = &self.shape;
        let planes: Vec<u32> = if shape.flags.contains(vk::ImageCreateFlags::DISJOINT) {
            let all = texel::aspects(shape.format);
            let named = range.aspect_mask;
            let chosen = if named == vk::ImageAspectFlags::COLOR { all } else { named & all };
            (0..3)
                .filter(|plane| chosen.contains(crate::driver::disjoint::aspect(*plane)))
                .collect()
        } else {
            vec![0]
        };
        let levels = count(range.level_count, range.base_mip_level, shape.mip_levels);
        let layers = count(range.layer_count, range.base_array_layer, shape.array_layers);
        let mut found = Vec::new();
        for plane in planes {
            for level in range.base_mip_level..range.base_mip_level + levels {
                let layers = range.base_array_layer..range.base_array_layer + layers;
                found.extend(layers.map(|layer| (plane, level, layer)));
            }
        }
        found
    }

    pub(super) fn layout(&self, subresource: Subresource) -> vk::ImageLayout {
        self.layouts.get(&subresource).copied().unwrap_or(self.shape.layout)
    }
}
